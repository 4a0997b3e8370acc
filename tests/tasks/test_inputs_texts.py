"""Texts, corpora and parallel texts as users have them: what the account says of them, or what the refusal says."""

import gzip
import json
from collections.abc import Sequence

import pytest
from inputs import Case, Content, check, read, refused, saved

from tasks.language_model import LanguageModel
from tasks.sentiment import Sentiment
from tasks.translation import Translation

SENTIMENT, CORPORA, TRANSLATION = Sentiment(), LanguageModel(), Translation()
ROWS = [(("bad", "good")[i % 2], f"The plot was {('dull', 'warm')[i % 2]} {i}.") for i in range(40)]


def texts(head: str = "label,text", row: str = "{0},{1}", end: str = "\n", more: str = "") -> str:
    """40 rows: {0} is the class, {1} the text, {2} the class as a number."""
    rows = [row.format(label, text, i % 2) for i, (label, text) in enumerate(ROWS)]
    return end.join([head, *rows][not head :]) + end + more


def files(*parts: str, suffix: str = ".txt") -> dict[str, Content]:
    """A file of each text in a folder of its class, in each of the parts if there are any."""
    return {f"{part}{label}/{i}{suffix}": text for part in parts or [""] for i, (label, text) in enumerate(ROWS)}


def lines(label: str, part: str = "") -> str:
    return "".join(f"{part}{text}\n" for other, text in ROWS if other == label)


def jsonl(*fields: str) -> str:
    return "".join(json.dumps(dict(zip(fields, row))) + "\n" for row in ROWS)


def frame(kind: str, rows: Sequence[tuple[str, str]], *columns: str) -> bytes:
    pandas = pytest.importorskip("pandas")
    return saved(getattr(pandas.DataFrame(rows, columns=list(columns)), f"to_{kind}"))


OK = "27 train, 3 validation, 10 test examples"
BY_NUMBER = "--label-column 1 --text-column 2"
LABELLED = {
    "commas": read("a.csv", texts(), OK, "bad 13, good 14"),
    "tabs": read("a.tsv", texts("label\ttext", "{0}\t{1}"), OK),
    "upper-case suffix": read("A.CSV", texts(), OK),
    "a byte order mark": read("a.csv", "\ufeff" + texts(), OK),
    "UTF-16": read("a.csv", texts().encode("utf-16"), OK),
    "carriage returns alone": read("a.tsv", texts("label\ttext", "{0}\t{1}", "\r"), OK),
    "semicolons": read("a.csv", texts("label;text", "{0};{1}"), "a.csv: its fields are separated by ';'"),
    "a delimiter by option": read("a.csv", texts("label~text", "{0}~{1}"), OK, options="--delimiter ~"),
    "columns sentence and target": read(
        "a.csv", texts("target,sentence"), "column 'target' is the label", "column 'sentence' is the text"
    ),
    "columns review and sentiment": read("a.csv", texts("review,sentiment", '"{1}",{0}'), "'sentiment' is the label"),
    "columns by name": read("a.csv", texts("mood,said"), OK, options="--label-column mood --text-column said"),
    "unknown columns": refused("a.csv", texts("mood,said"), "names 'mood', 'said'", "--label-column chooses another"),
    "no heading": refused("a.csv", texts(""), "no column 'label'", "by their numbers, as in " + BY_NUMBER),
    "columns by number": read("a.csv", texts(""), OK, options=BY_NUMBER),
    "no suffix": read("SMSSpam", texts("", "{0}\t{1}"), OK, options=BY_NUMBER),
    "Sentiment140": read(
        "a.csv", texts("", '"{2}","1","x","{1}"'), "not used: '2', '3'", options="--label-column 1 --text-column 4"
    ),
    "JSON": read("a.jsonl", jsonl("label", "text"), OK),
    "JSON in JSON": read(
        "a.jsonl",
        "".join(json.dumps({"label": a, "data": {"text": b}}) + "\n" for a, b in ROWS),
        "column 'data.text' is the text",
    ),
    "fastText": read("a.txt", texts("", "__label__{0} {1}"), OK),
    "Excel": read("a.xlsx", lambda path: path.write_bytes(frame("excel", ROWS, "label", "text")), OK),
    "Parquet": read("a.parquet", lambda path: path.write_bytes(frame("parquet", ROWS, "label", "text")), OK),
    "a long text": read("a.csv", texts(more='good,"' + "fine " * 40_000 + '"\n'), "have more than --longest 256 words"),
    "pandas' quotation between tabs": read(
        "a.tsv", texts("label\ttext", '{0}\t"He said ""{1}"""'), "as in a .csv file"
    ),
    "lines in quotation between tabs": read("a.tsv", texts("label\ttext", '{0}\t"{1}\nMore."'), "as in a .csv file"),
    "spaces after commas": read("a.csv", texts("label, text", '{0}, "{1}, really"'), "spaces after delimiters"),
    "backslashes": read("a.csv", texts(row='{0},"He said \\"{1}\\", twice"'), "a quotation mark after a backslash"),
    "a comma in a text": refused("a.csv", texts(more="good,a,b\n"), "line 42 has 3 fields", "needs quotation marks"),
    "a pandas index": read("a.csv", texts(",label,text", "7,{0},{1}"), "not used: 'column 1'"),
    "an empty file": refused("a.csv", "", "is empty"),
    "spellings of a class": read(
        "a.csv", texts(more="Good,Fine.\n"), "1 rows with the class 'Good'", "--keep-spellings"
    ),
    "spellings that are kept": read(
        "a.csv", texts(more="Good,a\n" * 4), "Good 3, bad 13, good 14", options="--keep-spellings"
    ),
    "a class of one text": refused("a.csv", texts(more="odd,Fine.\n"), "class 'odd' has only one training example"),
    "no label": refused("a.csv", texts(more=",Fine.\n"), "line 42 has no label"),
    "latin-1": refused("a.csv", texts(more="good,caf\u00e9\n").encode("latin-1"), "as in --encoding latin-1"),
    "Chinese": refused("a.csv", texts(more="good,这部电影很好看。\n").encode("gb18030"), "gb18030 or big5 (Chinese)"),
    "words without spaces": read(
        "a.csv",
        "label,text\n" + "".join(f"{label},{chr(0x4E00 + i) * 9}\n" for i, (label, _) in enumerate(ROWS)),
        "100% of the words of the test texts are unknown; they are judged by their character n-grams",
    ),
    "train.csv and test.csv": read("a", {"train.csv": texts(), "test.csv": texts()}, "40 test", "40 of 40 test texts"),
    "a test file without labels": read(
        "glue",
        {"train.tsv": texts("label\tsentence", "{0}\t{1}"), "test.tsv": "index\tsentence\n1\ta\n"},
        "test.tsv is not read: it has no column of classes",
    ),
    "Hugging Face's folder": read("a", {"data/train-0-of-1.csv": texts(), "data/test-0-of-1.csv": texts()}, "40 test"),
    "class folders": read("a", files(), OK),
    "aclImdb": read(
        "aclImdb",
        files("train/", "test/") | {"train/unsup/1.txt": "a", "train/unsup/2.txt": "b", "train/urls_pos.txt": "c"},
        "40 test",
        "2 texts in folders unsup left out",
        "not used: 1 text outside the classes' folders",
    ),
    "20 newsgroups": read(
        "20news",
        files("20news-bydate-train/", "20news-bydate-test/", suffix=""),
        "40 test",
        "no file of 20news has the suffix .txt",
        "20news-bydate-train for train",
    ),
    "polarity": read("rt", {"rt.pos": lines("good"), "rt.neg": lines("bad")}, OK),
    "polarity in parts": read(
        "a",
        {
            f"{part}.{end}": lines(label, part)
            for part in ("train", "test")
            for end, label in (("pos", "good"), ("neg", "bad"))
        },
        "36 train, 4 validation, 40 test",
    ),
    "polarity of one kind": refused("a", {"x.pos": lines("good")}, "has x.pos but no file *.neg"),
    "another format": refused("a.md", "good", "is not a set of texts; known ones are lexicon"),
}

