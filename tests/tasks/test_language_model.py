"""The language model as its users meet it: a real run over a short text of one's own, and what they may do wrong."""

import json
import math
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import running
from running import finished, once, summary

from pipeline.decoding.sampling import make_continuation
from pipeline.layers.base import Context
from pipeline.losses.base import Targets
from pipeline.losses.vocabulary import VocabularyCrossEntropy
from pipeline.models.language import language_objective, lstm, transformer
from tasks.language_model import LanguageModel

TASK = LanguageModel()

process = partial(running.process, "language_model")
SIZES = ("--context", 16, "--layers", 2, "--width", 16, "--heads", 2)
SHORT = (*SIZES, "--epochs", 3, "--batch-size", 8, "--seed", 3)


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A text with a rule that is soon learnt: what counts up goes on counting up."""
    counting = "".join(f"{i % 10}, " + "\n" * (i % 10 == 9) for i in range(3000))
    make = lambda folder: (folder / "counting.txt").write_text(counting, encoding="utf-8")  # noqa: E731
    return once(tmp_path_factory, "text", make) / "counting.txt"


@pytest.fixture(scope="session")
def run(tmp_path_factory, text) -> Path:
    return finished(tmp_path_factory, "language_model", "--data", text, *SHORT, "--verify-every", 40)


def test_a_run_learns_and_says_what_it_did(run, text):
    said = summary(run)
    named = {"task": "language_model", "data": str(text), "model": "transformer", "gradient": "manual", "seed": 3}
    assert said.items() >= named.items()
    test = said["test"]
    assert test["loss"] < 0.3 * math.log(14)  # of 14 characters
    assert test["perplexity"] == pytest.approx(math.exp(test["loss"]))
    assert test["bits_per_character"] == pytest.approx(test["loss"] / math.log(2))
    assert 0 < said["gradient_check"]["max_relative_error"] < 1e-11
    output = (run / "output.txt").read_text(encoding="utf-8")
    assert f"{test['loss']:.4f} nats per token" in output
    assert "warning" not in output.lower()


def test_the_report_stands_alone_and_shows_what_it_writes(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert {path.stem for path in (run / "plots").glob("*.png")} == {"loss", "gradient_norms", "agreement"}
    assert not re.search(r"""\b(src|srcset|href)\s*=\s*["'](?!data:)""", page)
    assert "A sample" in page and "4, 5, 6" in page
    assert "scripts/run language_model --data" in page


def test_evaluate(run, task):
    assert json.loads(task("evaluate", run, "--json").out) == summary(run)["test"]


def test_a_prompt_is_gone_on_from(run, task):
    prompts = "3, 4, ", "7"
    done = task("predict", run, *prompts, "--temperature", 0, "--length", 40)
    assert done.code == 0
    first, second = done.out.split("-" * 40 + "\n")
    assert first.startswith("3, 4, 5, 6, 7, 8, 9, \n0, 1, 2, ")
    assert len(first) == len("3, 4, ") + 40 + 1 and len(second) == 1 + 40 + 1
    assert task("predict", run, *prompts, "--top-k", 1, "--length", 40).out == done.out
    hot = "--temperature", 2, "--length", 40
    drawn, others = (task("predict", run, "3, ", *hot, "--seed", seed).out for seed in (1, 2))
    assert drawn != others


def test_a_prompt_with_unknown_characters_is_continued(run, task):
    same, options = task("predict", run, "3, 4, ", "--length", 9), ("--length", 9)
    done = task("predict", run, "3,x 4, ", "§", "3, " * 9, *options)
    first, second, _ = done.out.split("-" * 40 + "\n")
    assert done.code == 0 and first == same.out.replace("3, 4", "3,x 4")
    assert len(second) == 1 + 9 + 1 and "\N{REPLACEMENT CHARACTER}" not in done.out
    assert done.err.splitlines() == [
        "prompt 1: the model does not know the characters 'x', and leaves them out",
        "prompt 2: the model does not know the characters '§', and no others",
        "prompt 3: the model reads the last 8 of 27 characters (half of --context)",
    ]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1000.0}, {"temperature": 9.0, "top_k": 2}])
