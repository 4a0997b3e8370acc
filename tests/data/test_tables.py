"""Tables and signals as people have them: each is read as it is meant, with a note on what was guessed, or refused."""

import gzip
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuzzing.attempt import limited_memory
from pipeline.data import limits
from pipeline.data.cases import read_cases
from pipeline.data.dataset import Scaling
from pipeline.data.diagnosis import kind_of, load
from pipeline.data.table import Columns, TableOptions, read_rows, read_table
from pipeline.errors import UserError

ROWS = [(40 + i % 17, 110.5 + i % 23, "ill" if i % 2 else "healthy") for i in range(40)]
HEAD = "age,bp,label"
NO_NAMES = {"no_header": True, "label": "last"}
CLASSES = ("healthy", "ill")
WAVE = np.sin(np.linspace(0, 6, 12)[None] + np.arange(40)[:, None]).round(3)


def table(separator: str = ",", head: str = HEAD, row: str = "{0},{1},{2}") -> str:
    lines = [row.format(*values, i) for i, values in enumerate(ROWS)]
    return "".join(line.replace(",", separator) + "\n" for line in [*([head] if head else []), *lines])


def labels(*names: str) -> str:
    """Rows whose classes are these names, one after the other."""
    return "age,bp,label\n" + "".join(f"{ROWS[i][0]},{ROWS[i][1]},{names[i % len(names)]}\n" for i in range(40))


def waves(separator: str, end: str = "") -> str:
    return "".join(f"{end}{i % 2 + 1}.0{separator}{separator.join(map(str, row))}\n" for i, row in enumerate(WAVE))


def described(head: str, separator: str) -> str:
    rows = (f"{','.join(map(str, row))}{separator}{'fast' if i % 2 else 'slow'}\n" for i, row in enumerate(WAVE))
    return head + "".join(rows)


ATTRIBUTES = "".join(f"@attribute att{i} numeric\n" for i in range(12))
SIGNALS = "@relation w\n% comment\n" + ATTRIBUTES + "@attribute target {slow,fast}\n\n@data\n"
HEART = "@RELATION heart\n@ATTRIBUTE age REAL\n@ATTRIBUTE 'bp' NUMERIC\n@ATTRIBUTE label {ill,healthy}\n@DATA\n"

