"""``verify`` notices what is wrong, says where, and accuses nothing that is right."""

import json
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from pipeline.layers.base import Context, Layer
from pipeline.layers.combinators import Serial
from pipeline.layers.dropout import Dropout
from pipeline.layers.linear import Dense
from pipeline.layers.normalization import BatchNorm
from pipeline.layers.pooling import GlobalAveragePool
from pipeline.verify import VerificationError, relative_errors, verify

X = np.random.default_rng(0).normal(size=(3, 4))
PARAMS = {"kernel": np.random.default_rng(1).normal(size=(4, 4)), "bias": np.array([0.3, -0.2, 0.1, 0.5])}


@dataclass(frozen=True)
class Mistaken(Dense):
    """Dense whose backward ends in one of the MISTAKES."""

    features: int = 4
    mistake: str = ""

    def backward(self, params: Any, residuals: Any, d_y: Any) -> Any:
        d_params, d_x = super().backward(params, residuals, d_y)
        return MISTAKES[self.mistake][0](d_params, d_x, d_y)


def kernel(change):
    return lambda d_params, d_x, d_y: (d_params | {"kernel": change(d_params["kernel"])}, d_x)


def bias(change):
    return lambda d_params, d_x, d_y: (d_params | {"bias": change(d_y)}, d_x)


def input_(change):
    return lambda d_params, d_x, d_y: (d_params, change(d_x, d_y))


def fail(*_):
    raise RuntimeError("out of luck")


def not_under_vmap(d):
    return jax.pure_callback(lambda d: d, jax.ShapeDtypeStruct(d.shape, d.dtype), d)


def only_in(dtype, change):
    return lambda d: change(d) if d.dtype == dtype else d


def is_batched(d):
    return "Batch" in type(d).__name__


