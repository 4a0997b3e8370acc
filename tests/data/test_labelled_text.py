"""Labelled texts: what comes out of files and out of the lexicon, and what is said about those that are wrong."""

import gzip
import json
import os
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from pipeline.data.augmentation import drop_words
from pipeline.data.batches import evaluation_batches
from pipeline.data.labelled_text import TextOptions, load, read_tables
from pipeline.data.synthetic import lexicon
from pipeline.data.vocabulary import UNKNOWN_WORD
from pipeline.errors import UserError

DATA = Path(os.environ.get("PIPELINE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CLASSES = ("bad", "good")
NUMBERS = ("one", "two", "three")


def read(path: str, words: int = 100, folds: int = 0, fold: int = 1, **options):
    return load(path, seed=0, words=words, longest=20, folds=folds, fold=fold, options=TextOptions(**options))


def pairs(data) -> set[tuple[str, str]]:
    """The texts of all splits with the names of their classes."""
    splits = (data.train, data.validation, data.test)
    return {(text, data.classes[label]) for split in splits for text, label in zip(split.texts, split.labels)}


def examples(count: int) -> list[tuple[str, str]]:
    return [(f'text {i} is "{CLASSES[i % 2]}"', CLASSES[i % 2]) for i in range(count)]


def ngrams_of(text: str) -> set[str]:
    return {f"<{word}>"[i : i + n] for word in text.split() for n in (3, 4, 5) for i in range(len(word) + 3 - n)}


def tsv(rows: list[tuple[str, str]]) -> str:
    return "label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in rows)


@pytest.fixture
def file(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_every_kind_of_file_holds_the_same(file, tmp_path):
    rows = examples(20)
    quoted = "".join(f'{i},"{text.replace(chr(34), chr(34) * 2)}",{label}\r\n' for i, (text, label) in enumerate(rows))
    for i, (text, label) in enumerate(rows):
        file(f"folders/{label}/{i}.txt", text + "\n")
    for ending, label in (("neg", "bad"), ("pos", "good")):
        file(f"lines/polarity.{ending}", "\n".join(text for text, element in rows if element == label) + "\n")
    result = [
        read(path)
        for path in (
            file("table.tsv", tsv(rows)),
            file("table.csv", "\ufeffnumber,Text,Label\r\n" + quoted),
            str(tmp_path / "folders"),
            str(tmp_path / "lines"),
        )
    ]
    assert [data.classes for data in result] == [CLASSES] * 3 + [("negative", "positive")]
    assert [pairs(data) for data in result[:3]] == [set(rows)] * 3
    assert {text for text, _ in pairs(result[3])} == {text for text, _ in rows}
    for data in result:
        assert [len(split) for split in (data.train, data.validation, data.test)] == [13, 2, 5]
        assert data.notes == (("table.csv: columns that are not used: 'number'",) if "table.csv" in data.name else ())


def table(separator: str, heading: tuple[str, str] = ("label", "text"), quote: str = "") -> str:
    """Twenty different rows, of two classes."""
    rows = [heading, *((CLASSES[i % 2], f"{quote}text {NUMBERS[i % 3]} {i}{quote}") for i in range(20))]
    return "".join(separator.join(row) + "\n" for row in rows)


ROWS = [(f"text {NUMBERS[i % 3]} {i}", CLASSES[i % 2]) for i in range(20)]
GUESSES = (
    "a.csv: column '{}' is the label (--label-column names another)",
    "a.csv: column '{}' is the text (--text-column names another)",
)
QUOTED_TSV = "label\ttext\n" + "".join(f'{label}\t"He said ""{text}"""\n' for text, label in ROWS)
LINES_TSV = "label\ttext\n" + "".join(f'{label}\t"{text}\nmore\tand more"\n' for text, label in ROWS)
JSON_LINES = [json.dumps({"review": text, "stars": 1 + 4 * (label == "good"), "id": 3}) for text, label in ROWS]
UTF16 = "a.csv is read as UTF-16-LE: every second byte is 0 (--encoding names another)"
COPIES = "20 of 20 test texts are among the training or validation texts, too (the first: number 1)"
UNSUP = ["urls_pos.txt", "README", "4 texts in folders unsup left out: as in aclImdb, they have no label"]
QUOTES = ["a.tsv: fields in quotation marks are read as in a .csv file"]


@pytest.mark.parametrize(
    "name, content, options, notes",
    [
        ("a.csv", table(";"), {}, ["a.csv: its fields are separated by ';'"]),
        ("a.csv", table("\t"), {}, [r"a.csv: its fields are separated by '\t'"]),
        ("a.tsv", table(","), {}, ["a.tsv: its fields are separated by ','"]),
        ("A.CSV", table(","), {}, []),
        ("a.Tsv", table("\t"), {}, []),
        ("a.csv.gz", gzip.compress(table(",").encode(), mtime=0), {}, []),
        ("a.txt", table("\t"), {}, []),
        ("a.csv", table(",").replace("\n", "\r"), {}, []),
        ("a.tsv", table("\t").replace("\n", "\r\n"), {}, []),
        ("a.csv", table(",").encode("utf-16"), {}, []),
        ("a.csv", table(",").encode("utf-16-le"), {}, [UTF16]),
        ("a.csv", table(",", ("LABEL", "Sentence")), {}, [GUESSES[1].format("Sentence")]),
        (
            "a.csv",
            table(",", ("sentiment", "review")),
            {},
            [GUESSES[0].format("sentiment"), GUESSES[1].format("review")],
        ),
        ("a.csv", table(",", ("polarity", "tweet")), {}, [GUESSES[0].format("polarity"), GUESSES[1].format("tweet")]),
        ("a.csv", table(",", ("mood", "said")), {"text_column": "Said", "label_column": "mood"}, []),
        (
            "a.csv",
            table(",", ("label", "text,review"), quote="").replace("d,text", "d,x,text"),
            {"text_column": "review"},
            ["a.csv: columns that are not used: 'text'"],
        ),
        ("a.tsv", table("\t", quote='"'), {}, []),
        (
            "a.tsv",
            table("\t").replace("good\ttext two 1\n", "Good \ttext two 1\n"),
            {},
            ["1 rows with the class 'Good ', the first in line 3 of {}, count as 'good'"],
        ),
        ("a.ft.txt", "".join(f"__label__{label} {text}\n" for text, label in ROWS), {}, []),
        ("a.csv", table(",")[11:], {"label_column": "1", "text_column": "2"}, []),
        (
            "a",
            "".join(f"7\t{text}\t{label}\n" for text, label in ROWS),
            {"label_column": "3", "text_column": "2"},
            ["a: columns that are not used: '1'"],
        ),
        ("a.csv", "sep=;\r\n" + table(";"), {}, []),
        ("a.csv", table(","), {"delimiter": "comma"}, []),
        ("a.csv", table(", ", quote='"'), {}, ["a.csv: spaces after delimiters are left out"]),
        (
            "a.jsonl",
            "".join(json.dumps({"data": {"text": text}, "label": label}) + "\n" for text, label in ROWS),
            {},
            ["a.jsonl: column 'data.text' is the text"],
        ),
    ],
)
def test_tables_of_many_kinds(file, name, content, options, notes):
    data = read(file(name, content), **options)
    assert {(text.strip('"'), label) for text, label in pairs(data)} == set(ROWS)
    assert len(data.notes) == len(notes)
    assert all(note.startswith(beginning.format(data.name)) for note, beginning in zip(data.notes, notes))


@pytest.mark.parametrize(
    "name, content, expected, notes",
    [
        ("a.tsv", QUOTED_TSV, {(f'He said "{text}"', label) for text, label in ROWS}, QUOTES),
        ("a.tsv", LINES_TSV, {(f"{text}\nmore\tand more", label) for text, label in ROWS}, QUOTES),
        ("a.tsv", table("\t").replace("text", '"a" text')[8:], {(f'"a" {text}', label) for text, label in ROWS}, []),
        (
            "a.csv",
            table(",", quote='"').replace("text ", "a,\n"),
            {(text.replace("text ", "a,\n"), label) for text, label in ROWS},
            [],
        ),
        ("a.jsonl", "\n".join(JSON_LINES), None, 3),
        ("a.json", "[\n" + ",\n".join(JSON_LINES) + "]", None, 3),
        ("a.NDJSON", "\n\n".join(JSON_LINES), None, 3),
    ],
)
def test_quotation_and_json(file, name, content, expected, notes):
    if name == "a.tsv" and not notes:
        content = "label\ttext\n" + "".join(f'{label}\t"a" {text}\n' for text, label in ROWS)
    data = read(file(name, content))
    assert pairs(data) == (expected or {(text, "5" if label == "good" else "1") for text, label in ROWS})
    assert list(data.notes) == notes if isinstance(notes, list) else len(data.notes) == notes


@pytest.mark.parametrize(
    "files, sizes, notes",
    [
        ({"train.csv": table(","), "test.csv": table(",").replace("text ", "a ")}, (18, 2, 20), []),
        (
            {
                "train.csv": table(","),
                "val.csv": table(",").replace("text ", "b "),
                "test.TSV": table("\t").replace("text ", "a "),
                "x.csv": "a",
            },
            (20, 20, 20),
            ["1 files of {} are not used: x.csv"],
        ),
        ({"train.csv": table(","), "test.csv": table(",")}, (18, 2, 20), [COPIES]),
        (
            {"train.pos": "a\nb\nc\nd\n", "train.neg": "e\nf\ng\nh\n", "test.pos": "i\nj\nl\n", "test.neg": "k\nm\n"},
            (6, 2, 5),
            None,
        ),
        ({"a.pos": "a\nb\nc\nd\n", "a.neg": "e\nf\ng\nh\n", "b.neg": "i\n"}, (5, 2, 2), None),
        (
            {"train.csv": table(","), "test.csv": "index,text\n0,text one 0\n"},
            (13, 2, 5),
            ["test.csv is not read: it has no column of classes"],
        ),
        (
            {
                f"{of}/00{i}.7c53{i}": f"{of} {i}"
                for of in ("train/ham", "train/spam", "test/ham", "test/spam")
                for i in range(9)
            },
            (16, 2, 18),
            ["has the suffix .txt: those with any suffix or none are read as texts"],
        ),
        (
            {f"{of}/{i}.txt": f"{of} {i}" for of in ("train/a", "train/b", "test/a", "test/b") for i in range(9)}
            | {f"train/unsup/{i}.txt": "a" for i in range(4)}
            | {"train/urls_pos.txt": "a", "README": "b"},
            (16, 2, 18),
            UNSUP,
        ),
    ],
)
def test_folders_of_many_kinds(file, tmp_path, files, sizes, notes):
    for name, content in files.items():
        file(name, content)
    data = read(str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert len(data.classes) == 2
    others = [note for note in data.notes if "words of the test texts" not in note]
    if "b.neg" in files:
        assert others[0] == "the lines of all files are put together: a.neg, b.neg, a.pos"
    elif notes is not None:
        assert len(others) == len(notes) and all(note.format(tmp_path) in other for note, other in zip(notes, others))


def test_spellings_are_kept_by_an_option(file):
    content = "label,text\n" + "".join(f"{('good', 'Good', 'bad')[i % 3]},text {i}\n" for i in range(30))
    assert read(file("a.csv", content), keep_spellings=True).classes == ("Good", "bad", "good")


def test_words_that_no_training_text_has_are_counted(file):
    data = read(file("a.csv", "label,text\n" + "".join(f"{CLASSES[i % 2]},{chr(0x4E00 + i) * 9}\n" for i in range(40))))
    assert data.notes[-1].startswith("100% of the words of the test texts are unknown; they are judged by their")


def test_lines_end_at_line_feeds_alone(file, tmp_path):
    file("a.neg", "one\x85half\x0bthe other\n" * 9 + "last\n")
    file("a.pos", "one\n" * 10)
    data = read(str(tmp_path))
    assert sum(len(split) for split in (data.train, data.validation, data.test)) == 20


def test_splits_of_ones_own_are_kept(file, tmp_path):
    for part in ("train", "test"):
        for i, (text, label) in enumerate(examples(12)):
            file(f"{part}/{label}/{i}.txt", f"{part} {text}")
    data = read(str(tmp_path))
    assert all(text.startswith("test") for text in data.test.texts) and len(data.test) == 12
    assert all(text.startswith("train") for text in [*data.train.texts, *data.validation.texts])


def test_batches_hold_texts_of_about_one_length(file):
    rows = [("long " * (1 + i % 15), CLASSES[i % 2]) for i in range(60)]
    train = read(file("table.tsv", tsv(rows))).train
    inputs, targets = zip(*evaluation_batches(train, 8))
    assert [bags.shape[1] for bags in inputs] == sorted(bags.shape[1] for bags in inputs)
    assert {8, 16} <= {bags.shape[1] for bags in inputs}
    order = np.argsort(train.lengths, kind="stable")
    np.testing.assert_array_equal(
        np.concatenate([element.values for element in targets])[: len(train)], train.labels[order]
    )
    assert (
        sum(bags[..., 0].astype(bool).sum() for bags in inputs[:-1])
        == train.lengths[order][: 8 * (len(inputs) - 1)].sum()
    )


def test_words_are_learnt_from_the_training_split_alone(file):
    data = read(file("table.tsv", tsv([(f"both word{i}", CLASSES[i % 2]) for i in range(40)])))
    (train, _), (test, _) = (split.take(np.arange(len(split))) for split in (data.train, data.test))
    assert not (train[..., 0] == UNKNOWN_WORD).any() and data.train.unknown == 0
    both = data.vocabulary.words.id_of("both")
    assert (test[:, :2, 0] == [both, UNKNOWN_WORD]).all() and not test[:, 2:].any() and data.test.unknown == 0.5
    assert test[:, 1, 1:].any(), "their n-grams are known"
    assert set(data.vocabulary.ngrams) <= {part for text in data.train.texts for part in ngrams_of(text)}


def test_what_is_left_out_is_said(file):
    rows = [*examples(20), ("", "good"), ("  ", "bad")]
    path = file("table.tsv", tsv(rows) + "\n\n" + "good\t" + "word " * 30 + "\n" + "bad\t" + "word " * 30 + "\n")
    data = read(path)
    assert data.notes[0] == f"4 lines of {path} left out: they are empty"
    assert "have more than --longest 20 words" in " ".join(data.notes)
    assert max(split.lengths.max() for split in (data.train, data.validation, data.test)) == 20
    few = read(path, words=10)
    assert len(few.vocabulary.words) == 10
    assert "more than --words 10 different words" in few.notes[-1]


def test_folds_test_every_example_once(file):
    path = file("table.tsv", tsv(examples(23)))
    folds = [read(path, folds=4, fold=fold) for fold in range(1, 5)]
    tested = [text for data in folds for text in data.test.texts]
    assert sorted(tested) == sorted(text for text, _ in examples(23))
    for data in folds:
        assert pairs(data) == set(examples(23))
        assert len(data.train) + len(data.validation) + len(data.test) == 23
        assert abs(data.test.labels.mean() - 0.5) < 0.15
    other = load(path, seed=1, words=100, longest=20, folds=4, fold=2)
    assert set(other.test.texts) == set(folds[1].test.texts)
    assert set(other.validation.texts) != set(folds[1].validation.texts)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("gone.tsv", None, r"gone.tsv is neither a known set of texts.*lexicon, movie-review"),
        ("a.csv", b"label,text\n" + b"a,b\n" * 9, "single class"),
        ("a.jsonl", b'{"label": 1}\n', "line 1 must be an object .* and has no 'text': it has 'label'; --text-column"),
        ("a.jsonl", b"[1]\n", "line 1 must be an object"),
        ("a.ft.txt", b"__label__a __label__b text\n", "line 1 must have one __label__NAME"),
        ("a.csv", b"label,text\ngood\n", "line 2 has 1 fields, and the first line 2"),
        ("a.md", b"good", r"a.md is not a set of texts"),
        ("a.tsv", b"", "a.tsv is empty"),
        ("a.csv", b" \n", "a.csv is empty"),
        (
            "a.csv",
            b"good,fine\n",
            "no column 'label'.*in a file without such a line by their numbers, as in --label-column 1 --text-column 2",
        ),
        (
            "a.csv",
            b"label,remark\ngood,fine\n",
            r"no column 'text': its first line names 'label', 'remark'.*--text-column",
        ),
        ("a.tsv", b"label\ttext\n", "no train texts: it is empty"),
        ("a.tsv", b"label\ttext\n\tfine\n", "line 2 has no label"),
        ("a.tsv", b"label\ttext\ngood\tvery\tfine\n", "line 2 has 3 fields, and the first line 2"),
        ("a.csv", b'label,text\ngood,"fine\n', "line 2 cannot be read"),
        ("a.tsv", b"label\ttext\ngood\tna\xefve\n", r"not UTF-8: line 2 has the byte 0xef at position 18; .*latin-1"),
        ("a.tsv", tsv([(f"{i}", "good") for i in range(9)]).encode(), "single class, good"),
        ("a.tsv", tsv([*examples(9), ("odd", "so so")]).encode(), "class 'so so' has only one training example"),
    ],
)
def test_what_is_wrong_with_a_file(file, tmp_path, name, content, message):
    path = str(tmp_path / name) if content is None else file(name, content)
    with pytest.raises(UserError, match=message):
        read(path)


def test_what_is_wrong_with_a_folder(file, tmp_path):
    with pytest.raises(UserError, match=r"has no folders in it, and no files \*.pos and \*.neg"):
        read(str(tmp_path))
    file("good/a.txt", "fine")
    (tmp_path / "bad").mkdir()
    with pytest.raises(UserError, match=r"bad holds no .txt files"):
        read(str(tmp_path))
    file("a.pos", "fine\n")
    with pytest.raises(UserError, match=r"has a.pos but no file \*.neg"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    "files, options, message",
    [
        (
            {"train.csv": table(","), "test.csv": "label,text\nodd,a\n"},
            {},
            "test.csv has the label 'odd', which no train",
        ),
        ({"train.csv": table(","), "train.tsv": "x"}, {}, "has train.csv and train.tsv, both of the train part"),
        ({"train.pos": "a\n", "train.neg": "a\n", "test.neg": "a\n"}, {}, "the test part of .* has one of"),
        ({"train.csv": table(",")}, {"text_column": "x"}, "--text-column is 'x', but .* names 'label', 'text'"),
    ],
)
def test_what_is_wrong_with_parts(file, tmp_path, files, options, message):
    for name, content in files.items():
        file(name, content)
    with pytest.raises(UserError, match=message):
        read(str(tmp_path), **options)


def test_what_is_wrong_with_an_encoding_or_folds(file):
    path = file("a.tsv", tsv(examples(8)).encode() + b"good\tna\xefve\n")
    assert "naïve" in {text for text, _ in pairs(read(path, encoding="latin-1"))}
    with pytest.raises(UserError, match="--encoding klingon: there is no such encoding"):
        read(path, encoding="klingon")
    with pytest.raises(UserError, match="has 4 examples of class 'bad', which are too few for 5 folds"):
        read(path, encoding="latin-1", folds=5)


def test_fields_of_any_length_are_read_and_not_repeated(file):
    long = "word " * 40_000
    rows = [*examples(16), (long, "good"), (long, "bad")]
    quoted = "label,text\n" + "".join(f'{label},"{text.replace(chr(34), chr(34) * 2)}"\n' for text, label in rows)
    assert pairs(read(file("a.csv", quoted))) == {(text.strip(), label) for text, label in rows}
    with pytest.raises(UserError, match=r"no column 'label': its first line names 'word .*\[...\]") as caught:
        read(file("b.tsv", long + "\ttext\n"))
    assert len(str(caught.value)) < 1_000


def test_many_classes_are_read_in_time(file):
    rows = "".join(f"class {i % 20_000}\ttext {i}\n" for i in range(60_000))
    begin = time.monotonic()
    assert len(read_tables({"train": Path(file("a.tsv", "label\ttext\n" + rows))}).classes) == 20_000
    assert time.monotonic() - begin < 5, "a search for the class of every text takes much longer"


@pytest.mark.skipif(not (DATA / "mr-polarity").exists(), reason=f"{DATA / 'mr-polarity'} is not there")
def test_movie_review(monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(DATA))
    data = load("movie-review", seed=0, words=1000, longest=64, folds=10)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [8635, 960, 1067]
    assert data.classes == ("negative", "positive")
    with pytest.raises(UserError, match="not utf-8"):
        load("movie-review", seed=0, words=1000, longest=64, options=TextOptions(encoding="utf-8"))


def test_valence_is_composed_as_vader_composes_it():
    assert lexicon.valence(2.0, "", negated=False) == 2.0
    assert lexicon.valence(2.0, "very", negated=False) == pytest.approx(2.293)
    assert lexicon.valence(-2.0, "very", negated=False) == pytest.approx(-2.293)
    assert lexicon.valence(-2.0, "slightly", negated=True) == pytest.approx(0.74 * 1.707)
    assert lexicon.ratings()["good"] > 1.5 and lexicon.ratings()["horrible"] < -2


def test_no_rated_word_is_in_two_parts():
    sizes = {"train": 2_000, "validation": 60, "test": 60}
    result, rated = lexicon.sentences(sizes, seed=0), lexicon.ratings()

    def words(part: str) -> set[str]:
        return {word for sentence in result[part] for word in sentence.text.split()}

    parts = {part: words(part) & rated.keys() for part in sizes}
    assert not parts["train"] & parts["test"] and not parts["validation"] & parts["test"]
    assert len(parts["test"]) > 40 and len(parts["train"]) > 1_000
    families = {
        (word[: lexicon.FAMILY], rated[word] > 0) for word in rated.keys() - parts["validation"] - parts["test"]
    }
    assert {(word[: lexicon.FAMILY], rated[word] > 0) for word in parts["test"]} <= families
    assert {part: len(of_part) for part, of_part in result.items()} == sizes
    assert 0.49 < np.mean([sentence.valence > 0 for sentence in result["train"]]) < 0.51
    assert lexicon.sentences({"train": 30, "test": 9}, seed=0) == lexicon.sentences({"train": 30, "test": 9}, seed=0)
    assert not any("{" in sentence.text or "article" in sentence.text for sentence in result["train"])


def test_words_without_a_rating_have_none():
    phrases = (*lexicon.THINGS, *lexicon.PEOPLE, *lexicon.COMMON, *lexicon.AROUND, *lexicon.PASSING, *lexicon.OPENINGS)
    frames = [frame for of_kind in lexicon.FRAMES.values() for frames in of_kind.values() for frame in frames]
    others = (*lexicon.ADVERBS, *(verb for verbs in lexicon.IS.values() for verb in verbs), *frames)
    rated = lexicon.ratings()
    assert not [phrase for phrase in (*phrases, *others) if set(phrase.split()) & rated.keys()]


def test_words_are_dropped_and_padding_is_not():
    bags = np.zeros((5, 400, 3), np.int32)
    bags[:, :300] = (7, 8, 0)
    dropped = np.asarray(drop_words(0.2, jax.random.key(0), jax.numpy.asarray(bags)))
    assert dropped.dtype == np.int32 and not dropped[:, 300:].any()
    assert {tuple(bag) for bag in dropped[:, :300].reshape(-1, 3)} == {
        (7, 8, 0),
        (UNKNOWN_WORD, 8, 0),
        (UNKNOWN_WORD, 0, 0),
    }
    assert (dropped[..., 0] == UNKNOWN_WORD).sum() / 1500 == pytest.approx(0.2, abs=0.05)
    assert (dropped[..., 1] == 8).sum() / 1500 == pytest.approx(0.9, abs=0.05)
