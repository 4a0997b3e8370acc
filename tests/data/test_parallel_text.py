"""Parallel text: what files hold, what is held out, how pairs become batches, and what is wrong with some files."""

import gzip
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
    assert text.notes == ()


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
    assert text.notes == ("1 pairs of train.tok.en left out: a line is empty",)


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
