"""Parallel text: what files hold, what is held out, how pairs become batches, and what is wrong with some files."""

import gzip
import json
import os
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.batches import evaluation_batches, train_batches
from pipeline.data.parallel_text import Sentences, decode, encode, load, read_lines
from pipeline.data.synthetic.cldr import sentences
from pipeline.data.vocabulary import BEGIN, END, Subwords
from pipeline.errors import UserError

PAIRS = [(f"the number {i} is here", f"hier ist die Zahl {i}" + " und noch eine" * (i % 4)) for i in range(40)]


def write(folder: Path, name: str, lines: list[str]) -> None:
    content = ("\n".join(lines) + "\n").encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


@pytest.fixture
def folder(tmp_path):
    """Plain and gzipped files, with more in their names, and two sets of test sentences."""
    for i, ending in enumerate((".en", ".de.gz")):
        write(tmp_path, f"train.tok{ending}", [pair[i] for pair in PAIRS])
        write(tmp_path, f"val.tok{ending}", [pair[i] for pair in PAIRS[:3]])
        write(tmp_path, f"test_2016.tok{ending}", [pair[i] for pair in PAIRS[3:5]])
        write(tmp_path, f"test_2017.tok{ending}", [pair[i] for pair in PAIRS[5:9]])
    return tmp_path


def test_the_files_of_a_folder(folder):
    text = load(str(folder))
    assert (text.train, text.validation, text.test) == (PAIRS, PAIRS[:3], PAIRS[3:5])
    assert load(str(folder), "de", "en").test == [(b, a) for a, b in PAIRS[3:5]]
    assert text.notes == (
        f"2 files of {folder} are not used: test_2017.tok.de.gz, test_2017.tok.en",
        "3 of 3 validation pairs are among the training pairs, too (the first: number 1)",
        "2 of 2 test pairs are among the training or validation pairs, too (the first: number 1)",
    )


EN, DE = ([pair[i] for pair in PAIRS] for i in (0, 1))
DASH, PLAIN = {"train-clean.en": EN, "train-clean.de": DE}, {"train.en": EN, "train.de": DE}
TABLE = [f"{a}\t{b}" for a, b in PAIRS]
OTHERS = "a.tsv: the other columns are not used, such as 'CC-BY'"
GUESS = "a.tsv has no heading: column 1 is taken for en, column 2 for de (--source 1"


@pytest.mark.parametrize(
    "files, encoding, pairs, notes",
    [
        (PLAIN, "utf-8", PAIRS, []),
        (PLAIN, "utf-16", PAIRS, []),
        ({"train.en.gz": EN, "train.de": DE}, "utf-16", PAIRS, []),
        (
            PLAIN,
            "utf-16-le",
            PAIRS,
            [
                f"train.{it} is read as UTF-16-LE: every second byte is 0 (--encoding names another)"
                for it in ("en", "de")
            ],
        ),
        (DASH, "utf-8", PAIRS, []),
        ({"train.EN": EN, "train.DE": DE}, "utf-8", PAIRS, []),
        (
            {"train_a.en": EN[:9], "train_a.de": DE[:9], "train_b.en": EN[9:], "train_b.de": DE[9:]},
            "utf-8",
            PAIRS,
            ["the pairs of 2 files are put together: train_a.en, train_b.en"],
        ),
        (
            PLAIN | {"train.tok.en": EN, "train.tok.de": DE, "README": EN},
            "utf-8",
            PAIRS,
            ["3 files of {} are not used: README, train.tok.de, train.tok.en"],
        ),
        (PLAIN | {"train.de": [*DE, "", ""]}, "utf-8", PAIRS, ["2 blank lines at the end of train.de left out"]),
        (
            {"news.de-en.en": EN, "news.de-en.de": DE},
            "utf-8",
            PAIRS,
            ["news.de-en.en is taken for the training part, which its name does not say"],
        ),
        (
            {"train.en": [*EN, "", "x"], "train.de": [*DE, "y", "x"]},
            "utf-8",
            [*PAIRS, ("x", "x")],
            ["1 pairs of train.en left out: a line is empty (the first: line 41)"],
        ),
        ({"train.en": EN, "train.de": EN}, "utf-8", list(zip(EN, EN)), ["32 of 32 training pairs have the same text"]),
        ({"train.tsv": ["en\tde", *TABLE]}, "utf-8", PAIRS, []),
        ({"a.tsv": TABLE}, "utf-8", PAIRS, [GUESS]),
        (
            {"train.src": EN, "train.tgt": DE},
            "utf-8",
            PAIRS,
            ["train.src is taken for en (--source), the files of the other side for de (--target)"],
        ),
        (
            {"src-train.txt": EN, "tgt-train.txt": DE},
            "utf-8",
            PAIRS,
            ["src-train.txt is taken for en (--source), the files of the other side for de (--target)"],
        ),
        (
            {
                f"IWSLT.train.en-de.{language}": ["<url>http://x</url>", *lines]
                for language, lines in (("en", EN), ("de", DE))
            },
            "utf-8",
            PAIRS,
            [
                f"1 lines of IWSLT.train.en-de.{language} left out: they are markup (the first: line 1)"
                for language in ("en", "de")
            ],
        ),
        (
            {
                f"train.{language}.xml": ["<doc>", *(f'<seg id="{i}"> {line} </seg>' for i, line in enumerate(lines))]
                for language, lines in (("en", EN), ("de", DE))
            },
            "utf-8",
            PAIRS,
            [f"1 lines of train.{language}.xml left out: they are markup" for language in ("en", "de")],
        ),
        (
            {"a.tsv": [f"{i}\t{a}\t{i + 7}\t{b}" for i, (a, b) in enumerate(PAIRS)]},
            "utf-8",
            PAIRS,
            [
                "a.tsv has no heading: column 2 is taken for en, column 4 for de",
                "a.tsv: the other columns are not used",
            ],
        ),
        (
            {"a.txt": [f"{a} ||| {b}" for a, b in PAIRS]},
            "utf-8",
            PAIRS,
            [GUESS.replace("a.tsv", "a.txt")],
        ),
        (
            {"a.tsv": [f"{line}\tCC-BY" for line in TABLE]},
            "utf-8",
            PAIRS,
            [GUESS, OTHERS],
        ),
        (
            {"a.tsv": ["de\tEN\tby", *(f"{b}\t{a}\tme" for a, b in PAIRS)]},
            "utf-8",
            PAIRS,
            ["a.tsv: columns that are not"],
        ),
        ({"a.csv": ["en,de", *(f'"{a}",{b}' for a, b in PAIRS)]}, "utf-16", PAIRS, []),
        ({"a.jsonl": [json.dumps({"de": b, "en": a}) for a, b in PAIRS]}, "utf-8", PAIRS, []),
    ],
)
def test_files_of_many_kinds(tmp_path, files, encoding, pairs, notes):
    for name, lines in files.items():
        content = ("\n".join(lines) + "\n").encode(encoding)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    name = next(iter(files))
    text = load(str(tmp_path / name if name.startswith("a.") else tmp_path))
    assert sorted([*text.train, *text.validation, *text.test]) == sorted(pairs)
    assert len(text.notes) == len(notes)
    for note, beginning in zip(text.notes, notes):
        assert note.startswith(beginning.format(tmp_path))