COPIES = "validation rows are among the training", "test rows are among the training or validation rows, too"
READ: list[Any] = [
    # name of the file, content, options, features or shape, classes, notes
    ("a.csv", table(), {}, ("age", "bp"), CLASSES, []),
    ("A.CSV", table(), {}, ("age", "bp"), CLASSES, []),
    ("a.txt", table("\t"), {}, ("age", "bp"), CLASSES, ["a.txt: its delimiter is taken to be tab"]),
    ("a.data", table("|"), {}, ("age", "bp"), CLASSES, ["taken to be pipe"]),
    ("a.csv.gz", table(), {}, ("age", "bp"), CLASSES, []),
    ("a.Csv", table(";"), {}, ("age", "bp"), CLASSES, ["taken to be semicolon"]),
    ("carriage.csv", table().replace("\n", "\r"), {}, ("age", "bp"), CLASSES, []),
    (
        "german.csv",
        table(";").replace(".", ","),
        {},
        ("age", "bp"),
        CLASSES,
        ["taken to be semicolon", "40 decimal commas, the first one '110,5'"],
    ),
    ("given.txt", table("~"), {"delimiter": "~"}, ("age", "bp"), CLASSES, []),
    ("word.txt", table(";"), {"delimiter": "semicolon"}, ("age", "bp"), CLASSES, []),
    ("index.csv", table(head=f",{HEAD}", row="{3},{0},{1},{2}"), {}, ("age", "bp"), CLASSES, ["numbers or names of"]),
    (
        "unnamed.csv",
        table(head=f"Unnamed: 0,{HEAD}", row="{3},{0},{1},{2}"),
        {},
        ("age", "bp"),
        CLASSES,
        ["'Unnamed: 0'"],
    ),
    ("shuffled.csv", table(head=f",{HEAD}", row="{0},{0},{1},{2}"), {}, ("age", "bp"), CLASSES, ["the first: '40'"]),
    (
        "twice.csv",
        table(head=f",Unnamed: 0,{HEAD}", row="{3},{3},{0},{1},{2}"),
        {},
        ("age", "bp"),
        CLASSES,
        ["the first column, which has no name", "the first column, 'Unnamed: 0'"],
    ),
    (
        "kept.csv",
        table(head=f",{HEAD}", row="{0},{0},{1},{2}"),
        {"keep_row_numbers": True},
        ("row", "age", "bp"),
        CLASSES,
        [],
    ),
    ("sep.csv", "sep=;\r\n" + table(";"), {}, ("age", "bp"), CLASSES, []),
    (
        "excel.csv",
        table(head=f"{HEAD},,", row="{0},{1},{2},,") + ",,,,\n",
        {},
        ("age", "bp"),
        CLASSES,
        ["ends of lines"],
    ),
    (
        "between.csv",
        table(head="age,,bp,label", row="{0},,{1},{2}"),
        {},
        ("age", "bp"),
        CLASSES,
        ["columns without a name and without values are left out: 2"],
    ),
    (
        "r.txt",
        table(" ", head='"age","bp","label"', row='"{3}",{0},{1},"{2}"'),
        {},
        ("age", "bp"),
        CLASSES,
        ["taken to be white space", "which has no name, is left out"],
    ),
    ("aligned.txt", table("   "), {}, ("age", "bp"), CLASSES, ["taken to be white space"]),
    ("trailing.csv", table(head=f"{HEAD},", row="{0},{1},{2},"), {}, ("age", "bp"), CLASSES, ["ends of lines"]),
    ("heading.csv", table(head=f"{HEAD},"), {}, ("age", "bp"), CLASSES, ["ends of lines"]),
    ("rows.csv", table(row="{0},{1},{2},"), {}, ("age", "bp"), CLASSES, ["ends of lines"]),
    ("case.csv", table(head="age,bp,Label"), {}, ("age", "bp"), CLASSES, []),
    ("headless.data", table(head=""), NO_NAMES, ("column 1", "column 2"), CLASSES, ["taken to be comma"]),
    (
        "number.csv",
        table(head=""),
        {"no_header": True, "label": "3", "ignore": ("1",)},
        ("column 2",),
        CLASSES,
        [*COPIES],
    ),
    (
        "zeros.csv",
        labels("0", "1", "0.0", "1"),
        {},
        ("age", "bp"),
        ("0", "1"),
        ["10 rows with the class '0.0', the first in line 4"],
    ),
    (
        "case_of.csv",
        labels("no", "Yes", "no", "yes "),
        {},
        ("age", "bp"),
        ("Yes", "no"),
        ["10 rows with the class 'yes '"],
    ),
    (
        "spaces.csv",
        labels("no", "yes", "no", "yes "),
        {},
        ("age", "bp"),
        ("no", "yes"),
        ["'yes ', the first in line 5 of spaces.csv"],
    ),
    (
        "none.csv",
        labels("None", "Apnea"),
        {},
        ("age", "bp"),
        ("Apnea", "None"),
        ["20 rows, the first in line 2, have 'None'"],
    ),
    ("heart.arff", HEART + table(head=""), {}, ("age", "bp"), CLASSES, []),
    ("heart.txt", HEART + table(head=""), {}, ("age", "bp"), CLASSES, []),
    (
        "wave_TRAIN.txt",
        waves("   ", "  "),
        {},
        (12, 1),
        ("1", "2"),
        ["taken to be white space", "signal of 12 samples, and its first number is the class"],
    ),
    ("wave.tsv", waves("\t"), {"label": "first"}, (12, 1), ("1", "2"), []),
    ("wave_TRAIN", waves("  "), {"label": "first"}, (12, 1), ("1", "2"), ["taken to be white space"]),
    (
        "wave.ts",
        described("#note\n@problemName w\n@classLabel true slow fast\n@data\n", ":"),
        {},
        (12, 1),
        ("fast", "slow"),
        [],
    ),
    ("wave.arff", described(SIGNALS, ","), {}, (12, 1), ("fast", "slow"), []),
    ("pima.csv", labels("0", "1").split("\n", 1)[1], {"signals": True, "label": "last"}, (2, 1), ("0", "1"), []),
]

