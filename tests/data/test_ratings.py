"""Ratings: what comes out of files and of simulated tasters, and what is said about those that are wrong."""

from functools import partial

import numpy as np
import pytest

from fuzzing.attempt import limited_memory
from pipeline.data.baseline import SESSION_DAMPING, Baseline, session_effects
from pipeline.data.implicit_feedback import LeaveOneOut, NegativeSampling, ratings_matrix
from pipeline.data.ratings import Ratings, load
from pipeline.errors import UserError

read = partial(load, seed=0)


@pytest.fixture
def file(tmp_path):
    def write(name: str, content: str, encoding: str = "utf-8") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(encoding))
        return str(path)

    return write


def lines(separator: str = "\t", count: int = 30) -> str:
    rows = [(f"u{i % 5}", f"film {i // 5}", 1 + i % 5, 100 * i) for i in range(count)]
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def triples(data) -> set[tuple[str, str, float]]:
    splits = (data.train, data.validation, data.test)
    return {
        (data.users[u], data.items[i], float(value))
        for split in splits
        for u, i, value in zip(split.users, split.items, split.values)
    }


def test_every_kind_of_file_holds_the_same(file):
    named = "timestamp,movieId,userId,rating\n" + "".join(
        '{3},"{1}",{0},{2}\n'.format(*line.split("\t")) for line in lines().splitlines()
    )
    paths = [file(name, lines(by)) for name, by in (("a.tsv", "\t"), ("b.dat", "::"), ("c.csv", ","), ("d.txt", ";"))]
    data = [read(path) for path in (*paths, file("e.csv", named.replace("\n", "\r\n")))]
    assert len({frozenset(triples(data)) for data in data}) == 1
    assert data[0].scale == (1.0, 5.0) and data[0].users[0] == ""
    assert len(data[0].train) + len(data[0].validation) + len(data[0].test) == 30
    spaces = read(file("f.txt", lines(" ").replace("film ", "film-")))
    assert len(triples(spaces)) > 20


def test_movielens_files_official_folds_and_titles(file, tmp_path):
    rows = [f"{u}\t{i}\t{1 + (u + i) % 5}\t{u * i}\n" for u in range(1, 6) for i in range(1, 11)]
    file("movielens-100k/u.data", "".join(rows))
    file("movielens-100k/u.item", "1|Les Misérables|01-Jan-1995||\n2|Élisa|x||\n", "latin-1")
    folder = str(tmp_path / "movielens-100k")
    by_lines = read(folder, folds=5, fold=2)
    assert (by_lines.test.users == 0).all()  # all that user 2 has rated, so that training knows nothing of it
    assert by_lines.titles["1"] == "Les Misérables"
    file("movielens-100k/u2.base", "".join(rows[:25]))
    file("movielens-100k/u2.test", "".join(rows[40:]))
    assert len(read(folder, folds=5, fold=2).test) == 10
    file("ml/movies.csv", 'movieId,title\n1,"Amélie, the film"\n')
    file("ml/ratings.csv", "userId,movieId,rating,timestamp\n" + "".join(",".join(r.split("\t")) for r in rows))
    assert read(str(tmp_path / "ml")).titles["1"] == "Amélie, the film"


def test_random_folds_hold_every_rating_once(file):
    path = file("a.tsv", lines())
    tests = [read(path, folds=3, fold=fold).test for fold in (1, 2, 3)]
    assert [len(part) for part in tests] == [10, 10, 10]
    assert len({time for part in tests if part.times is not None for time in part.times.tolist()}) == 30


def test_the_last_item_of_every_user_is_left_out(file):
    data = read(file("a.tsv", lines() + "one\tfilm 1\t5\t3\n"), ranking=True)
    assert len(data.test) == len(data.validation) == 5 and len(data.train) == 21
    for users in range(2, 7):  # behind the one with a single item
        splits = (data.train, data.validation, data.test)
        of = [split.times[split.users == users] for split in splits if split.times is not None]
        assert of[0].max(initial=-1) < of[1].min(initial=1e9) <= of[1].max(initial=0) < of[2].min(initial=1e9)
    assert "1 users have fewer than 3 items" in data.notes[1]


def test_of_duplicates_the_latest_counts_and_a_note_says_so(file):
    data = read(file("a.tsv", lines() + "u0\tfilm 0\t4\t7\nu0\tfilm 0\t2\t5\n"))
    assert {part for part in triples(data) if part[:2] == ("u0", "film 0")} == {("u0", "film 0", 4.0)}
    assert "2 ratings left out (the first: line 1)" in data.notes[1] and "by its timestamp" in data.notes[1]


