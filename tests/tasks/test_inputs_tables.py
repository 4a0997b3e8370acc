"""Tables, signals and ratings as users have them: what the account says of them, or what the refusal says."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from inputs import Case, Content, check, read, refused, saved

from tasks.medical_diagnosis import MedicalDiagnosis
from tasks.recommendation import Recommendation

TASKS = MedicalDiagnosis(), Recommendation()
HEAD = "age,bp,label"


def table(
    head: str = HEAD, row: str = "{0},1{0}.5,{1}", classes: Sequence[str] = ("ill", "well"), more: str = ""
) -> str:
    """40 rows: {0} is the row's number from 10, {1} its class, {2} its number from 0."""
    rows = [row.format(10 + i, classes[i % len(classes)], i) for i in range(40)]
    return "\n".join([head, *rows][not head :]) + "\n" + more


def workbook(kind: str, **options: Any) -> bytes:
    """An Excel or Parquet file of ``table`` with a pandas index that begins at 3."""
    pandas = pytest.importorskip("pandas")
    values = [line.split(",") for line in table().split()[1:]]
    frame = pandas.DataFrame(values, columns=HEAD.split(","), index=range(3, 43))
    return saved(lambda file: getattr(frame, f"to_{kind}")(file, **options))


def with_pandas(content: bytes) -> Callable[[Path], object]:
    """A file of this content, for a case in which pandas reads it."""

    def write_file(path: Path) -> None:
        pytest.importorskip("pandas")
        path.write_bytes(content)

    return write_file


def waves(separator: str, row: str, lengths: Sequence[int] = (8,), missing: str = "") -> str:
    """40 signals: {0} is the class, 1 or 2, {1} the samples."""
    lines = []
    for i in range(40):
        length = lengths[i % len(lengths)]
        samples = [str(((i + 1) * j % 7) / 4 + i % 2 + 0.1) for j in range(length)] + [missing] * (
            max(lengths) - length
        )
        lines.append(row.format(i % 2 + 1, separator.join(filter(None, samples))))
    return "\n".join(lines) + "\n"