THOUSANDS = "age;cells;label\n" + "".join(f"{i};{i + 1},500;{'ill' if i % 2 else 'well'}\n" for i in range(40))
REFUSED: list[Any] = [
    (
        "measures.csv",
        "".join(f"{i % 5},{50 + i},{i / 90},{i % 2}\n" for i in range(40)),
        {"label": "last"},
        "--no-header.*--signals",
    ),
    (
        "measures.txt",
        "".join(f"{50 + i} {i / 90} 700 {i % 2}\n" for i in range(40)),
        {},
        "4 numbers in each line and no column names",
    ),
    ("wdbc.data", "".join(f"8{i},{'MB'[i % 2]},{i / 7},3.5\n" for i in range(40)), {}, "looks like a row.*--no-header"),
    ("headless.csv", table(head=""), {"no_header": True}, "columns without names: choose with --label last"),
    ("thousands.csv", THOUSANDS, {}, "separator of thousands"),
    ("price.csv", labels(*(f"{i * 1.37:.2f}" for i in range(40))), {}, "different numbers.*regression"),
    ("year.csv", labels(*map(str, range(1950, 1990))), {}, "40 different numbers.*regression"),
    ("missing.csv", labels("ill", "healthy", "", "ill"), {}, "line 4 has no diagnosis"),
    ("other.zip", "x", {}, "breast-cancer, pneumoniamnist.*xlsx"),
    ("delimiter.csv", table(), {"delimiter": "colons"}, "--delimiter is 'colons'"),
    ("title.csv", "Ward 3\n" + table(), {}, "line 2 has 3 fields, and the first line 1; remove what stands before"),
    ("two.ts", "@data\n1,2:3,4:slow\n1,2:fast\n", {}, "line 3 has 1 channel"),
    ("sparse.arff", HEART + "{1 5}\n", {}, "line 6 is sparse"),
    ("bare.arff", "1,2\n", {}, "no @attribute lines"),
    ("inf.csv", labels(*map(str, range(30)), "inf") + "50,1,3\n" * 40, {}, "31 different numbers.*regression"),
    ("return.arff", HEART + "1,\r2,ill\n", {}, "line 6 cannot be read .new-line character"),
    (
        "long.arff",
        HEART + f"{'x' * 140_000},2,ill\n" + table(head=""),
        {},
        r"line 6 has 'x+ \[...\] x+' in column 'age'",
    ),
    (
        "long.csv",
        f"{HEAD}\n{'x' * 140_000},2,ill\n" + table(head=""),
        {},
        r"line 2 has 'x+ \[...\] x+' in column 'age'",
    ),
]


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "options", "columns", "classes", "notes"), READ, ids=[row[0] for row in READ]
)
def test_what_is_read(tmp_path, name, content, options, columns, classes, notes):
    cases = load(str(write(tmp_path, name, content)), seed=0, options=TableOptions(**options))
    assert (cases.columns.features if cases.columns else cases.input_shape) == columns
    assert cases.classes == classes and len(cases.train) + len(cases.validation) + len(cases.test) == 40
    assert len(cases.notes) == len(notes)
    assert all(expected in note for expected, note in zip(notes, cases.notes))


@pytest.mark.parametrize(("name", "content", "options", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused(tmp_path, name, content, options, message):
    with pytest.raises(UserError, match=f"(?s){name}|--delimiter") as caught:
        load(str(write(tmp_path, name, content)), seed=0, options=TableOptions(**options))
    assert re.search(message, str(caught.value)), str(caught.value)


def test_values_are_those_of_the_file(tmp_path):
    german = read_table(write(tmp_path, "a.csv", table(";").replace(".", ",")))
    assert german.values[:3].tolist() == [[40, 110.5], [41, 111.5], [42, 112.5]]
    signals = load(str(write(tmp_path, "w.ts", described("@data\n", ":"))), seed=0)
    assert {tuple(row) for row in np.concatenate([signals.train.pixels, signals.test.pixels])[..., 0].tolist()} <= {
        tuple(row) for row in WAVE.astype(np.float32).tolist()
    }


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train.csv", "val.csv", "test.csv"), (40, 40, 40)),
        (("Training.csv", "Dev.csv", "Testing.csv"), (40, 40, 40)),
        (("x_TRAIN.tsv", "x_valid.tsv", "x_EVAL.tsv"), (40, 40, 40)),
        (("train.csv", "test.csv"), (36, 4, 40)),
        (("patients.csv",), (27, 3, 10)),
    ],
)
def test_the_files_of_a_folder_are_splits_by_their_names(tmp_path, names, sizes):
    for name in names:
        write(tmp_path, name, table("\t" if name.endswith("tsv") else ","))
    cases = load(str(tmp_path), seed=0)
    assert (len(cases.train), len(cases.validation), len(cases.test)) == sizes
    assert all("rows, too" in note for note in cases.notes)


def test_files_of_a_folder_that_are_not_read(tmp_path):
    for name in ("a_TRAIN.txt", "a_TEST.txt", "a_TRAIN.arff", "a.txt"):
        write(tmp_path, name, waves(" "))
    cases = load(str(tmp_path), seed=0, options=TableOptions(label="first"))
    assert cases.notes[0] == (
        f"2 files of {tmp_path.name} are not read, such as 'a.txt': the splits are a_TRAIN.txt, a_TEST.txt"
    )
    write(tmp_path, "b_TRAIN.txt", waves(" "))
    with pytest.raises(UserError, match=r"several files for the train split: a_TRAIN.arff, a_TRAIN.txt, b_TRAIN.txt"):
        load(str(tmp_path), seed=0)
    (tmp_path / "healthy").mkdir()
    (tmp_path / "a_TEST.txt").unlink()
    assert kind_of(str(tmp_path)) == "images"  # folders of classes, beside which a text file stands