def test_unseen_users_and_items_have_a_note_and_a_baseline(file, tmp_path):
    file("folds/u1.base", lines())
    file("folds/u1.test", "u0\tnew film\t3\t5\nstranger\tfilm 1\t3\t5\nstranger\tnew film\t3\t5\n")
    data = read(str(tmp_path / "folds"))
    assert [note.split(":")[0] for note in data.notes] == [
        "2 test ratings are of users without a training rating",
        "2 test ratings are of items without a training rating",
    ]
    baseline = Baseline.of(data.train, len(data.users), len(data.items))
    answers = baseline(data.test.users, data.test.items)
    u0, film_1 = data.users.index("u0"), data.items.index("film 1")
    train = np.array([baseline.users[u0], baseline.items[film_1], 0], np.float32)
    np.testing.assert_allclose(answers, np.float32(baseline.mean) + train, rtol=1e-6)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "a.tsv is empty"),
        ("user\titem\trating\n", "has no ratings: its only line has the names"),
        (lines() + "u1\tfilm 2\n", "line 31 has 2 fields, and the first line 4"),
        (lines() + "u1\tfilm 2\tgood\t3\n", "line 31 has the rating 'good', which is not a number"),
        (lines() + "u1\tfilm 2\tnan\t3\n", "line 31 has the rating 'nan', which is not finite"),
        (lines() + "u1\tfilm 2\t1e39\t3\n", r"line 31 has the rating '1e39', which is not finite or beyond 1e\+37"),
        (lines() + "u1\tfilm 2\t3\t1e39\n", "line 31 has the timestamp '1e39', which is not finite"),
        (lines() + "u1\tfilm 2\t" + "9" * 5000 + "\t3\n", r"line 31 has the rating '9+ \[...\] 9+', which is not"),
        (lines() + "\tfilm 2\t3\t3\n", "line 31 has no user"),
        (lines() + "u1\tfilm 9\t7\t3\n", "line 31 has the rating 7, outside the scale from 1 to 5"),
        ("a\tb\nc\td\n", "has no ratings: its lines have a user and an item and no column of ratings; name one"),
        ("a\tb\t1\t2\t3\n", "has 5 columns, and its first line does not name them"),
        ("a\tb\t1\t2\n", "too few ratings"),
    ],
)
def test_what_is_wrong_with_a_file(file, content, message):
    with pytest.raises(UserError, match=message):
        read(file("a.tsv", content), scale=(1.0, 5.0))


def test_names_that_are_numbers_are_in_their_order_whatever_their_length(file):
    names = ["9", "10", "007", "7", "0", "9" * 5_000, "10" * 3_000, "b", "a10", "\N{SUPERSCRIPT TWO}"]
    data = read(file("a.tsv", "".join(f"u{i}\t{names[i % 10]}\t3\n" for i in range(200))))
    assert list(data.items) == ["", "0", "007", "7", "9", "10", "9" * 5_000, "10" * 3_000, "a10", "b", "²"]


def test_a_long_name_takes_no_memory_for_every_rating(file):
    rows = "".join(f"u{i % 500}\tfilm {i // 500}\t3\t{i}\n" for i in range(5_000))
    path = file("a.tsv", rows + "x" * 100_000 + "\tfilm 1\t3\t3\n")
    with limited_memory():  # a matrix of 5,001 names, all as wide as the longest, takes 2 GB
        assert len(read(path, ranking=True).test) == 500


def test_what_is_wrong_with_a_ranking_and_with_paths(file, tmp_path):
    with pytest.raises(UserError, match="no user with at least 3 items"):
        read(file("b.tsv", lines(count=5)), ranking=True)
    with pytest.raises(UserError, match="neither a known set of ratings"):
        read(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="has none of the files"):
        read(str(tmp_path.parent))


def test_tasters_leave_a_floor_and_baselines_stay_above_it():
    wine = read("wine")
    baseline = Baseline.of(wine.train, len(wine.users), len(wine.items))
    error = wine.test.values - baseline(wine.test.users, wine.test.items)
    assert wine.floor is not None and 0.4 < wine.floor < np.sqrt(np.mean(error**2)) < wine.test.values.std()
    assert len(wine.items) == 179 and "cultivar" in wine.titles[wine.items[1]]


def test_session_effects_follow_their_definition():
    random = np.random.default_rng(0)
    users, times = random.integers(1, 4, 40), random.integers(0, 50, 40).astype(np.float64)
    train = Ratings(users[:30], users[:30], np.ones(30, np.float32), times[:30])
    others = Ratings(users[30:], users[30:], np.ones(10, np.float32), times[30:])
    residuals = random.normal(size=30)
    weights = np.exp(-np.abs(times[:, None] - times[None, :30]) / 7) * (users[:, None] == users[None, :30])
    weights[np.arange(30), np.arange(30)] = 0
    expected = weights @ residuals / (weights.sum(1) + SESSION_DAMPING)
    np.testing.assert_allclose(session_effects(train, residuals, train, 7.0), expected[:30], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(session_effects(train, residuals, others, 7.0), expected[30:], rtol=1e-5, atol=1e-6)


def test_negatives_were_not_chosen_and_the_item_left_out_is_hidden():
    random = np.random.default_rng(0)
    users, items = np.repeat(np.arange(1, 5, dtype=np.int32), 3), random.integers(1, 30, 12).astype(np.int32)
    chosen = Ratings(users, items, np.ones(12, np.float32))
    (part, candidates), targets = NegativeSampling(chosen, chosen, 1000, 50, 0).take(np.arange(12)[::-1])
    assert candidates.shape == (12, 51) and (candidates[:, 0] == items[::-1]).all() and candidates.min() > 0
    assert (targets.values == candidates).all() and (part == users[::-1]).all()
    train = ratings_matrix(chosen, np.ones(12, bool), (5, 30))
    (_, seen), labels = LeaveOneOut(chosen, train).take(np.arange(12))
    assert not seen[np.arange(12), labels].any() and train[users, items].all()