TEXT = "The cat sat on a mat and the dog ran to see it.\n" * 60
CORPUS = {
    "a text": read("a.txt", TEXT, "2,448 train, 144 validation, 288 test characters"),
    "gzip": read("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0), "2,448 train"),
    "carriage returns": read("a.txt", TEXT.replace("\n", "\r\n"), "2,448 train"),
    "no suffix": read("enwik8", TEXT, "2,448 train"),
    "UTF-16": read("a.txt", TEXT.encode("utf-16"), "2,448 train"),
    "UTF-16 without a mark": read("a.txt", TEXT.encode("utf-16-le"), "is read as UTF-16-LE: every second byte is 0"),
    "cp1252": refused("a.txt", (TEXT + "It\u2019s").encode("cp1252"), "as in --encoding cp1252"),
    "Cyrillic": refused("a.txt", ("Съешь ещё этих булок. " * 99).encode("koi8-r"), "cp1251 or koi8-r (Cyrillic)"),
    "NUL characters": read("a.txt", TEXT.replace("cat", "c\0t"), "has 60 NUL characters (the first: line 1)"),
    "characters that training lacks": read(
        "a.txt", "".join(chr(0x4E00 + i // 2) for i in range(3000)), "300 of 300 test characters (100.0%) are unknown"
    ),
    "a folder of parts": read(
        "wiki", {f"wiki.{part}.tokens": TEXT for part in ("train", "valid", "test")}, "2,880 train, 2,880 validation"
    ),
    "a folder": read(
        "a", {"1.txt": TEXT, "2.txt": TEXT, "a.png": b"x"}, "2 files are put together", "1 files of a are"
    ),
    "JSON": read("a.jsonl", jsonl("label", "text") * 4, "of 160 JSON objects the text is read"),
    "subtitles": read("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n" + TEXT, "is read as plain text, with its marks"),
    "texts in folders": read("a", {"x/1.txt": TEXT, "y/2.txt": TEXT}, "2 files are put together"),
    "a Word document": refused("a.docx", b"PK\3\4" + b"x" * 99, "is a zip archive or an Office document"),
    "a short text": refused("a.txt", TEXT[:600], "the validation part of", "choose a smaller --context"),
    "no text": refused("a.txt", " \n" * 99, "has no text in it"),
}

PAIRS = [(f"The old dog sees {i} cats.", f"Der alte Hund sieht {i} Katzen.") for i in range(40)]


def sides(*names: str, pairs: Sequence[tuple[str, str]] = PAIRS) -> dict[str, Content]:
    """The sentences of English and of German in files with these names."""
    return {name: "".join(f"{side}\n" for side in column) for name, column in zip(names, zip(*pairs))}


def pairs(row: str, head: str = "") -> str:
    return head + "".join(row.format(*pair) for pair in PAIRS)


PARTS = "32 train, 4 validation, 4 test pairs"
PARALLEL = {
    "two files": read("a", sides("train.en", "train.de"), PARTS),
    "other suffixes": read("a", sides("train.EN", "train.DE"), PARTS),
    "a word more": read("a", sides("train-clean.en", "train-clean.de"), PARTS),
    "several corpora": read(
        "a",
        sides("train_a.en", "train_a.de") | sides("train_b.en", "train_b.de", pairs=[("Two more.", "Noch zwei.")] * 2),
        "34 train",
        "the pairs of 2 files are put together: train_a.en, train_b.en",
    ),
    "several test sets": read(
        "a",
        sides("train.en", "train.de") | sides("test_2016.en", "test_2016.de") | sides("test_2017.en", "test_2017.de"),
        "2 files of",
        "are not used: test_2017.de, test_2017.en",
        "40 of 40 test pairs are among the training",
    ),
    "OPUS": read(
        "a", sides("Books.de-en.en", "Books.de-en.de") | {"README": "x"}, "taken for the training part", "README"
    ),
    "OpenNMT": read("a", sides("src-train.txt", "tgt-train.txt"), "src-train.txt is taken for en (--source)"),
    "source and target": read("a", sides("source.txt", "target.txt"), "source.txt is taken for en (--source)"),
    "languages as last words": read("a", sides("train_en.txt", "train_de.txt"), PARTS),
    "folders of languages": read("a", sides("en/train.txt", "de/train.txt"), PARTS),
    "folders of parts": read("a", sides("train/a.en", "train/a.de") | sides("test/a.en", "test/a.de"), "40 test pairs"),
    "blank lines at one end": read(
        "a",
        sides("train.en", "train.de") | {"train.de": "".join(f"{b}\n" for _, b in PAIRS) + "\n\n"},
        "2 blank lines at the end of train.de left out",
    ),
    "a line less": refused(
        "a", sides("train.en", "train.de") | {"train.de": "a\n"}, "train.en has 40 lines and", "train.de has 1"
    ),
    "the same on both sides": read(
        "a",
        sides("train.en", "train.de", pairs=[(a, a) for a, _ in PAIRS]),
        "32 of 32 training pairs have the same text",
    ),
    "one pair again and again": read(
        "a", sides("train.en", "train.de", pairs=PAIRS[:1] * 40), "4 of 4 test pairs are among"
    ),
    "long pairs": refused(
        "a", sides("train.en", "train.de", pairs=[("ab " * 99, "cd")] * 40), "longer than --longest 64"
    ),
    "other languages": refused(
        "a", sides("train.fr", "train.de"), "it has training files in de, fr. Name two", "--source"
    ),
    "a table of tabs": read("a.tsv", pairs("{0}\t{1}\tCC-BY\n"), "column 1 is taken for en", "such as 'CC-BY'"),
    "Tatoeba's sentences": read(
        "a.tsv", pairs("7\t{0}\t9\t{1}\n"), "column 2 is taken for en, column 4 for de", "not used, such as '7'"
    ),
    "a table with a heading": read("a.csv", pairs('"{0}","{1}"\n', "en,de\n"), PARTS),
    "a table of other names": refused(
        "a.csv", pairs('"{0}","{1}"\n', "English,German\n"), "--source chooses another column"
    ),
    "columns by name": read(
        "a.csv",
        pairs('"{0}","{1}"\n', "English words,German\n"),
        PARTS,
        options="--source 'English words' --target German",
    ),
    "Hugging Face's JSON": read(
        "a.jsonl", "".join(json.dumps({"translation": {"en": a, "de": b}}) + "\n" for a, b in PAIRS), PARTS
    ),
    "Parquet": read("a.parquet", lambda path: path.write_bytes(frame("parquet", PAIRS, "en", "de")), PARTS),
    "one file": refused("train.en", "a\n", "is one file, and no table with a pair in each line"),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labelled_texts_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = LABELLED[kind]
    check(SENTIMENT, case, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("kind", CORPUS)
def test_corpora_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = CORPUS[kind]
    check(CORPORA, case, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("kind", PARALLEL)
def test_parallel_texts_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = PARALLEL[kind]
    check(TRANSLATION, case, tmp_path, capsys, monkeypatch)
