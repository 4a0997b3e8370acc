"""Tables of findings and signals in rows: what comes out of the files, and what is said about those that are wrong."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.cases import read_cases
from pipeline.data.dataset import Scaling
from pipeline.data.diagnosis import kind_of, load
from pipeline.data.images import ImageOptions
from pipeline.data.table import Column, Columns, TableOptions, read_rows, read_table
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PIPELINE_DATA", ROOT.parent / "shared" / "data"))
ROWS = [f"{i},{20 + i},{'low' if i % 3 else 'high'},{'sick' if i % 2 else 'healthy'}" for i in range(40)]
HEADING = "id,age,pressure,outcome"


@pytest.fixture
def file(tmp_path):
    def write(name: str, *lines: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def read(path, **options):
    folds = {name: options.pop(name) for name in ("folds", "fold") if name in options}
    return load(path, seed=0, options=TableOptions(**{"label": "outcome", "ignore": ("id",), **options}), **folds)


def test_a_table(file):
    cases = read(file("patients.csv", HEADING, *ROWS))
    assert cases.classes == ("healthy", "sick") and cases.kind == "table" and cases.columns is not None
    assert cases.columns.features == ("age", "pressure = high", "pressure = low")
    assert (len(cases.train), len(cases.validation), len(cases.test)) == (27, 3, 10)
    np.testing.assert_allclose(cases.train.inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(cases.train.inputs.std(0), 1, atol=1e-5)
    ages = np.concatenate([split.pixels[:, 0] for split in (cases.train, cases.validation, cases.test)])
    labels = np.concatenate([split.labels for split in (cases.train, cases.validation, cases.test)])
    np.testing.assert_array_equal(labels, ages % 2 == 1)
    tabs = file("patients.tsv", *(line.replace(",", "\t") for line in (HEADING, *ROWS)))
    np.testing.assert_array_equal(read(tabs).test.pixels, cases.test.pixels)


def test_the_normal_class_is_the_first(file):
    path = file("patients.csv", HEADING, *ROWS)
    cases = read(path, normal="sick")
    assert cases.classes == ("sick", "healthy")
    np.testing.assert_array_equal(cases.test.labels, cases.test.pixels[:, 0] % 2 == 0)
    with pytest.raises(UserError, match="--normal is 'well'"):
        read(path, normal="well")


def test_missing_values_become_the_training_median_beside_a_feature_that_says_so(file):
    rows = [row.replace("high", "?") for row in ROWS]
    rows[3] = rows[3].replace(",23,", ",NA,")
    path = file("patients.csv", HEADING + ",empty", *(f"{row}," for row in rows))
    table = read_table(Path(path), TableOptions(label="outcome", ignore=("id",)))
    assert table.names == ("age", "pressure")
    assert any("'empty' is left out" in note for note in table.notes)
    assert any("15 values are missing" in note for note in table.notes)
    columns = Columns.learn(table.names, table.values)
    assert columns.features == ("age", "age is missing", "pressure = low")
    encoded = columns.encode(table.values)
    median = np.median([20 + i for i in range(40) if i != 3])
    np.testing.assert_array_equal(encoded[3], [median, 1, 0])
    np.testing.assert_array_equal(encoded[4], [24, 0, 1])
    assert Columns.read(columns.stored()) == columns
    learnt = Columns.learn(table.names, table.values[5:])  # whose training rows lack no age: nothing says that one does
    assert learnt.features == ("age", "pressure = low") and learnt.encode(table.values[3:4])[0, 0] == 42


def test_new_rows_may_have_their_columns_in_any_order(file):
    table = read_table(Path(file("patients.csv", HEADING, *ROWS)), TableOptions(label="outcome", ignore=("id",)))
    columns = Columns.learn(table.names, table.values)
    new = Path(file("new.csv", "pressure,name,age", "low,Ann,30", "-,Bob,41"))
    np.testing.assert_array_equal(read_rows(new, columns), [[30, 0, 1], [41, 0, 0]])
    for lines, message in (
        (("age,name", "30,Ann"), "no column 'pressure', which the model was trained on"),
        (("age,pressure", "30,medium"), "line 2 has 'medium' in column 'pressure', where training had high, low"),
        (("age,pressure", "old,low"), "line 2 has 'old' in column 'age', a column of numbers"),
    ):
        with pytest.raises(UserError, match=message):
            read_rows(Path(file("new.csv", *lines)), columns)


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ((HEADING, *ROWS), {"label": "diagnosis"}, "has no column 'diagnosis'.*--label"),
        ((HEADING, *ROWS), {"ignore": ("name",)}, "has no column 'name'.*--ignore"),
        ((HEADING, *ROWS, "7,x,low,sick"), {}, "line 42 has 'x' in column 'age'"),
        ((HEADING, *ROWS, "7,inf,low,sick"), {}, "line 42 has 'inf'"),
        ((HEADING, *ROWS, "7,27,low,"), {}, "line 42 has no diagnosis"),
        ((HEADING, *ROWS, "7,27,low"), {}, "line 42 has 3 fields, and the first line 4"),
        (
            (HEADING, *(f"{row}{'x' * i}" for i, row in enumerate(ROWS))),
            {"label": "pressure"},
            "'outcome' has 40 different",
        ),
        ((HEADING, *(row for row in ROWS if "sick" in row)), {}, "single class, sick"),
        (("id,age,age,outcome", *ROWS), {}, "names 'age' twice"),
        (("id,,age,outcome", *ROWS), {}, "column 2 has no name in the first line"),
        ((HEADING,), {}, "has no rows"),
        (("id,outcome", *(f"{i},sick" for i in range(9))), {}, "no column besides 'outcome'"),
    ],
)
def test_what_is_said_of_tables(file, lines, options, message):
    with pytest.raises(UserError, match=message):
        read(file("patients.csv", *lines), **options)


@pytest.mark.parametrize("number", ["1e39", "-1e39", "3e38", "inf", "9" * 400])
def test_numbers_that_float32_does_not_hold(file, number):
    shown = number if len(number) < 9 else r"9+ \[...\] 9+"
    message = rf"patients.csv: line 42 has '{shown}' in column 'age'.*of at most 1e\+37"
    with pytest.raises(UserError, match=message):
        read(file("patients.csv", HEADING, *ROWS, f"7,{number},low,sick"))
    with pytest.raises(UserError, match=r"line 2 has .* in column 'age'"):
        read(file("patients.csv", HEADING, *(f"{i},{number},low,{'sick' if i % 2 else 'well'}" for i in range(40))))
    path = Path(file("new.csv", "age,pressure", f"{number},low"))
    with pytest.raises(UserError, match=r"new.csv: line 2 has .* in column 'age'"):
        read_rows(path, Columns((Column("age"), Column("pressure", categories=("low",)))))
    with pytest.raises(
        UserError, match=r"new.csv: line 1 has .* as field 2; all must be finite numbers, at most 1e\+37"
    ):
        read_cases(Path(file("new.csv", f"0,{number}")), (2, 1), Scaling((0.0,), (1.0,)), None)


def test_a_case_that_is_too_far_from_the_training_rows(file):
    scaling = Scaling((0.0, 0.0), (1e-20, 1e-20))
    columns = Columns((Column("age"), Column("pressure")))
    with pytest.raises(UserError, match=r"new.csv, row 2 has a value that is not finite when it is standardised"):
        read_cases(Path(file("new.csv", "age,pressure", "1,1", "1e30,1")), (2,), scaling, columns)


def test_a_wide_table_is_read_in_time_and_its_columns_are_not_all_repeated(file):
    names = [f"gene{i}" for i in range(10_000)]
    rows = [",".join(["1.5"] * len(names) + [label]) for label in ("sick", "well") * 20]
    path = file("genes.csv", ",".join([*names, "outcome"]), *rows)
    table = f"read_table(Path({path!r}), TableOptions(label='outcome'))"
    program = f"from pipeline.data.table import *; print(len({table}.names))"
    # In a process without checks of types; a search for the column of every field takes much longer.
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=20)
    assert done.stdout == "10000\n"
    with pytest.raises(
        UserError, match=r"no column 'label': its first line names 'gene0', .*\[...\].*; name"
    ) as caught:
        read_table(Path(path))
    assert len(str(caught.value)) < 600


def test_what_a_table_quotes_is_harmless_and_short(file):
    long = "\x1b[31m" + "x" * 200_000
    for lines, message in (
        ((HEADING, *ROWS, f'7,"{long}",low,sick'), r"line 42 has '\\x1b\[31mxxx.* in column 'age'"),
        ((f'"{long}",age,"{long}"', "1,2,3"), r"names '\\x1b\[31mxxx.*' twice"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            read(file("patients.csv", *lines))
        assert len(str(caught.value)) < 1_000


def test_folds_of_a_table_learn_their_columns_from_their_own_training_rows(file):
    path = file("patients.csv", HEADING, *ROWS)
    folds = [read(path, folds=4, fold=fold) for fold in range(1, 5)]
    tested = np.concatenate([fold.test.pixels[:, 0] for fold in folds])
    assert sorted(tested) == [20 + i for i in range(40)]
    assert len({fold.scaling.mean for fold in folds}) == 4


def signals(count: int, first: bool, length: int = 12) -> list[str]:
    random = np.random.default_rng(0)
    rows = [[*(f"{x:.4f}" for x in random.normal(size=length))] for _ in range(count)]
    labels = [f"{'-1' if i % 2 else '1.000e+00'}" for i in range(count)]
    return [",".join([label, *row] if first else [*row, label]) for row, label in zip(rows, labels)]


@pytest.mark.parametrize("first", [True, False])
def test_signals_in_rows(file, first):
    path = file("beats.csv", *signals(40, first))
    cases = load(path, seed=0)
    assert cases.kind == "signals" and cases.classes == ("-1", "1") and cases.input_shape == (12, 1)
    samples = np.concatenate([split.pixels for split in (cases.train, cases.validation, cases.test)])
    expected = [line.split(",")[first : 12 + first] for line in signals(40, first)]
    assert {x.tobytes() for x in samples[..., 0]} == {np.array(x, np.float32).tobytes() for x in expected}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(("1000001", "1000002"), ("1000001", "1000002")), (("2147483648", "5"), ("5", "2147483648"))],
)
def test_classes_of_signals_are_all_their_digits(file, labels, classes):
    rows = [f"0.5,{i / 7},{labels[i % 2]}" for i in range(40)]
    assert load(file("beats.csv", *rows), seed=0, options=TableOptions(label="last")).classes == classes
    with pytest.raises(UserError, match=r"beats.csv has the class 9\.[0-9e+]*, too large to be told from the next"):
        load(file("beats.csv", *rows, "0.5,0.1,9007199254740993"), seed=0, options=TableOptions(label="last"))


def test_a_folder_with_a_file_for_training_and_one_for_testing(file, tmp_path):
    file("ECG200/ECG200_TRAIN.tsv", *(line.replace(",", "\t") for line in signals(20, True)))
    file("ECG200/ECG200_TEST.tsv", *(line.replace(",", "\t") for line in signals(30, True)))
    cases = load(str(tmp_path / "ECG200"), seed=0)
    assert (len(cases.train), len(cases.validation), len(cases.test)) == (18, 2, 30)


def test_signals_of_several_channels(file):
    rows = [f"0.5,1,{i}:2,-{i},3:{'ab'[i % 2]}" for i in range(1, 41)]
    cases = load(file("walks.ts", "@problemName walks", "@data", *rows), seed=0)
    assert cases.input_shape == (3, 2) and cases.classes == ("a", "b")
    samples = np.concatenate([cases.train.pixels, cases.validation.pixels, cases.test.pixels])
    assert {x.tobytes() for x in samples} == {
        np.array([[0.5, 2], [1, -i], [i, 3]], np.float32).tobytes() for i in range(1, 41)
    }
    for line in (rows[7], rows[7][:-2]):  # with its class, and without
        (case,) = read_cases(Path(file("new.ts", line)), (3, 2), cases.scaling, None)
        np.testing.assert_allclose(cases.scaling.undone(case.inputs), [[0.5, 2], [1, -8], [8, 3]], rtol=1e-5)
    for line, message in (
        ("1,2,3:4,5:a", "line 43 has 2 channels of 3, 2 samples; all lines must have the same number"),
        ("1,2,3:a", "line 43 has 1 channel of 3 samples"),
        ("1,2,3:4,5,6", "line 43 has no class"),
        ("(0,1),(2,3):a", "line 43 has times of samples.*write the values alone"),
    ):
        with pytest.raises(UserError, match=message):
            load(file("wrong.ts", "@problemName walks", "@data", *rows, line), seed=0)
    with pytest.raises(UserError, match=r"new\.csv has signals of 1 channel, but the model was trained on 2"):
        read_cases(Path(file("new.csv", "1,2,3,4,5,6")), (3, 2), cases.scaling, None)


def test_signals_of_several_lengths(file, tmp_path):
    rows = [f"{','.join(map(str, range(i, i + 5 + i % 3)))}:{'ab'[i % 2]}" for i in range(40)]
    cases = load(file("walks.ts", "@equalLength false", "@data", *rows), seed=0)
    samples = np.concatenate([cases.train.pixels, cases.validation.pixels, cases.test.pixels])[..., 0]
    expected = [[*range(i, i + 5 + i % 3), *[i + 4 + i % 3] * (2 - i % 3)] for i in range(40)]
    assert {x.tobytes() for x in samples} == {np.array(x, np.float32).tobytes() for x in expected}
    assert "27 of 40 signals of walks.ts have other than 7 samples, and are shorter" in cases.notes[0]
    for first in (True, False):
        values = [[*map(str, range(i, i + 5 + i % 3)), *["NaN"] * (2 - i % 3)] for i in range(40)]
        lines = [",".join([str(i % 2), *row] if first else [*row, str(i % 2)]) for i, row in enumerate(values)]
        again = load(file(f"{first}.csv", *lines), seed=0, options=TableOptions(label="first" if first else "last"))
        np.testing.assert_array_equal(again.train.pixels, cases.train.pixels)
    notes: list[str] = []
    new = Path(file("new.ts", "1,2,3", "1,2,3,4,5,6,7,8,9:b"))
    first, second = read_cases(new, (7, 1), cases.scaling, None, notes=notes)
    np.testing.assert_allclose(cases.scaling.undone(first.inputs)[:, 0], [1, 2, 3, 3, 3, 3, 3], rtol=1e-5)
    np.testing.assert_allclose(cases.scaling.undone(second.inputs)[:, 0], range(1, 8), rtol=1e-5)
    assert "and are shorter" in notes[0] and "longer: their ends are cut off (the first: number 2)" in notes[1]


def test_what_is_said_of_signals(file):
    lines = signals(20, True)
    for wrong, message in (
        ([*lines, "1,0.5,0.25"], "line 21 has 3 fields, and the first line 13; all signals must be equally long"),
        (
            [*lines, lines[0].replace(",", ",nan,", 1).rpartition(",")[0]],
            "line 21 has NaN as sample 1, which may stand",
        ),
        ([*lines, lines[0].rpartition(",")[0] + ",x"], "line 21 has 'x' as field 13"),
        ([*lines, "nan," + lines[0].partition(",")[2]], "neither the first nor the last column looks like classes"),
        (["0,1,2", "1,2,0"], "both the first and the last column looks like classes.*--label"),
        (["0.5,1,0.2", "1.5,2,0.1"], "neither the first nor the last"),
    ):
        with pytest.raises(UserError, match=message):
            load(file("beats.csv", *wrong), seed=0)
    with pytest.raises(UserError, match=r"beats\.csv has NaN as a class"):
        load(
            file("beats.csv", *lines, "nan," + lines[0].partition(",")[2]), seed=0, options=TableOptions(label="first")
        )
    with pytest.raises(UserError, match="--ignore names columns of a table"):
        load(file("beats.csv", *lines), seed=0, options=TableOptions(ignore=("id",)))
    with pytest.raises(UserError, match="neither a known data set nor an existing path"):
        kind_of("nowhere.csv")


def test_training_images_that_stand_in_another_split_are_left_out(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), np.uint8)
    labels = np.arange(30) % 2
    parts = {"train": [*range(20)], "val": [18, 20, 21, 22], "test": [19, *range(23, 30)]}
    arrays: Any = {f"{part}_images": images[rows] for part, rows in parts.items()}
    arrays |= {f"{part}_labels": labels[rows] for part, rows in parts.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    cases = load(str(tmp_path / "a.npz"), seed=0)
    assert (len(cases.train), len(cases.validation), len(cases.test)) == (18, 4, 8)
    assert "2 training images are left out" in cases.notes[0]


def test_images_of_several_sizes(tmp_path):
    for number in range(16):
        file = tmp_path / ("ill", "well")[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("L", (20, 10 + number % 3), number).save(file)
    cases = load(str(tmp_path), seed=0, options=TableOptions(normal="well"), image_options=ImageOptions(fit="pad"))
    assert (cases.input_shape, cases.fit, cases.classes) == ((11, 20, 1), "pad", ("well", "ill"))
    assert "10 to 12 pixels high and 20 wide: all are brought to 11x20" in cases.notes[0]
    (case,) = read_cases(tmp_path / "ill" / "0.png", (11, 20, 1), cases.scaling, None, fit="pad")
    assert case.inputs.shape == (11, 20, 1)


def test_options_for_images_without_effect(file):
    name = file("patients.csv", "age,label", *(f"{i},{'ab'[i % 2]}" for i in range(30)))
    assert "--size 64 is not used: it is for images" in load(name, seed=0, image_options=ImageOptions("64")).notes


def test_breast_cancer():
    cases = load("breast-cancer", seed=0)
    assert cases.columns is not None and cases.classes == ("benign", "malignant")
    assert cases.columns.features[0] == "mean radius"
    assert sum(len(split) for split in (cases.train, cases.validation, cases.test)) == 569
    assert cases.test.labels.sum() == 53


@pytest.mark.skipif(not (DATA / "pneumoniamnist").exists(), reason=f"{DATA / 'pneumoniamnist'}: set PIPELINE_DATA")
def test_pneumonia_mnist(monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(DATA))
    cases = load("pneumoniamnist", seed=0)
    assert cases.classes == ("normal", "pneumonia") and cases.input_shape == (28, 28, 1)
    assert (len(cases.validation), len(cases.test), cases.test.labels.sum()) == (524, 624, 390)
    held_out = {image.tobytes() for image in (*cases.validation.pixels, *cases.test.pixels)}
    assert not held_out & {image.tobytes() for image in cases.train.pixels}