NO_HEADER = "--no-header --label last"
DIAGNOSIS = {
    "commas": read("a.csv", table(), "27 train", "of 2 findings", "ill 13, well 14"),
    "upper-case suffix": read("UPPER.CSV", table(), "27 train"),
    "semicolons and decimal commas": read(
        "a.csv", table("age;bp;label", "{0};1{0},5;{1}"), "semicolon", "40 decimal commas"
    ),
    "semicolons": read("a.csv", table("age;bp;label", "{0};1{0}.5;{1}"), "its delimiter is taken to be semicolon"),
    "tabs": read("tabs.txt", table("age\tbp\tlabel", "{0}\t1{0}\t{1}"), "its delimiter is taken to be tab"),
    "pipes": read("a.data", table("age|bp|label", "{0}|1{0}|{1}"), "its delimiter is taken to be pipe"),
    "another delimiter": read("a.csv", table("age~bp~label", "{0}~1{0}~{1}"), "27 train", options="--delimiter ~"),
    "Excel's first line": read("a.csv", table("sep=;\nage;bp;label", "{0};1{0}.5;{1}"), "27 train"),
    "white space, as R writes": read(
        "r.txt", table('"age" "label"', '"{2}" {0} "{1}"'), "white space", "has no name, is left out"
    ),
    "gzip": read("a.csv.gz", gzip.compress(table().encode(), mtime=0), "27 train"),
    "Excel": read(
        "a.xlsx", lambda path: path.write_bytes(workbook("excel")), "27 train", "(the first: '3'; --keep-row-numbers"
    ),
    "Parquet": read("a.parquet", lambda path: path.write_bytes(workbook("parquet")), "27 train"),
    "no Excel file": refused(
        "a.xlsx", with_pandas(b"PK\3\4xxxx"), "cannot be read as .xlsx", "save it again, or as a .csv file"
    ),
    "another format": refused("a.feather", b"ARROW1", "is not a data set; known ones are breast-cancer"),
    "ARFF": read(
        "a.arff", table("@relation h\n@attribute age real\n@attribute label {ill,well}\n@data", "{0},{1}"), "27 train"
    ),
    "a pandas index": read(
        "a.csv", table(f",{HEAD}", "{2},{0},7,{1}"), "the first column, which has no name, is left out"
    ),
    "an index from another number": read(
        "a.csv", table(f",{HEAD}", "9{2},{0},7,{1}"), "(the first: '90'; --keep-row-numbers"
    ),
    "an index that is kept": read(
        "a.csv", table(f",{HEAD}", "9{2},{0},7,{1}"), "of 3 findings", options="--keep-row-numbers"
    ),
    "a column without a name": refused(
        "a.csv", table("age,,label", "{0},{0}.5,{1}"), "column 2 has no name in the first line"
    ),
    "a title": refused("a.csv", "Patients,,\n" + table(), "remove what stands before the line of the names"),
    "trailing delimiters": read("a.csv", table(f"{HEAD},", "{0},7{0},{1},"), "the delimiter at the ends of lines"),
    "a trailing delimiter in the heading": read("a.csv", table(f"{HEAD},"), "the delimiter at the ends of lines"),
    "spaces before quotation marks": read("a.csv", table('"age", "label"', '{0}, "{1}"'), "ill 13, well 14"),
    "percentages": read(
        "a.csv", table("age;label", "{0},5%;{1}"), "the percent signs are left out (the first: '10,5%')"
    ),
    "no heading": refused("wdbc.data", table("", "{0},7{0},{1}"), "looks like a row", "--no-header", "as in --label 2"),
    "no heading, as an option says": read("a.data", table("", "{0},7{0},{1}"), "27 train", options=NO_HEADER),
    "measures without a heading": refused(
        "pima.csv", table("", "{0},1{0}.5,0.6,{2}"), "the numbers are unlike each other", "use --no-header", "--signals"
    ),
    "measures and the class's place": refused(
        "a.csv", table("", "{0},1{0}.5,0.6,1"), "use --no-header", options="--label last"
    ),
    "columns that are ignored": refused(
        "a.csv", table(), "no column besides 'label'", options="--ignore age --ignore bp"
    ),
    "columns that are ignored at once": read("a.csv", table(), "of 1 findings", options="--ignore age"),
    "a number beyond float32": refused(
        "a.csv", table(row="1e39,{0},{1}"), "line 2 has '1e39' in column 'age'", options="--batch-size 16"
    ),
    "a text among numbers": refused(
        "a.csv", table(more="Total,,ill\n"), "line 42 has 'Total' in column 'age'", "--missing"
    ),
    "missing numbers": read(
        "a.csv", table(more="?,NA,ill\n"), "2 values are missing (the first: line 42, column 'age')"
    ),
    "a code for missing numbers": read("a.csv", table(more="-9,1,ill\n" * 2), "has -9 in 2 rows", "--missing -9"),
    "another column of the diagnosis": refused(
        "a.csv", table("age,bp,outcome"), "names 'age', 'bp', 'outcome'; name one", "--label"
    ),
    "the diagnosis twice": read(
        "a.csv",
        table("age,label,Label", "{0},{1},{1}"),
        "column 'Label' says the diagnosis of every row",
        "--ignore Label",
    ),
    "a quantity": refused("a.csv", table(row="{0},1,{0}.7"), "a target of regression"),
    "no diagnosis in a row": refused("a.csv", table(more="5,5,\n"), "line 42 has no diagnosis in column 'label'"),
    "spellings of a class": read(
        "a.csv",
        table(classes=("ill", "well", "Well ")),
        "13 rows with the class 'Well ', the first in line 4",
        "--keep-spellings",
    ),
    "0 and 0.0": read(
        "a.csv",
        table(classes=("0", "1", "0.0")),
        "rows with the class '0.0', the first in line 4 of a.csv, count as '0'",
    ),
    "spellings that are kept": read(
        "a.csv", table(classes=("0", "1", "0.0")), "0 9, 0.0 9", options="--keep-spellings"
    ),
    "None is a class": read(
        "a.csv", table(classes=("None", "Apnea")), "have 'None' as their diagnosis, which counts as a class"
    ),
    "a class of one row": refused("a.csv", table(more="5,5,odd\n"), "class 'odd' has only one training example"),
    "train, val and test": read(
        "a", {f"{part}.csv": table() for part in ("train", "val", "test")}, "40 train, 40 validation, 40 test"
    ),
    "a test file without labels": read(
        "a",
        {"train.csv": table(), "test.csv": "age,bp\n1,2\n", "sample.csv": "id\n1\n"},
        "test.csv is not read: it has no column 'label'",
        "1 files of a are not read, such as 'sample.csv'",
    ),
    "latin-1": read("a.csv", table("âge,bp,label").encode("latin-1"), "a.csv is read as latin-1: it is not UTF-8"),
    "Cyrillic": refused(
        "a.csv", table("возраст,давление,диагноз").encode("cp1251"), "name its encoding with --encoding, such as cp1251"
    ),
    "UTF-16": read("a.csv", table().encode("utf-16"), "27 train"),
    "signals, the class first": read(
        "W_TRAIN", waves("  ", "  {0}.0  {1}"), "of shape 8x1", "white space", "its first number is the class"
    ),
    "signals, tabs": read("a.tsv", waves("\t", "{0}\t{1}"), "1 13, 2 14"),
    "signals of sktime": read("a.ts", waves(",", "{1}:{0}"), "of shape 8x1"),
    "signals of several channels and lengths": read(
        "a.ts",
        waves(",", "{1}:{1}:{0}", (6, 8, 7)),
        "of shape 8x2",
        "27 of 40 signals of a.ts have other than 8 samples",
    ),
    "shorter signals of the UCR archive": read(
        "a.tsv",
        waves("\t", "{0}\t{1}", (6, 8), "NaN"),
        "20 of 40 signals of a.tsv have other than 8 samples, and are shorter",
    ),
    "a signal with a gap": refused("a.tsv", waves("\t", "{0}\tNaN\t{1}"), "line 1 has NaN as sample 1"),
}


