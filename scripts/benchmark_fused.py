"""How fast the functions of ``backhand.fused`` are beside those that they replace.

    python scripts/benchmark_fused.py [NAME ...] [--json FILE]

Value and gradient together, of the sum of the output times fixed random numbers: milliseconds, the medians of
interleaved rounds, and temporary memory (what XLA allocates besides inputs and outputs). Ours are compiled with the
options of ``pipeline.compiler``; the others with those and with XLA's own, and the faster of the two counts. The ratio
is that of ours to theirs, round by round: its median, and in brackets what eight rounds of ten lie between.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import measure
from benchmarks.table import number
from command_line import run
from pipeline import compiler, fused
from pipeline.errors import UserError

SECONDS = 2.0
"""What the rounds of one row take together, about."""
WIDTH = 120
"""Columns of text, where the output is no terminal that has its own."""


@dataclass(frozen=True)
class Row:
    """ours, theirs: functions of the same arrays. floats: how many of these, from the first, are differentiated."""

    ours: Callable[..., Any]
    theirs: dict[str, Callable[..., Any]]
    arrays: tuple[np.ndarray, ...]
    floats: int = 1


def equinox(name: str, *args: Any, channels_first: bool = False, **options: Any) -> dict[str, Callable[..., Any]]:
    """A layer of Equinox as a function of (batch, ...), by its name; {} where Equinox is not installed."""
    if find_spec("equinox") is None:
        return {}
    import equinox as eqx

    of_batch = jax.vmap(getattr(eqx.nn, name)(*args, **options))
    if not channels_first:
        return {f"equinox {name}": lambda x, *_: of_batch(x)}
    return {f"equinox {name}": lambda x: jnp.moveaxis(of_batch(jnp.moveaxis(x, -1, 1)), 1, -1)}


def flax_attention(query: Any, key: Any, value: Any) -> Any:
    mask = nn.make_causal_mask(jnp.ones(query.shape[:2]))
    return nn.dot_product_attention(query, key, value, mask=mask)


def materialised(hidden: Any, embedding: Any, labels: Any) -> Any:
    """The loss of logits that are stored."""
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ embedding.T, labels).mean()


def rows() -> dict[str, Row]:
    """Every function of ``fused`` at an ordinary size."""
    random = np.random.default_rng(0)
    normal = lambda *shape: random.standard_normal(shape, np.float32)  # noqa: E731
    whole = lambda high, *shape: random.integers(high, size=shape, dtype=np.int32)  # noqa: E731
    table, window = normal(8192, 512), {"window_shape": (2, 2), "strides": (2, 2)}
    layer_norm, rms_norm = nn.LayerNorm(), nn.RMSNorm()
    lengths, label_lengths = whole(400, 16) + 401, whole(40, 16) + 41
    paddings = (np.arange(800) >= lengths[:, None]).astype(np.float32)
    label_paddings = (np.arange(80) >= label_lengths[:, None]).astype(np.float32)
    scale, bias = np.ones(512, np.float32), np.zeros(512, np.float32)
    return {
        "max_pool": Row(
            partial(fused.max_pool, **window),
            {"flax max_pool": partial(nn.max_pool, **window)} | equinox("MaxPool2d", 2, 2, channels_first=True),
            (normal(64, 56, 56, 64),),
        ),
        "layer_norm": Row(
            fused.layer_norm,
            {"flax LayerNorm": lambda x, scale, bias: layer_norm.apply({"params": {"scale": scale, "bias": bias}}, x)},
            (table, scale, bias),
            floats=3,
        ),
        "layer_norm without parameters": Row(
            fused.layer_norm,
            {"flax LayerNorm": partial(nn.LayerNorm(use_scale=False, use_bias=False).apply, {})}
            | equinox("LayerNorm", 512, use_weight=False, use_bias=False),
            (table,),
        ),
        "rms_norm": Row(
            fused.rms_norm,
            {"flax RMSNorm": lambda x, scale: rms_norm.apply({"params": {"scale": scale}}, x)},
            (table, scale),
            floats=2,
        ),
        "rms_norm without parameters": Row(
            fused.rms_norm,
            {"flax RMSNorm": partial(nn.RMSNorm(use_scale=False).apply, {})}
            | equinox("RMSNorm", 512, use_weight=False, use_bias=False),
            (table,),
        ),
        "gelu": Row(fused.gelu, {"jax.nn.gelu": jax.nn.gelu}, (table,)),
        "dot_product_attention, causal": Row(
            partial(fused.dot_product_attention, is_causal=True),
            {
                "jax.nn.dot_product_attention": partial(jax.nn.dot_product_attention, is_causal=True),
                "flax dot_product_attention": flax_attention,
            },
            (normal(8, 1024, 8, 64), normal(8, 1024, 8, 64), normal(8, 1024, 8, 64)),
            floats=3,
        ),
        "dot_product_attention": Row(
            fused.dot_product_attention,
            {
                "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
                "flax dot_product_attention": nn.dot_product_attention,
            },
            (normal(8, 256, 8, 64), normal(8, 256, 8, 64), normal(8, 256, 8, 64)),
            floats=3,
        ),
        "softmax_cross_entropy_with_integer_labels": Row(
            fused.softmax_cross_entropy_with_integer_labels,
            {"optax": optax.softmax_cross_entropy_with_integer_labels},
            (normal(8192, 512), whole(512, 8192)),
        ),
        "fused_linear_cross_entropy": Row(
            fused.fused_linear_cross_entropy,
            {"optax of hidden @ embedding.T": materialised},
            (normal(4096, 256), normal(32_000, 256) / 16, whole(32_000, 4096)),
            floats=2,
        ),
        "ctc_loss": Row(
            fused.ctc_loss,
            {"optax.ctc_loss": optax.ctc_loss},
            (normal(16, 800, 64), paddings, whole(63, 16, 80) + 1, label_paddings),
        ),
    }


def gradient(function: Callable[..., Any], floats: int) -> Callable[..., Any]:
    """(weights, *arrays) to the sum of the function's output times ``weights``, and its gradients."""
    value = lambda weights, *arrays: (function(*arrays) * weights).sum()  # noqa: E731
    return jax.value_and_grad(value, tuple(range(1, floats + 1)))