def test_pairs_that_are_in_two_parts_are_counted(tmp_path):
    for i, language in enumerate(("en", "de")):
        write(tmp_path, f"train.{language}", [pair[i] for pair in PAIRS])
        write(tmp_path, f"test.{language}", [pair[i] for pair in [("a", "b"), *PAIRS[:3]]])
    assert load(str(tmp_path)).notes == (
        "3 of 4 test pairs are among the training or validation pairs, too (the first: number 2)",
    )


def test_encoding_that_is_named(tmp_path):
    for name, lines in PLAIN.items():
        (tmp_path / name).write_bytes("\n".join(line + " ü" for line in lines).encode("latin-1"))
    with pytest.raises(UserError, match=r"line 1 has the byte 0xfc .*; it may be latin-1: .*--encoding latin-1"):
        load(str(tmp_path))
    assert load(str(tmp_path), encoding="latin-1").train[0][0].endswith(" ü")


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a.en": ["a"], "a.de": ["b"], "b.en": ["a"], "b.de": ["b"]}, "has a.en, b.en, whose names do not begin with"),
        ({"src-train.txt": ["a"], "tgt-train.txt": ["b"]}, "its 1 training pairs are too few"),
        ({"train.tsv": ["a\tb", "c"]}, "train.tsv: line 2 has no tab"),
        ({"train.csv": ["en,fr", "a,b"]}, "no column 'de': its first line names 'en', 'fr'"),
    ],
)
def test_what_is_wrong_with_names(tmp_path, files, message):
    for name, lines in files.items():
        write(tmp_path, name, lines)
    with pytest.raises(UserError, match=message):
        load(str(tmp_path))


def test_what_is_missing_is_held_out(tmp_path):
    for i, language in enumerate(("en", "de")):
        write(tmp_path, f"train.{language}", [pair[i] for pair in PAIRS])
    text, other = load(str(tmp_path)), load(str(tmp_path), seed=1)
    parts = [*text.train, *text.validation, *text.test]
    assert sorted(parts) == sorted(PAIRS)
    assert len(text.test) == 4 and len(text.validation) == 4
    assert text.test == other.test and text.validation != other.validation


def test_pairs_with_an_empty_line_are_left_out_and_told(folder):
    write(folder, "train.tok.en", ["one", " ", "three"])
    write(folder, "train.tok.de.gz", ["eins", "zwei", "drei"])
    text = load(str(folder))
    assert text.train == [("one", "eins"), ("three", "drei")]
    assert text.notes[0] == "1 pairs of train.tok.en left out: a line is empty (the first: line 2)"