def ratings(head: str, row: str) -> str:
    """240 ratings: {0} is the user, {1} the item, {2} the rating, {3} the second, {4} the day, {5} the line."""
    rows = [
        row.format(u + 1, (u + i) % 20 + 101, (u * i) % 5 + 1, 978300000 + 60 * i, f"2024-01-{i + 1:02}", 8 * u + i)
        for u in range(30)
        for i in range(8)
    ]
    return "\n".join([head, *rows][not head :]) + "\n"


def frame(kind: str) -> bytes:
    pandas = pytest.importorskip("pandas")
    rows = [line.split(",") for line in ratings("", "{0},{1},{2}").split()]
    return saved(getattr(pandas.DataFrame(rows, columns=["user_id", "item_id", "rating"]), f"to_{kind}"))


def movielens(encoding: str) -> dict[str, Content]:
    titles = "".join(f"{i}::Misérables, Les (1995)::Drama\n" for i in range(101, 121))
    return {"ratings.dat": ratings("", "{0}::{1}::{2}::{3}"), "movies.dat": titles.encode(encoding)}


PAIRS = ratings("user_id,book_id", "{0},{1}")
ALL = "30 users, 20 items"
RATINGS = {
    "MovieLens' names": read("a.csv", ratings("userId,movieId,rating,timestamp", "{0},{1},{2},{3}"), ALL),
    "goodbooks": read("a.csv", ratings("user_id,book_id,rating", "{0},{1},{2}"), "'book_id' is the item"),
    "anime, where -1 is no rating": read(
        "a.csv",
        ratings("user_id,anime_id,rating", "{0},{1},{2}") + "1,107,-1\n",
        "'anime_id' is the item",
        "1 ratings of -1 are left out",
    ),
    "Amazon": read(
        "a.csv", ratings("user_id,parent_asin,rating,timestamp", "{0},B{1},{2}.0,{3}"), "'parent_asin' is the item"
    ),
    "Amazon's reviews": read(
        "a.csv", ratings("reviewerID,asin,overall,unixReviewTime", "A{0},B{1},{2}.0,{3}"), "'overall' is the rating"
    ),
    "RecBole": read("a.inter", ratings("user_id:token\titem_id:token\trating:float", "{0}\t{1}\t{2}"), ALL),
    "Book-Crossing": read(
        "a.csv", ratings('"User-ID";"ISBN";"Book-Rating"', '"{0}";"{1}";"{2}"'), "'ISBN' is the item"
    ),
    "Last.fm": read(
        "a.dat", ratings("userID\tartistID\tweight", "{0}\t{1}\t{2}00"), "if they count something, such as plays"
    ),
    "quoted and tabs": read("a.tsv", ratings('"user"\t"item"\t"rating"', '"{0}"\t"{1}"\t{2}'), ALL),
    "JSON": read(
        "a.jsonl",
        "".join(json.dumps({"user": str(i % 9), "item": f"i{i % 7}", "stars": i % 5}) + "\n" for i in range(63)),
        "'stars' is the rating",
    ),
    "Parquet": read("a.parquet", lambda path: path.write_bytes(frame("parquet")), ALL),
    "Excel": read("a.xlsx", lambda path: path.write_bytes(frame("excel")), ALL, "not used: 'column 1'"),
    "dates": read("a.csv", ratings("user,item,rating,date", "{0},{1},{2},{4}"), "'date' is the timestamp"),
    "ISO times": read("a.csv", ratings("user,item,rating,timestamp", "{0},{1},{2},{4}T10:00:00Z"), ALL),
    "other dates": refused(
        "a.csv", ratings("user,item,rating,date", "{0},{1},{2},3/{2}/2015"), "line 2 has", "or use --time-column none"
    ),
    "names that are not known": refused(
        "a.csv", ratings("who,what,rating", "{0},{1},{2}"), "--user-column and --item-column"
    ),
    "columns by name": read(
        "a.csv", ratings("who,what,rating", "{0},{1},{2}"), ALL, options="--user-column who --item-column what"
    ),
    "columns by number": read(
        "a.csv", ratings("", "{1},{0},{2}"), ALL, options="--user-column 2 --item-column 1 --rating-column 3"
    ),
    "numbers in the first row, too": read(
        "a.csv",
        "2,1,3\n" + ratings("", "{1},{0},{2}"),
        "174 train",
        options="--user-column 2 --item-column 1 --rating-column 3",
    ),
    "pairs": refused("a.csv", PAIRS, "choose --objective ranking, which needs none"),
    "pairs that are ranked": read(
        "a.csv", PAIRS, ALL, "a random item of every user is tested", options="--objective ranking"
    ),
    "times in place of ratings": refused(
        "a.tsv", ratings("", "{0}\t{1}\t{3}"), "which are times rather than ratings", "--time-column 3"
    ),
    "row numbers": read("a.csv", ratings("", "{5},{0},{1},{2}"), "the first column of a.csv is left out", ALL),
    "a pandas index": read("a.csv", ratings(",user,item,rating", "{5},{0},{1},{2}"), "not used: 'column 1'", ALL),
    "one item": refused("a.csv", "user,item,rating\n1,1,5\n1,2,3\n2,1,4\n", "single item", options="--batch-size 1"),
    "titles in UTF-8": read("ml-10m", movielens("utf-8"), ALL),
    "titles in latin-1": read("ml-1m", movielens("latin-1"), "movies.dat is read as latin-1: it is not UTF-8"),
    "a folder of Book-Crossing": read(
        "bx",
        {"BX-Book-Ratings.csv": ratings('"User-ID";"ISBN";"Book-Rating"', '"{0}";"{1}";"{2}"'), "BX-Users.csv": "a\n"},
        ALL,
        "1 files of bx are not read, such as 'BX-Users.csv'",
    ),
    "a column for each item": refused("a.csv", "user,film a,film b,film c\n1,5,,3\n2,,4,\n", "a column for each item"),
    "words": read("a.csv", ratings("user,item,rating", "{0},{1},like"), "'like' as 1"),
    "a rating again": read(
        "a.csv", ratings("user,item,rating", "{0},{1},{2}") + "1,101,5\n", "1 ratings left out (the first: line 2)"
    ),
}


@pytest.mark.parametrize("kind", DIAGNOSIS)
def test_tables_and_signals_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = DIAGNOSIS[kind]
    check(TASKS[0], case, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("kind", RATINGS)
def test_ratings_are_read_as_the_account_says_or_refused(kind, tmp_path, capsys, monkeypatch):
    case: Case = RATINGS[kind]
    check(TASKS[1], case, tmp_path, capsys, monkeypatch)