def test_excluded_ids_are_never_drawn(options):
    objective, excluded = language_objective(lstm(4, 8, 1), 4), (0, 2)
    with jax.enable_x64(False):
        ids = jax.ShapeDtypeStruct((1, 8), np.int32)
        params = objective.init(jax.random.key(0), (ids, Targets(ids)))
        generate = make_continuation(objective, 8, excluded=excluded, **options)
        drawn = generate(params, np.array([1], np.int32), 60, jax.random.key(0))
    assert not set(drawn.tolist()) & set(excluded)


def test_verify(task, text):
    done = task("verify", "--data", text)
    assert done.code == 0, done.out
    assert "embedding" in done.out


def test_export_gives_what_the_model_gives(run):
    # In a process of its own: this one's checks of shapes take a symbolic batch for no number.
    assert process("export", run).code == 0
    exported = jax.export.deserialize(bytearray((run / "export" / "model.jax").read_bytes()))
    vocabulary = json.loads((run / "export" / "vocabulary.json").read_text(encoding="utf-8"))["characters"]
    ids = np.asarray([[vocabulary.index(c) for c in "1, 2, 3, 4, 5, 6"]], np.int32)
    assert vocabulary[np.asarray(exported.call(ids))[0, -1].argmax()] == ","


@pytest.mark.parametrize("model", [transformer(11, 16, 2, 2), lstm(11, 16, 2)], ids=["transformer", "lstm"])
def test_greedy_text_is_what_the_whole_model_finds_likeliest(model):
    """Step by step from a cache, also where the context is full, as by running the model on all of the window."""
    objective, loss, context = language_objective(model, 11), VocabularyCrossEntropy(11), 8
    prompt = np.array([3, 1, 4, 1, 5], np.int32)
    ids = jax.ShapeDtypeStruct((1, context), np.int32)
    with jax.enable_x64(False):
        params = objective.init(jax.random.key(0), (ids, Targets(ids)))
        drawn = make_continuation(objective, context, temperature=0.0)(params, prompt, 9, jax.random.key(0))
        both, text, start = objective.expand(params), list(prompt), 1
        for following in drawn:
            if len(text) - start == context:
                start = len(text) - context // 2
            h = model.apply(both["model"], jnp.asarray([text[start:]], np.int32), Context())
            logits = np.asarray(loss.logits(both["loss"], h[:, -1]))[0]
            assert logits[following] == pytest.approx(logits.max(), abs=1e-5)
            text.append(int(following))
    assert len(drawn) == 9


def test_bfloat16_trains_and_stays_a_float32_model(task, text, tmp_path):
    done = task("--data", text, *SIZES, "--epochs", 1, "--batch-size", 64, "--precision", "bfloat16", "--quiet",
                "--model", "lstm", "--run-dir", tmp_path / "run")  # fmt: skip
    assert done.code == 0, done.err
    said = summary(tmp_path / "run")
    assert said["gradient_check"]["max_relative_error"] < 1e-10
    params = LanguageModel().trained(tmp_path / "run").params
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_what_a_user_does_wrong(refused, run, text, tmp_path):
    where = ("--run-dir", tmp_path / "run")
    assert "has no text" in refused("--data", _file(tmp_path, b""), *where)
    assert "line 2 has the byte 0xe9" in refused("--data", _file(tmp_path, b"a\ncaf\xe9"), *where)
    assert "nowhere.txt" in refused("--data", tmp_path / "nowhere.txt", *where)
    assert "--data is empty; it must be one of python, shakespeare, or the path" in refused("--data", "", *where)
    (tmp_path / "texts.zip").write_bytes(b"PK")
    assert "texts.zip is an archive; unpack it" in refused("--data", tmp_path / "texts.zip", *where)
    assert "smaller --context" in refused("--data", text, "--context", 5000, *where)
    assert "a multiple of 8" in refused("--data", text, "--width", 20, "--heads", 4, *where)
    assert "--dropout is 1.0" in refused("--data", text, "--dropout", 1, *where)
    assert "larger than the training set" in refused("--data", text, "--batch-size", 5000, *where)
    assert not (tmp_path / "run").exists()
    assert "is empty" in refused("predict", run, "")
    assert "predict RUN" in refused("predict", run)
    assert "--temperature is -1.0" in refused("predict", run, "1", "--temperature", -1)
    assert "holds no run" in refused("predict", tmp_path, "1")


def _file(folder: Path, content: bytes) -> Path:
    file = folder / "text.txt"
    file.write_bytes(content)
    return file
