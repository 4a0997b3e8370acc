"""Files of ratings as people have them: each is read as it is meant, with a note on what was guessed, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.rating_files import RatingOptions
from pipeline.data.ratings import load
from pipeline.errors import UserError

RATINGS = [(f"u{u}", f"i{i}", 1 + (u + i) % 5, 1_000_000_000 + 86_400 * (u + i)) for u in range(10) for i in range(8)]
RANKED = {"ranking": True}


def table(head: str, row: str, count: int = 80) -> str:
    """The ratings in the format of a row; {4} is the number of the line, and {5} the day."""
    rows = [row.format(*rating, n, f"2015-03-{1 + n % 30:02}") for n, rating in enumerate(RATINGS[:count])]
    return "".join(f"{line}\n" for line in [*([head] if head else []), *rows])


READ: list[Any] = [
    # file, content, options, whether there are times, notes
    ("ml.csv", table("userId,movieId,rating,timestamp", "{0},{1},{2},{3}"), {}, True, []),
    ("goodbooks.csv", table("user_id,book_id,rating", "{0},{1},{2}"), {}, False, ["columns of"]),
    ("amazon.csv", table("user_id,parent_asin,rating,timestamp", "{0},{1},{2},{3}"), {}, True, ["columns of"]),
    ("review.csv", table("reviewerID,asin,overall,unixReviewTime", "{0},{1},{2},{3}"), {}, True, ["columns of"]),
    (
        "recbole.inter",
        table("user_id:token\titem_id:token\trating:float\ttimestamp:float", "{0}\t{1}\t{2}\t{3}"),
        {},
        True,
        ["taken to be tab"],
    ),
    (
        "bx.csv",
        table('"User-ID";"ISBN";"Book-Rating"', '"{0}";"{1}";"{2}"'),
        {},
        False,
        ["taken to be semicolon", "columns of"],
    ),
    ("quoted.tsv", table('"user"\t"item"\t"rating"', '"{0}"\t"{1}"\t{2}'), {}, False, []),
    ("lastfm.dat", table("userID\tartistID\tweight", "{0}\t{1}\t{2}"), {}, False, ["taken to be tab", "columns of"]),
    (
        "anime.csv",
        table("user_id,anime_id,rating", "{0},{1},{2}") + "u0,i8,-1\n",
        {},
        False,
        ["columns of", "1 ratings of -1 are left out, the first in line 82"],
    ),
    (
        "colons.dat",
        table("user::item::rating::time", "{0}::{1}::{2}::{3}"),
        {},
        True,
        ["taken to be '::'", "columns of"],
    ),
    ("bracket.csv", "[b] {x},i0,3\n" + table("", "{0},{1},{2}"), {}, False, ["does not name its columns"]),
    ("pipe.csv", table("user|item|score", "{0}|{1}|{2}"), {}, False, ["taken to be pipe", "columns of"]),
    ("bare.txt", table("", "{0};{1};{2};{3}"), {}, True, ["taken to be semicolon", "does not name"]),
    (
        "comma.csv",
        table("", "{0};{1};{2},0"),
        {},
        False,
        ["taken to be semicolon", "does not name", "80 ratings with a comma, the first in line 1"],
    ),
    ("iso.csv", table("user,item,rating,timestamp", "{0},{1},{2},{5}T12:00:00Z"), {}, True, []),
    ("date.csv", table("user,item,rating,date", "{0},{1},{2},{5}"), {}, True, ["columns of"]),
    (
        "milli.csv",
        table("user,item,rating,time", "{0},{1},{2},{3}000"),
        {},
        True,
        ["columns of", "read as milliseconds"],
    ),
    ("index.csv", table(",user,item,rating", "{4},{0},{1},{2}"), {}, False, ["not used: 'column 1' (--time-column"]),
    (
        "counted.csv",
        table("", "{4},{0},{1},{2}"),
        {},
        False,
        ["the first column of counted.csv is left out", "does not name"],
    ),
    ("more.csv", table("user,item,rating,time,tag", "{0},{1},{2},{3},x"), {}, True, ["columns of", "not used: 'tag'"]),
    (
        "named.csv",
        table("who,what,how,when", "{0},{1},{2},{3}"),
        {"user_column": "who", "item_column": "What", "rating_column": "how", "time_column": "when"},
        True,
        [],
    ),
    (
        "no_times.csv",
        table("user,item,rating,date", "{0},{1},{2},soon"),
        {"time_column": "none"},
        False,
        ["not used: 'date'"],
    ),
    (
        "zero.csv",
        table("user,item,rating", "{0},{1},{2}").replace(",1\n", ",0\n"),
        {},
        False,
        ["16 ratings are 0, the first in line 2"],
    ),
    ("cp.csv", table("user,item,rating", "{0},{1},{2}") + "caf\xe9,i1,3\n", {}, False, ["cp.csv is read as latin-1"]),
]

REFUSED: list[Any] = [
    ("pairs.csv", table("user,item", "{0},{1}"), {}, {}, "no ratings.*--objective ranking, which needs none"),
    (
        "unknown.csv",
        table("who,what,how", "{0},{1},{2}"),
        {},
        {},
        "no column of the user and the item .*'who', 'what', 'how'; name it with --user-column and --item-column",
    ),
    ("half.csv", table("order_id,product_id,rating", "{0},{1},{2}"), {}, {}, "no column of the user .*--user-column"),
    ("pairs2.csv", table("who,what", "{0},{1}"), {}, RANKED, "--user-column and --item-column"),
    (
        "wrong.csv",
        table("user,item,rating", "{0},{1},{2}"),
        {"time_column": "when"},
        {},
        "--time-column is 'when', but .* has no such column: its first line names",
    ),
    (
        "soon.csv",
        table("user,item,rating,date", "{0},{1},{2},soon"),
        {},
        {},
        "line 2 has the timestamp 'soon'.*--time-column none",
    ),
    (
        "numbers.csv",
        "".join(f"{n},u{n % 9},i{n % 13},{n % 5}\n" for n in range(120)) + "x,u1,i1,3\n",
        {},
        {},
        "line 121 has 'x' in the first column",
    ),
    ("rows.json", '{"user": 1, "item": 2}\n' * 9, {}, {}, "no ratings"),
    ("three.csv", "user,item,rating\n1,1,5\n1,2,3\n2,1,4\n", {}, {}, "single item with training ratings"),
]


def write(folder: Path, name: str, content: str) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode("latin-1"))
    return str(folder / name)


@pytest.mark.parametrize(("name", "content", "options", "has_times", "notes"), READ, ids=[row[0] for row in READ])
def test_what_is_read(tmp_path, name, content, options, has_times, notes):
    data = load(write(tmp_path, name, content), seed=0, options=RatingOptions(**options))
    splits = (data.train, data.validation, data.test)
    found = {
        (data.users[u], data.items[i]): v for part in splits for u, i, v in zip(part.users, part.items, part.values)
    }
    assert {(u, i): v for (u, i), v in found.items() if (u, i) in {rating[:2] for rating in RATINGS}} == {
        (u, i): 0 if name == "zero.csv" and v == 1 else v for u, i, v, _ in RATINGS
    }
    assert (data.train.times is not None) == has_times and len(data.notes) == len(notes), data.notes
    assert all(any(expected in note for note in data.notes) for expected in notes), data.notes


@pytest.mark.parametrize(("name", "content", "columns", "options", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused(tmp_path, name, content, columns, options, message):
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, name, content), seed=0, options=RatingOptions(**columns), **options)


def test_times_are_seconds(tmp_path):
    for name, row in (("a.csv", "{0},{1},{2},2001-09-09T01:46:40+00:00"), ("b.csv", "{0},{1},{2},2001-09-09 01:46:40")):
        data = load(write(tmp_path, name, table("user,item,rating,date", row)), seed=0)
        assert data.train.times is not None and set(data.train.times.tolist()) == {1e9}
    data = load(write(tmp_path, "c.csv", table("user,item,rating,date", "{0},{1},{2},1000000000000")), seed=0)
    assert data.train.times is not None and set(data.train.times.tolist()) == {1e9}


def test_pairs_without_ratings_and_times_are_ranked(tmp_path):
    data = load(write(tmp_path, "a.csv", table("user_id,book_id", "{0},{1}")), seed=0, ranking=True)
    assert (len(data.train), len(data.validation), len(data.test)) == (60, 10, 10)
    assert data.notes[1].startswith("there are no times: a random item of every user is tested")
    other = load(str(tmp_path / "a.csv"), seed=1, ranking=True)
    assert not np.array_equal(data.test.items, other.test.items)  # the order of the lines is no time


def test_minus_one_is_a_rating_where_the_scale_says_so(tmp_path):
    path = write(tmp_path, "a.csv", table("user,item,rating", "{0},{1},{2}") + "u0,i8,-1\n")
    data = load(path, seed=0, scale=(-1.0, 5.0))
    assert len(data.train) + len(data.validation) + len(data.test) == 81 and not data.notes


@pytest.mark.parametrize(("encoding", "notes"), [("utf-8", 0), ("latin-1", 1), ("utf-16", 0)])
def test_titles_in_any_encoding(tmp_path, encoding, notes):
    write(tmp_path, "ml/Ratings.csv", table("userId,movieId,rating", "{0},{1},{2}"))
    (tmp_path / "ml" / "movies.csv").write_bytes("movieId,title\ni1,Am\xe9lie\n".encode(encoding))
    data = load(str(tmp_path / "ml"), seed=0)
    assert data.titles["i1"] == "Am\xe9lie" and len(data.notes) == notes
    write(tmp_path, "ml/tags.csv", "userId,movieId,tag\n")
    assert (
        "1 files of ml are not read, such as 'tags.csv': the ratings are in Ratings.csv"
        in load(str(tmp_path / "ml"), seed=0).notes
    )
