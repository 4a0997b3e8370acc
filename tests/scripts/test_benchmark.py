"""The benchmark measures everything we have, its counterparts compute the same, and its rows are as agreed."""

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import benchmark
import pipeline.layers
import pipeline.losses
from benchmarks import flax_counterparts, gradients, measure
from benchmarks.cases import CASES, Case
from benchmarks.table import larger, slower, table
from command_line import run
from pipeline.errors import UserError
from pipeline.layers.base import Context, Layer, children
from pipeline.layers.objective import Objective
from pipeline.losses.vocabulary import VocabularyCrossEntropy

ROOT = Path(__file__).parents[2]
LAYERS_AND_STEPS = [case for case in CASES if case.kind != "loss"]
WITHOUT_TORCH = (
    *("drop_path", "flatten", "random_convolutions", "reshape", "transposed", "recommendation", "speech_recognition"),
    *("biased_factorization", "interaction", "svd_plus_plus"),
    "lstm_with_state",  # as the row "lstm", with a tuple of outputs
)
WITH_TORCH = [case for case in LAYERS_AND_STEPS if case.name not in WITHOUT_TORCH]
CONTEXT = Context(train=True, key=jax.random.key(1))


def named(case: Case) -> str:
    return case.name


@pytest.fixture(autouse=True)
def float32():
    """As the benchmark runs."""
    with jax.enable_x64(False):
        yield


def concrete(package) -> set[type[Layer]]:
    """The layer classes a user can make, in all modules of ``package``."""
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    classes = {c for module in modules for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Layer)}
    return {c for c in classes if not inspect.isabstract(c) and not c.__name__.startswith("_")}


def parts(layer: Layer) -> set[type[Layer]]:
    return {type(layer)}.union(*(parts(child) for _, child in children(layer)))


def test_every_layer_and_loss_is_measured():
    measured = set().union(*(parts(case.layer) for case in CASES))
    assert concrete(pipeline.layers) | concrete(pipeline.losses) <= measured


def test_names_are_unique_and_every_case_has_a_flax_counterpart():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted([*flax_counterparts.MODULES, *flax_counterparts.LOSSES])


@cache
def shapes(case: Case):
    """Shapes only: of the case's input, of our parameters and of Flax's."""
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), case.input())
    params = jax.eval_shape(lambda x: case.layer.init(jax.random.key(0), x), x)
    return x, params, jax.eval_shape(lambda x: flax_counterparts.parameters(case, x), x)


def output(case: Case):
    """The shape of what the case's layer or model gives."""
    x, params, _ = shapes(case)
    if case.kind == "layer":
        return jax.eval_shape(case.layer.apply, params, x, CONTEXT)
    return jax.eval_shape(lambda params: logits(case.layer, params, x[0]), params)


def logits(objective: Layer, params, inputs):
    """What a model's loss is of, also where the loss makes them itself, from a table that stands at several places."""
    assert isinstance(objective, Objective)
    params = objective.expand(params)
    inputs = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), inputs)
    outputs = objective.model.apply(params["model"], inputs, CONTEXT)
    if isinstance(objective.loss, VocabularyCrossEntropy):
        return objective.loss.logits(params["loss"], outputs)
    return outputs


