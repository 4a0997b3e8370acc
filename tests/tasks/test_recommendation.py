"""Recommendation as its users meet it: a real run over ratings of one's own, folds, rankings, and mistakes."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import running
from running import finished, once, summary

from tasks.framework.summary import command
from tasks.recommendation import Recommendation

TASK = Recommendation()

process = partial(running.process, "recommendation")
SHORT = ("--features", 4, "--epochs", 12, "--batch-size", 32, "--optimizer.learning-rate", 0.03)
RATE = (*SHORT, "--optimizer.weight-decay", 0.3)


def write_ratings(path: Path) -> None:
    """Two kinds of people who like opposite kinds of films; and one film that only a test could have."""
    random = np.random.default_rng(0)
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(30):
        for time, film in enumerate(random.permutation(20)[:14]):
            liked = (user + film) % 2 == 0
            rows.append(f"user {user},film {film},{(4 if liked else 1) + random.integers(2)},{60 * time}")
    path.write_text("\n".join([*rows, rows[1]]) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    return once(tmp_path_factory, "films", lambda folder: write_ratings(folder / "films.csv"))


@pytest.fixture(scope="session")
def run(tmp_path_factory, films) -> Path:
    return finished(tmp_path_factory, "recommendation", "--data", films / "films.csv", *RATE)


def test_a_run_learns_and_says_what_it_did(films, run):
    said = summary(run)
    assert said.items() >= {"task": "recommendation", "model": "factorization", "objective": "rating"}.items()
    assert said["test"]["rmse"] < 0.75 < 1.2 < said["baselines"]["biases"]["rmse"]
    assert said["test"]["mae"] < said["test"]["rmse"]
    assert said["gradient_check"]["max_relative_error"] < 1e-11
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"{said['test']['rmse']:.4f}" in output and f"{said['baselines']['biases']['rmse']:.4f}" in output
    assert "1 ratings left out" in output


def test_the_report_stands_alone(run):
    plots = {path.stem for path in (run / "plots").glob("*.png")}
    assert plots == {"amounts", "items", "loss", "progress", "gradient_norms", "agreement"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    for section in ("Model and baselines", "Map of the items", "By rating", "Error by what is known"):
        assert section in page
    assert "scripts/run recommendation --data" in page


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == pytest.approx(summary(run)["test"])


def test_predict_ranks_what_the_user_does_not_know_and_says_why(films, run, task):
    done = task("predict", run, "--user", "user 3", "--top", 4)
    assert done.code == 0, done.err
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "│ film" in line]
    ratings = [float(row[2]) for row in rows]
    assert len(rows) == 4 and ratings == sorted(ratings, reverse=True)
    known = re.findall(r"^user 3,(film \d+)", (films / "films.csv").read_text(), re.MULTILINE)
    catalogue = json.loads((run / "catalogue.json").read_text(encoding="utf-8"))
    assert set(rows[0][3].split("; ")) <= set(known) < set(catalogue["items"])
    assert int(rows[0][0].split()[1]) % 2 == 1  # what those with odd numbers like
    assert int(rows[0][3].split("; ")[0].split()[1]) % 2 == 1  # and what it is like


def test_predict_for_somebody_unknown(run, task):
    done = task("predict", run, "--user", "nobody")
    assert done.code == 0
    assert "nobody is not among the 30 users" in " ".join(done.err.split()) and "film" in done.out


def test_export_gives_ratings_and_what_is_known_of_strangers(run):
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    assert process("export", run).code == 0
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    catalogue = json.loads((run / "export" / "catalogue.json").read_text(encoding="utf-8"))
    users, items = (catalogue[name] for name in ("users", "items"))
    pairs = [(f"user {u}", f"film {i}") for u in range(6) for i in range(6)]
    ids = [np.array([names.index(pair[k]) for pair in pairs], np.int32) for k, names in enumerate((users, items))]
    ratings = np.asarray(exported.call(*ids))
    liked = np.array([(int(u.split()[1]) + int(i.split()[1])) % 2 == 0 for u, i in pairs])
    assert ratings[liked].mean() > 4 > 2 > ratings[~liked].mean()
    stranger = np.asarray(exported.call(np.zeros(1, np.int32), np.zeros(1, np.int32)))
    assert 2 < float(stranger[0]) < 4


@pytest.mark.parametrize("model", ["factorization", "autoencoder"])
def test_verify(films, task, model):
    done = task("verify", "--data", films / "films.csv", "--model", model)
    assert done.code == 0, done.out


def test_a_ranking_is_judged_among_all_items(films, task, tmp_path):
    options = ("--data", films / "films.csv", "--objective", "ranking", "--quiet", "--epochs", 2, "--batch-size", 64)
    for model, more in (("implicit", ()), ("factorization", ("--ranking-loss", "pairwise", "--negatives", 3))):
        folder = tmp_path / model
        done = task(*options, "--model", model, "--features", 4, *more, "--run-dir", folder)
        assert done.code == 0, done.err
        said = summary(folder)
        assert set(said["test"]) == {"hr@10", "ndcg@10", "recall@10"}
        assert 0 <= said["test"]["ndcg@10"] <= said["test"]["hr@10"] <= 1
        assert set(said["baselines"]) == {"popularity"}
        assert json.loads(task("evaluate", folder, "--json").out) == pytest.approx(said["test"])
    assert (folder / "plots" / "ranking.png").is_file()
    assert "film" in task("predict", folder, "--user", "user 3").out


def test_folds_are_put_together_and_gone_on_with(films, task, refused, tmp_path):
    folder = tmp_path / "run"
    options = ("--data", films / "films.csv", "--model", "autoencoder", "--hidden", 6, "--epochs", 2)
    done = task(*options, "--session-window", 90, "--folds", 2, "--quiet", "--run-dir", folder)
    assert done.code == 0, done.err
    said, folds = summary(folder), [summary(folder / f"fold_{fold}")["test"] for fold in (1, 2)]
    errors = [its["rmse"] for its in folds]
    assert said["folds"] == folds
    assert said["test"]["rmse"] == pytest.approx(np.mean(errors))
    assert said["test"]["rmse_deviation"] == pytest.approx(np.std(errors, ddof=1))
    assert "biases and session effects" in said["baselines"]
    assert "Fold by fold" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads(task("evaluate", folder, "--json").out) == pytest.approx(said["test"])
    assert task("predict", folder / "fold_2", "--user", "user 3").code == 0
    assert "fold_1" in refused("predict", folder, "--user", "user 3")

    # As if it had been ended before the second fold began.
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "fold_2")
    again = task("--resume", folder, "--quiet")
    assert again.code == 0, again.err
    assert summary(folder)["folds"] == folds


def test_what_a_user_does_wrong(refused, run, films, tmp_path):
    where = ("--run-dir", tmp_path / "run")
    data = ("--data", films / "films.csv")
    assert "nowhere.csv" in refused("--data", tmp_path / "nowhere.csv", *where)
    assert "outside the scale from 1 to 4" in refused(*data, "--scale", 1, 4, *where)
    assert "the lowest rating, then the highest" in refused(*data, "--scale", 5, 1, *where)
    assert "larger than the training set" in refused(*data, "--batch-size", 5000, *where)
    assert "--validation is 1.0" in refused(*data, "--validation", 1, *where)
    assert "--features is 0" in refused(*data, "--features", 0, *where)
    assert "too few for 900 folds" in refused(*data, "--folds", 900, *where)
    assert "to rank, choose" in refused(*data, "--objective", "ranking", "--model", "autoencoder", *where)
    assert "--folds is for ratings" in refused(*data, "--objective", "ranking", "--folds", 2, *where)
    assert "the whole table" in refused(*data, "--model", "autoencoder", "--batch-size", 8, *where)
    untimed = tmp_path / "untimed.tsv"
    untimed.write_text("".join(f"u{i % 5}\ti{i // 5}\t{1 + i % 5}\n" for i in range(40)), encoding="utf-8")
    assert "--time-column is 'when', but" in refused("--data", films / "films.csv", "--time-column", "when", *where)
    few = tmp_path / "few.csv"
    few.write_text("user,item,rating\n1,1,5\n1,2,3\n2,1,4\n", encoding="utf-8")
    assert "a single item with training ratings" in refused("--data", few, "--batch-size", 1, *where)
    assert "no timestamps, which --session-window needs" in refused("--data", untimed, "--session-window", 5, *where)
    same = tmp_path / "same.tsv"
    same.write_text("".join(f"u{i % 5}\ti{i // 5}\t1\t{i}\n" for i in range(40)), encoding="utf-8")
    assert "no validation item" in refused("--data", same, "--objective", "ranking", "--batch-size", 4, *where)
    assert not (tmp_path / "run").exists()
    assert "predict RUN --user" in refused("predict", run)
    assert "holds no run" in refused("predict", tmp_path, "--user", "user 3")


def test_a_catalogue_that_was_edited_is_refused(run, films, refused, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    catalogue = json.loads((moved / "catalogue.json").read_text(encoding="utf-8"))
    catalogue["items"][3] = "another film"
    (moved / "catalogue.json").write_text(json.dumps(catalogue), encoding="utf-8")
    assert "catalogue.json is not as it was when training began" in refused("evaluate", moved)


def test_recipes_are_for_data_objective_and_model():
    task = Recommendation()
    assert task.recipe(None).data == "wine"
    assert task.recipe("movielens-100k").model == "autoencoder"
    assert task.recipe("movielens-100k", "ranking").objective == "ranking"
    config = task.recipe("my.csv", "ranking", "neural")
    assert (config.model, config.stop.metric) == ("neural", "ndcg@10")
    assert command(task, config) == ("scripts/run recommendation --data my.csv --objective ranking --model neural")