def measured(name: str, row: Row) -> dict[str, Any]:
    """Times, memory and the ratio of one row; see the module's docstring."""
    shape = jax.eval_shape(row.ours, *row.arrays).shape
    weights = np.random.default_rng(1).standard_normal(shape, np.float32)
    arrays = jax.tree.map(jnp.asarray, (weights, *row.arrays))
    choices = {"ours": compiler.options()} | ({"defaults": {}} if compiler.options() else {})
    compiled = {"ours": measure.compiled(gradient(row.ours, row.floats), *arrays)}
    for their_name, function in row.theirs.items():
        for which, options in choices.items():
            call = measure.compiled(gradient(function, row.floats), *arrays, options=options)
            compiled[f"{their_name}\n{which}"] = call
    samples = measure.interleaved({key: call for key, (call, _) in compiled.items()}, SECONDS)
    medians = {key: 1e3 * float(np.median(column)) for key, column in samples.items()}
    result = {"name": name, "shape": list(row.arrays[0].shape), "ms": medians["ours"], "bytes": compiled["ours"][1]}
    result["instead_of"] = []
    for their_name in row.theirs:
        best = min((f"{their_name}\n{which}" for which in choices), key=medians.__getitem__)
        ratio = measure.ratio(samples["ours"], samples[best])
        result["instead_of"].append(
            {"name": their_name, "ms": medians[best], "bytes": compiled[best][1], **ratio._asdict()}
        )
    return result


def table(result: dict[str, Any]) -> Table:
    """The rows for people."""
    machine = result["machine"]
    text = Table(
        title="Value and gradient: milliseconds, and temporary memory in MB",
        caption=f"{machine['cpu']}, {machine['cores']} cores, jax {machine['versions']['jax']}",
    )
    text.add_column("function")
    text.add_column("instead of")
    for heading in ("ms", "not", "ratio", "MB", "not"):
        text.add_column(heading, justify="right", no_wrap=True)
    for row in result["rows"]:
        for i, other in enumerate(row["instead_of"]):
            text.add_row(
                "" if i else row["name"],
                other["name"],
                number(row["ms"]),
                number(other["ms"]),
                f"{other['median']:.2f} ({other['low']:.2f}-{other['high']:.2f})",
                f"{row['bytes'] / 1e6:,.0f}",
                f"{other['bytes'] / 1e6:,.0f}",
            )
    return text


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = (),
    /,
    *,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """How fast the functions of backhand.fused are beside those that they replace.

    Args:
        names: Functions of backhand.fused. Without a name, measures all of them.
        json_file: Where to write the rows, besides the table.
    """
    chosen = {name: row for name, row in rows().items() if not names or name.split()[0].rstrip(",") in names}
    if unknown := [name for name in names if not any(key.split()[0].rstrip(",") == name for key in chosen)]:
        raise UserError(f"backhand.fused has no function {unknown[0]}; it has {', '.join(fused.__all__)}")
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}; make it first")
    progress = track(chosen.items(), "measuring", console=Console(stderr=True))
    result = {"machine": measure.machine(), "rows": [measured(name, row) for name, row in progress]}
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n")
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table(result))


if __name__ == "__main__":
    run(main)