def test_spellings_of_a_class_are_one_in_all_files(tmp_path):
    write(tmp_path, "train.csv", labels("ill", "healthy"))
    write(tmp_path, "test.csv", labels("ILL", "healthy"))
    cases = load(str(tmp_path), seed=0)
    assert cases.classes == CLASSES and "'ILL', the first in line 2 of test.csv" in cases.notes[0]


def test_new_cases_have_the_formats_of_the_training_table(tmp_path):
    trained = read_table(write(tmp_path, "a.csv", table(head="")), TableOptions(label="last", no_header=True))
    columns = Columns.learn(trained.names, trained.values)
    for content in ("50;120,5\n", "50;120,5;ill\n", "column 2;column 1\n120,5;50\n"):
        np.testing.assert_array_equal(read_rows(write(tmp_path, "new.txt", content), columns), [[50, 120.5]])
    notes: list[str] = []
    write(tmp_path, "new.txt", "50;120,5;ill\n")
    read_cases(tmp_path / "new.txt", (2,), Scaling((0.0, 0.0), (1.0, 1.0)), columns, notes=notes)
    assert [note.split(" (")[0].split(":")[0] for note in notes] == [
        "new.txt",
        "1 decimal commas, the first one '120,5' in line 1, are read as decimal points",
        "columns of new.txt that the model does not use",
    ]
    signals = load(str(write(tmp_path, "w.ts", described("@data\n", ":"))), seed=0)
    for name, content in (
        ("n.ts", described("@data\n", ":")),
        ("n.txt", "\n".join(" ".join(map(str, r)) for r in WAVE)),
    ):
        found = read_cases(write(tmp_path, name, content), (12, 1), signals.scaling, None)
        np.testing.assert_allclose(signals.scaling.undone(found[3].inputs)[:, 0], WAVE[3], rtol=1e-4, atol=1e-5)


def test_a_workbook_without_the_package_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UserError, match=r"book.xlsx cannot be read: pandas .*backhand\[tables\].*save it as a .csv"):
        load(str(write(tmp_path, "book.xlsx", "PK")), seed=0)


def test_workbooks(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    pytest.importorskip("pyarrow")
    expected = load(str(write(tmp_path, "a.csv", table())), seed=0)
    frame = pandas.DataFrame(ROWS, columns=HEAD.split(","))
    frame.to_parquet(tmp_path / "a.parquet")
    with pandas.ExcelWriter(tmp_path / "a.xlsx") as book:
        frame.to_excel(book, sheet_name="one", index=False)
        frame.to_excel(book, sheet_name="two", index=False)
    for name, notes in (("a.parquet", 0), ("a.xlsx", 1)):
        cases = load(str(tmp_path / name), seed=0)
        np.testing.assert_array_equal(cases.test.pixels, expected.test.pixels)
        assert cases.classes == CLASSES and len(cases.notes) == notes
    with pytest.raises(UserError, match=r"book.xlsx cannot be read as .xlsx"):
        load(str(write(tmp_path, "book.xlsx", "PK\3\4xxxx")), seed=0)


def test_workbooks_that_unpack_to_more_than_the_limit(tmp_path, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD60000"] = "age", 1
    book.save(tmp_path / "far.xlsx")
    assert (tmp_path / "far.xlsx").stat().st_size < 10_000
    monkeypatch.setattr(limits, "default_limit", lambda: 1 << 30)
    with limited_memory(), pytest.raises(UserError, match=r"far.xlsx needs at least .* of memory"):
        load(str(tmp_path / "far.xlsx"), seed=0)
    pandas.DataFrame({"age": [1] * 20_000_000}).to_parquet(tmp_path / "long.parquet")
    assert (tmp_path / "long.parquet").stat().st_size < 100_000
    with limited_memory(), pytest.raises(UserError, match=r"long.parquet needs at least 1.1 GiB of memory"):
        load(str(tmp_path / "long.parquet"), seed=0)
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(200 << 20))
    with pytest.raises(UserError, match=r"bomb.xlsx needs at least 2.0 GiB of memory"):
        load(str(tmp_path / "bomb.xlsx"), seed=0)