def test_lines_end_at_line_feeds_alone(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffone\x0btwo\u2028three\r\nfour".encode())
    assert read_lines(tmp_path / "x") == ["one\x0btwo\u2028three", "four"]


def test_mistakes_in_files(folder, tmp_path):
    def refused(source: str = "en", target: str = "de") -> str:
        with pytest.raises(UserError) as caught:
            load(str(folder), source, target)
        return str(caught.value)

    assert "no pair of files train.en and train.fr" in refused("en", "fr") and "files in de, en" in refused("en", "fr")
    assert "both 'en'" in refused("en", "en")
    write(folder, "val.tok.en", ["one"])
    assert "val.tok.en has 1 lines and" in refused() and "has 3" in refused()
    (folder / "val.tok.en").write_bytes(b"good\nca\xe9\nbad")
    assert "val.tok.en is not UTF-8: line 2 has the byte 0xe9" in refused()
    (folder / "val.tok.en").write_bytes(b"\n \n")
    assert "val.tok.en is empty" in refused()
    (folder / "val.tok.de.gz").write_bytes(gzip.compress(b"eins\nzwei\ndrei")[:-9])
    write(folder, "val.tok.en", ["a", "b", "c"])
    assert "val.tok.de.gz cannot be read" in refused()
    with pytest.raises(UserError, match="neither a known set"):
        load(str(tmp_path / "nowhere"))


def test_multi30k():
    if not os.environ.get("PIPELINE_DATA"):
        pytest.skip("PIPELINE_DATA names no folder of data sets")
    text = load("multi30k")
    assert [len(part) for part in (text.train, text.validation, text.test)] == [29_000, 1_014, 1_000]
    assert text.test[0][0].startswith("a man in an orange hat")


def test_phrases_of_two_languages_say_the_same():
    result = sentences(300, "en", "de", seed=0)
    assert result == sentences(300, "en", "de", seed=0) != sentences(300, "en", "de", seed=1)
    assert len({source for source, _ in result}) == 300
    numbers = [(source, target) for source, target in result if re.fullmatch(r"[\d.,]+", source)]
    assert numbers
    for source, target in numbers:
        assert target == source.translate(str.maketrans(",.", ".,"))
    for source, target in result:
        assert not {"\xa0", "\u202f"} & set(source + target)
        assert ("Wednesday" in source) == ("Mittwoch" in target)
        assert ("kilometer" in source) == ("Kilometer" in target)
    french = dict(sentences(300, "en", "fr", seed=0))
    assert list(french) == [source for source, _ in result] and set(french.values()) != {b for _, b in result}
    with pytest.raises(UserError, match="no CLDR language 'xx'"):
        sentences(1, "en", "xx", seed=0)


@pytest.fixture(scope="module")
def vocabulary():
    return Subwords.learn((f" {text}" for pair in PAIRS for text in pair), 320)


def test_an_example_is_a_source_a_target_and_the_target_one_on(vocabulary):
    pairs = Sentences.of(PAIRS, vocabulary)
    rows = np.array([7, 0, 30])
    (sources, targets), labels = pairs.take(rows)
    assert sources.shape == targets.shape == labels.values.shape == labels.weights.shape
    for row, source, target, label, weights in zip(rows, sources, targets, *labels):
        assert target[0] == BEGIN
        length = int(weights.sum())
        np.testing.assert_array_equal(label[: length - 1], target[1:length])
        assert label[length - 1] == END and not label[length:].any() and not weights[length:].any()
        assert (decode(source, vocabulary), decode(label, vocabulary)) == PAIRS[row]
        assert source[source != 0][-1] == END
    assert pairs.lengths[7] == max(len(side) for side in encode(PAIRS[7], vocabulary)) + 1
    short = pairs.at_most(int(np.median(pairs.lengths)))
    assert 0 < len(short) < len(pairs) and short.lengths.max() <= np.median(pairs.lengths)


def test_batches_are_of_similar_length_and_miss_no_pair(vocabulary):
    pairs = Sentences.of(PAIRS, vocabulary)
    batches = train_batches(pairs, 4, seed=0)
    epochs = [list(islice(batches, 10)) for _ in range(2)]
    message = [[decode(row, vocabulary) for _, targets in epoch for row in targets.values] for epoch in epochs]
    assert sorted(message[0]) == sorted(message[1]) == sorted(target for _, target in PAIRS)
    assert message[0] != message[1]
    spread = [np.ptp(targets.weights.sum(1)) for _, targets in epochs[0]]
    assert np.mean(spread) < np.ptp(pairs.lengths) / 3
    lengths = [targets.values.shape[1] for _, targets in epochs[0]]
    assert len(set(lengths)) < 5 and lengths != sorted(lengths)


def test_evaluation_batches_weigh_positions_and_drop_copies(vocabulary):
    pairs = Sentences.of(PAIRS[:10], vocabulary)
    result = list(evaluation_batches(pairs, 4))
    assert all(len(targets.values) == 4 for _, targets in result)
    real = [decode(row, vocabulary) for _, (values, weights) in result for row in values[weights.any(1)]]
    assert sorted(real) == sorted(target for _, target in PAIRS[:10])
    assert sum(targets.weights.sum() for _, targets in result) == sum(len(ids) + 1 for ids in pairs.targets)