MISTAKES = {
    "transposed": (kernel(lambda d: d.T), "kernel", "gradient", "transposed"),
    "sign": (kernel(lambda d: -d), "kernel", "gradient", "sign"),
    "scaled": (kernel(lambda d: 1.000001 * d), "kernel", "gradient", "factor"),
    "one element": (kernel(lambda d: d.at[1, 2].add(1e-9)), "kernel", "gradient", "region"),
    "averaged": (bias(lambda d_y: d_y.mean(0)), "bias", "gradient", "factor"),
    "last row dropped": (bias(lambda d_y: d_y[:-1].sum(0)), "bias", "gradient", "region"),
    "not a number": (kernel(lambda d: d * jnp.nan), "kernel", "gradient", "not finite"),
    "missing term": (input_(lambda d_x, d_y: jnp.zeros_like(d_x)), "x", "gradient", "missing"),
    "None for what has a gradient": (input_(lambda d_x, d_y: None), "x", "gradient", "missing"),
    "scaled by the cotangent": (input_(lambda d_x, d_y: d_x * jnp.abs(d_y).max()), "x", "gradient", "cotangent"),
    "added whatever comes": (bias(lambda d_y: d_y.sum(0) + 1e-14), "bias", "zero cotangent", "cotangent"),
    "the cotangent ignored": (bias(lambda d_y: jnp.full(4, 3.0, d_y.dtype)), "bias", "gradient", "cotangent ignored"),
    "bfloat16 on the way": (
        kernel(only_in("float32", lambda d: d.astype("bfloat16").astype("float32"))), "kernel", "gradient", "precision",
    ),
    "without jit": (
        kernel(lambda d: d if isinstance(d, Tracer) else -d), "kernel", "eager", "transform",
    ),
    "under vmap": (kernel(lambda d: -d if is_batched(d) else d), "kernel", "vmap", "transform"),
    "impossible under vmap": (kernel(not_under_vmap), "", "vmap", "exception"),
    "missing leaf": (
        lambda d_params, d_x, d_y: ({"kernel": d_params["kernel"]}, d_x), "bias", "contract", "structure",
    ),
    "surplus leaf": (
        lambda d_params, d_x, d_y: (d_params | {"scale": d_y}, d_x), "scale", "contract", "structure",
    ),
    "other container": (lambda d_params, d_x, d_y: (d_params, [d_x]), "x", "contract", "structure"),
    "not summed": (bias(lambda d_y: d_y), "bias", "contract", "missing sum"),
    "None for a parameter": (bias(lambda d_y: None), "bias", "contract", "missing"),
    "dtype": (kernel(lambda d: d.astype("float32")), "kernel", "contract", "dtype"),
    "Python number": (bias(lambda d_y: 0.0), "bias", "contract", "structure"),
    "exception": (fail, "", "contract", "exception"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake):
    _, leaf, check, kind = MISTAKES[mistake]
    report = verify(Mistaken(mistake=mistake), PARAMS, X)
    assert report.verdict == "fail"
    assert (leaf, check) in [(row.leaf, row.check) for row in report.failures]
    assert (leaf, kind) in [(diagnosis.leaf, diagnosis.kind) for diagnosis in report.diagnoses]
    if check not in ("contract", "linearity", "zero cotangent"):
        assert {row.leaf for row in report.failures} == {leaf}, "another leaf is accused"


def test_a_right_rule_is_not_accused():
    report = verify(Dense(4), PARAMS, X, precisions=("float32", "bfloat16"))
    assert report.ok and not report.failures and not report.diagnoses
    assert {row.check for row in report.rows} - {"devices"} == {
        "contract", "determinism", "value", "gradient", "zero cotangent", "linearity", "eager", "vmap",
        "accumulation", "finite differences", "forward mode", "sensitivity",
    }  # fmt: skip
    report.raise_if_failed()


@dataclass(frozen=True)
class OtherValue(Dense):
    features: int = 4
    change: Any = None

    def forward(self, params: Any, x: Any, context: Context) -> Any:
        y, residuals = super().forward(params, x, context)
        return self.change(y), residuals


@pytest.mark.parametrize(
    "change, check", [(lambda y: y * (1 + 1e-9), "value"), (lambda y: y.astype("float32"), "contract")]
)
def test_forward_must_give_what_apply_gives(change, check):
    report = verify(OtherValue(change=change), PARAMS, X, precisions=())
    assert [(row.leaf, row.check) for row in report.failures] == [("y", check)]


@dataclass(frozen=True)
class MaskIgnored(GlobalAveragePool):
    def forward(self, params: Any, x: Any, context: Context) -> Any:
        y, _ = super().forward(params, x, context)
        return y, super().forward(params, x, replace(context, mask=None))[1]


def test_a_mask_ignored_in_the_residuals():
    context = Context(mask=np.array([[True, True, False], [True, False, False]]))
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    report = verify(MaskIgnored(), {}, x, context, precisions=(), checks=())
    assert [(row.leaf, row.check) for row in report.failures] == [("x", "gradient")]
    assert verify(GlobalAveragePool(), {}, x, context, precisions=(), checks=()).ok


@dataclass(frozen=True)
class DrawnAfresh(Dropout):
    def forward(self, params: Any, x: Any, context: Context) -> Any:
        y, _ = super().forward(params, x, context)
        return y, super().forward(params, x, context.child(1))[1]


def test_a_mask_of_dropout_drawn_afresh():
    context = Context(train=True, key=jax.random.key(0))
    report = verify(DrawnAfresh(0.5), {}, X, context, precisions=(), checks=())
    assert [(row.leaf, row.check) for row in report.failures] == [("x", "gradient")]


@dataclass(frozen=True)
class NumberKept(Dense):
    features: int = 4

    def forward(self, params: Any, x: Any, context: Context) -> Any:
        y, residuals = super().forward(params, x, context)
        return y, (residuals, 0.5)

    def backward(self, params: Any, residuals: Any, d_y: Any) -> Any:
        return super().backward(params, residuals[0], d_y)


def test_a_python_number_among_the_residuals():
    (row,) = verify(NumberKept(), PARAMS, X, precisions=()).failures
    assert row.check == "contract" and "residual 1 is 0.5" in row.message


@dataclass(frozen=True)
class OtherStatistics(BatchNorm):
    def statistics(self, params: Any, residuals: Any) -> Any:
        return super().statistics(params, residuals) | {"mean": jnp.zeros(2)}


def test_statistics_of_another_shape():
    params = {"scale": np.ones(4), "bias": np.zeros(4), "mean": np.zeros(4), "mean_square": np.ones(4)}
    report = verify(OtherStatistics(), params, X, Context(train=True), precisions=())
    assert [(row.leaf, row.check) for row in report.failures] == [("mean", "contract")]


def test_what_apply_refuses_is_a_failed_row_that_says_why():
    (row,) = verify(Dense(4), {"kernel": np.ones((5, 4)), "bias": np.ones(4)}, X, precisions=()).failures
    assert row.check == "contract" and "Dense(features=4): parameter kernel is float64[5,4]" in row.message


def test_the_layer_of_a_model_that_is_wrong_is_named():
    model = Serial((Dense(4), Mistaken(mistake="averaged"), Dense(2)))
    params = {"layers": [PARAMS, PARAMS, {"kernel": X.T[:, :2], "bias": np.zeros(2)}]}
    report = verify(model, params, X, precisions=(), checks=())
    assert {row.leaf for row in report.failures} == {"layers/1/bias"}
    assert [place.path for place in report.places] == ["layers/1"]


def test_the_message_says_leaf_check_size_and_worst_element():
    with pytest.raises(VerificationError) as raised:
        verify(Mistaken(mistake="one element"), PARAMS, X, precisions=(), checks=()).raise_if_failed()
    message = str(raised.value)
    for part in ("Mistaken(mistake='one element')", "kernel: wrong at one element only", "[1, 2]", "relative error"):
        assert part in message


def test_report_as_json_and_as_a_table():
    report = verify(Mistaken(mistake="not a number"), PARAMS, X, precisions=("float32",), checks=())
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["ok"] is False and len(data["rows"]) == len(report.rows)
    assert {row["relative_error"] for row in data["rows"] if row["leaf"] == "kernel" and not row["ok"]} == {None}
    text = str(report)
    for part in ("kernel", "FAILED", "not finite", f"of {len(report.rows)} checks failed"):
        assert part in text
    worst = report.worst()
    assert worst is not None and worst.leaf == "kernel"


def test_float64_is_on_only_within():
    with jax.enable_x64(False):
        assert verify(Dense(4), PARAMS, X.astype("float32"), checks=()).ok
        assert jnp.ones(1).dtype == jnp.float32


def test_inputs_of_the_same_seed_are_not_the_cotangents():
    # x equal to d_y would hide a transposed product: d_kernel = d_y^T x for x^T d_y.
    x = np.random.default_rng(0).normal(size=(4, 4))

    class Square(Layer):
        init = Dense.init
        apply = lambda self, params, x, context: x @ params["kernel"]  # noqa: E731
        forward = lambda self, params, x, context: (x @ params["kernel"], x)  # noqa: E731

        def backward(self, params, residuals, d_y):
            return {"kernel": d_y.T @ residuals}, d_y @ params["kernel"].T

    assert not verify(dataclass(frozen=True)(Square)(), {"kernel": x}, x, precisions=(), checks=()).ok


def test_relative_errors():
    autodiff = {
        "layers": [
            {"kernel": np.array([[1.0, -4.0]]), "bias": np.array([1e-20])},
            {"kernel": np.array([1e-3]), "bias": np.array([0.0])},
        ]
    }
    manual = {
        "layers": [
            {"kernel": np.array([[1.0, -4.2]]), "bias": np.array([3e-16])},
            {"kernel": np.array([2e-3]), "bias": np.array([0.0])},
        ]
    }
    errors = relative_errors(manual, autodiff)
    assert errors == pytest.approx(
        {
            "layers/0/kernel": 0.05,  # of the largest, not of the element
            "layers/0/bias": 0.75e-16,  # rounding noise, beside its own layer's kernel
            "layers/1/kernel": 1.0,
            "layers/1/bias": 0.0,  # 0/0
        }
    )


@pytest.mark.parametrize(
    "manual, autodiff",
    [([np.nan], [1.0]), ([np.nan], [np.nan]), ([1.0], [np.inf]), ([np.inf], [1.0]), ([1e-30], [0.0])],
)
def test_what_cannot_be_measured_is_infinitely_wrong(manual, autodiff):
    assert relative_errors({"a": np.array([manual])}, {"a": np.array([autodiff])}) == {"a": np.inf}


def test_relative_errors_of_unlike_trees():
    with pytest.raises(ValueError, match="structures differ"):
        relative_errors({"a": np.ones(2)}, {"b": np.ones(2)})
    with pytest.raises(ValueError, match="a has shape"):
        relative_errors({"a": np.ones(2)}, {"a": np.ones((2, 1))})