def trained(params) -> int:
    """How many numbers the gradient sets: running and batch statistics do not count."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    statistics = ("mean", "mean_square", "batch_stats")
    return sum(a.size for path, a in paths if not any(getattr(key, "key", None) in statistics for key in path))


@pytest.mark.parametrize("case", LAYERS_AND_STEPS, ids=named)
def test_flax_counterpart_has_the_same_shapes(case):
    x, params, flax_params = shapes(case)
    assert trained(flax_params) == trained(params)
    inputs = x[0] if case.kind == "step" else x
    assert output(case) == jax.eval_shape(flax_counterparts.model(case), flax_params, inputs, CONTEXT)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "loss"], ids=named)
def test_flax_counterpart_is_the_same_loss(case):
    outputs, targets = jax.tree.map(lambda a: jnp.asarray(a[:50]), case.input())
    params = flax_counterparts.parameters(case, (outputs, targets))
    ours = case.layer.apply(params, (outputs, targets), Context())
    np.testing.assert_allclose(flax_counterparts.LOSSES[case.name](outputs, targets, **params), ours, rtol=1e-5)


def deterministic() -> list[Case]:
    """The layers without parameters or random units."""
    layers = [case for case in CASES if case.kind == "layer" and case.name not in ("dropout", "drop_path")]
    return [case for case in layers if not jax.tree.leaves(shapes(case)[1])]


@pytest.mark.parametrize("case", deterministic(), ids=named)
def test_counterparts_compute_the_same(case):
    x = jax.tree.map(lambda a: jnp.asarray(a[:2]), case.input())
    ours = np.asarray(case.layer.apply({}, x, Context()), np.float32)
    flax = flax_counterparts.MODULES[case.name].apply({}, x)
    np.testing.assert_allclose(np.asarray(flax, np.float32), ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", WITH_TORCH, ids=named)
def test_torch_counterpart_has_the_same_shapes(case):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_counterparts

    x, params, _ = shapes(case)
    inputs = x[0] if case.kind == "step" else x
    with torch.device("meta"):  # shapes only here, too
        module = torch_counterparts.MODULES[case.name]()
        zeros = (np.zeros(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(inputs))
        y = module(*(torch_counterparts.tensor(case, array).to("meta") for array in zeros))
    redundant = sum(getattr(part, "redundant", 0) for part in module.modules())
    assert sum(p.numel() for p in module.parameters()) - redundant == trained(params)
    expected = output(case).shape
    channels_first = case.name in torch_counterparts.CHANNELS_FIRST and case.kind == "layer"
    assert tuple(y.movedim(1, -1).shape if channels_first else y.shape) == expected


def test_torch_has_every_loss():
    pytest.importorskip("torch")
    from benchmarks import torch_counterparts

    assert sorted(torch_counterparts.LOSSES) == sorted(case.name for case in CASES if case.kind == "loss")


@pytest.mark.parametrize("gradient", ["autodiff", "attached"])
def test_the_columns_compute_the_same(gradient):
    case = next(case for case in CASES if case.name == "huber")
    outputs, targets = jax.tree.map(lambda a: jnp.asarray(a[:8]), case.input())
    args = ({}, (outputs, targets), Context(), jnp.float32(1))
    by_hand, (_, (d_outputs, _)) = gradients.gradient_of(case, "manual")(*args)
    value, (_, other) = gradients.gradient_of(case, gradient)(*args)
    np.testing.assert_allclose(value, by_hand, rtol=1e-6)
    np.testing.assert_allclose(other, d_outputs, rtol=1e-5, atol=1e-9)


def test_rounds_are_interleaved(monkeypatch):
    monkeypatch.setattr(measure, "REST_SECONDS", 0)
    monkeypatch.setattr(measure, "WARM_SECONDS", 0)
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 0)
    calls: list[str] = []
    samples = measure.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0)
    rounds = [frozenset(calls[i : i + 2]) for i in range(6, len(calls), 2)]  # after one call each, and two to calibrate
    assert rounds == [frozenset("ab")] * measure.ROUNDS[0]
    assert {name: len(column) for name, column in samples.items()} == dict.fromkeys("ab", measure.ROUNDS[0])


def test_ratio_is_taken_round_by_round():
    # A machine that slows down threefold halfway leaves no trace in the ratio.
    reference = np.array([1.0] * 5 + [3.0] * 5)
    assert measure.ratio(2 * reference, reference) == (2.0, 2.0, 2.0)


ROW = {
    "name": "relu",
    "kind": "layer",
    "shape": [2, 3],
    **dict.fromkeys(("manual_ms", "autodiff_ms", "attached_ms", "flax_ms"), 1.0),
    **dict.fromkeys(("torch_ms", "torch_compiled_ms"), None),
    **dict.fromkeys(("manual_bytes", "autodiff_bytes"), 8),
    "ratio": 1.0,
    "ratio_low": 0.9,
    "ratio_high": 1.1,
    **dict.fromkeys(("manual_options", "autodiff_options", "attached_options", "flax_options"), "ours"),
    **dict.fromkeys(("autodiff_defaults_ms", "flax_defaults_ms"), 2.0),
    "notes": ["torch: not here"],
}
MACHINE = {"cpu": "", "cores": 2, "matmul_gflops": 1.0, "copy_gb_per_s": 1.0}


@pytest.mark.parametrize(
    "changes, is_slower, is_larger",
    [
        ({}, False, False),
        ({"ratio": 1.2, "ratio_low": 1.1}, True, False),
        ({"ratio": 1.2, "ratio_low": 0.9}, False, False),
        ({"manual_bytes": 9}, False, True),
    ],
)
def test_marks(changes, is_slower, is_larger):
    row = ROW | changes
    assert (slower(row), larger(row)) == (is_slower, is_larger)
    text = table({"machine": MACHINE, "rows": [row]})
    assert f"spread: {'relu' if is_slower else 'none'}" in text
    assert f"memory than autodiff: {'relu' if is_larger else 'none'}" in text
    assert "torch: not here (relu)" in text


@pytest.mark.parametrize(
    "manual, autodiff, mark", [("ours", "ours", 0), ("ours", "defaults", 1), ("defaults", "defaults", 0)]
)
def test_what_xlas_own_options_made_faster_is_marked(manual, autodiff, mark):
    row = ROW | {"manual_options": manual, "autodiff_options": autodiff, "autodiff_ms": 77.0}
    text = table({"machine": MACHINE, "rows": [row]})
    assert text.count("77 d") == mark
    assert ("d: faster with XLA's own options" in text) == bool(mark)
    assert ("with XLA's own options" in text.partition("┏")[0]) == (manual == "defaults")


def test_what_the_options_win_is_said_apart():
    text = table({"machine": MACHINE, "rows": [ROW]})
    assert "autodiff at its best / with XLA's own options over 1 layers and losses: 0.50" in text


def test_rows_as_the_design_says(tmp_path):
    # torch.compile would take longer than everything else together; disabled, it hands back the module.
    environment = os.environ | {"TORCH_COMPILE_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "mlp", "drop_path"]
    json_file = tmp_path / "rows.json"
    result = subprocess.run(
        [*command, "--json", str(json_file)], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    written = json.loads(json_file.read_text())
    assert written["machine"]["matmul_gflops"] > 0
    assert written["machine"]["copy_gb_per_s"] > 0
    drop_path, mlp = written["rows"]
    for row, kind, shape in ((drop_path, "layer", [128, 28, 28, 32]), (mlp, "step", [128, 28, 28, 1])):
        assert (row["kind"], row["shape"]) == (kind, shape)
        assert all(row[f"{column}_ms"] > 0 for column in ("manual", "autodiff", "attached", "flax"))
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert min(row["manual_bytes"], row["autodiff_bytes"]) >= 0
        assert row["name"] in result.stdout
        assert row["manual_options"] == row["attached_options"] == "ours"
        for column in ("autodiff", "flax"):
            best, by_default = row[f"{column}_ms"], row[f"{column}_defaults_ms"]
            assert best == by_default if row[f"{column}_options"] == "defaults" else best <= by_default
    assert mlp["autodiff_bytes"] > 0
    assert drop_path["torch_ms"] is None
    assert drop_path["torch_compiled_ms"] is None
    assert drop_path["notes"]


def test_every_column_with_xlas_own_options(monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", (1, 1))
    monkeypatch.setattr(benchmark, "torch", lambda *_: ({}, []))
    case = next(case for case in CASES if case.name == "glu")
    line = benchmark.row(case, defaults=True)
    assert {line[f"{name}_options"] for name in ("manual", "autodiff", "attached", "flax")} == {"defaults"}
    assert line["autodiff_defaults_ms"] == line["autodiff_ms"]


def test_unknown_name():
    with pytest.raises(UserError, match=r"no benchmark called conv_9d\. There are: dense, .*resnet"):
        benchmark.main(("dense", "conv_9d"))


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        benchmark.main(("dense",), json_file=tmp_path / "nowhere" / "rows.json")


def test_a_mistake_is_a_message_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "conv_9d"])
    with pytest.raises(SystemExit) as exit:
        run(benchmark.main)
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("There is no benchmark called conv_9d")
