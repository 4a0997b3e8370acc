"""Compiles rules for several devices that share a batch: no rule may gather what its definition leaves in place.

    verify_sharding.py [NAME ...]

Every layer and loss is compiled for eight devices, each with an eighth of the batch and all parameters, with its manual
rule and with autodiff. The manual program may have no more collectives (``EXCEPTIONS`` lists one), must leave its
outputs where autodiff leaves them, and must give no device work that another one does too. ``attach`` under
``jax.shard_map`` must give autodiff's gradients. What accelerators run is compiled, but for a CPU: a CPU's own loops
over examples are tuned for one device's cache, and gather the batch.

The exit code is 1 if a rule fails.
"""

import os
import re
import sys
from typing import Annotated, Any

# Before JAX looks for devices. Only the structure of the programs counts, not how fast their machine code is.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from rich.progress import track

from command_line import run
from gradient_cases.case import Case
from gradient_cases.layers import CASES
from pipeline.attachment import attach
from pipeline.errors import UserError
from pipeline.layers.base import Context

DEVICES = 8
COLLECTIVES = "all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"
EXCEPTIONS = {"VocabularyCrossEntropy": 1}
"""All-reduces more than autodiff's: the embedding's gradient is summed over devices once a chunk, in its loop."""
WITHOUT_A_BATCH = {"Transposed"}
"""Layers whose first axis is no batch."""
ERROR, SHARE = 1e-10, 1.15
"""The largest error of ``attach``; and of one device's operations over an eighth of those of one device alone."""


def accelerators() -> None:
    """Compiles what accelerators run, since a CPU's loops over examples are tuned for one device's cache."""
    lax.platform_dependent = lambda *args, default, **_: default(*args)  # pyright: ignore


def split(x: Any) -> tuple[list[Any], Any]:
    """The leaves of x that have a derivative, and a function that puts x together from such leaves."""
    flat, structure = jax.tree.flatten(x)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in flat]

    def whole(floats):
        floats = iter(floats)
        return structure.unflatten([next(floats) if f else leaf for f, leaf in zip(is_float, flat)])

    return [leaf for f, leaf in zip(is_float, flat) if f], whole


def gradient(case: Case, manual: bool) -> Any:
    """(params, x, masks, key, d_y) to y and the gradients of params and of x's floats."""

    def of(params, x, masks, key, d_y):
        context, layer = Context(case.train, key, *masks), case.layer
        floats, whole = split(x)
        if manual:
            y, residuals = layer.forward(params, x, context)
            d_params, d_x = layer.backward(params, residuals, d_y)
            return y, d_params, jax.tree.leaves(d_x)
        y, pull_back = jax.vjp(lambda params, floats: layer.apply(params, whole(floats), context), params, floats)
        return y, *pull_back(d_y)

    return of


def arguments(case: Case, copies: int) -> tuple[Any, ...]:
    """The case's arguments with ``copies`` copies of its batch."""
    tile = lambda leaf: np.concatenate([np.asarray(leaf)] * copies)  # noqa: E731
    x, masks = jax.tree.map(tile, (case.x, (case.mask, case.memory_mask)))
    params, key = case.params(), jax.random.key(2)
    y = jax.eval_shape(lambda x, masks: case.layer.apply(params, x, Context(case.train, key, *masks)), x, masks)
    return params, x, masks, key, jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), y)


def program(case: Case, manual: bool, mesh: Mesh, copies: int) -> Any:
    """The compiled gradient, with the batch spread over the mesh's devices."""
    spread, whole = NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())
    params, x, masks, key, d_y = arguments(case, copies)
    lies = lambda leaf: spread if np.ndim(leaf) else whole  # noqa: E731
    args = jax.device_put(
        (params, x, masks, key, d_y),
        (*jax.tree.map(lambda _: whole, (params,)), *jax.tree.map(lies, (x, masks)), whole, jax.tree.map(lies, d_y)),
    )
    return jax.jit(gradient(case, manual)).lower(*args).compile()


def facts(case: Case, manual: bool, meshes: tuple[Mesh, Mesh]) -> dict[str, Any]:
    """The program's collectives by kind, how its outputs lie, and the share of the operations of one device."""
    many, one = (program(case, manual, mesh, DEVICES) for mesh in meshes)
    text = many.as_text()
    y, d_params, d_x = many.output_shardings
    flops = [max(each.cost_analysis().get("flops", 0.0), 1.0) for each in (many, one)]
    return {
        "collectives": {kind: len(re.findall(rf"= .*\b{kind}(?:-start)?\(", text)) for kind in COLLECTIVES},
        "lies": [str(leaf.spec) for leaf in jax.tree.leaves((y, d_params))] + [str(leaf.spec) for leaf in d_x],
        "share": DEVICES * flops[0] / flops[1],
    }


def attached_error(case: Case, mesh: Mesh) -> float:
    """The largest error of the attached gradient under ``shard_map``, on the scale of the largest gradient.

    Autodiff gives the other gradients device by device, without ``shard_map``: where jax fails there (0.12 does, in the
    derivative of ``erf``), ``attach`` must not.
    """
    params, x, masks, key, _ = arguments(case, DEVICES)

    def gradients(function):
        def of(params, x, masks):
            floats, whole = split(x)

            def value(params, floats):
                y = function(params, whole(floats), Context(case.train, key, *masks))
                return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(y))

            return jax.grad(value, (0, 1))(params, floats)

        return of

    batch = PartitionSpec("batch")
    mapped = jax.shard_map(
        gradients(attach(case.layer)),
        mesh=mesh,
        in_specs=(PartitionSpec(), batch, batch),
        out_specs=(PartitionSpec(), batch),
    )
    parts = jax.tree.map(lambda leaf: leaf.reshape(DEVICES, -1, *leaf.shape[1:]), (x, masks))
    d_params, d_x = jax.jit(jax.vmap(gradients(case.layer.apply), (None, 0, 0)))(params, *parts)
    expected = (
        *jax.tree.leaves(jax.tree.map(lambda leaf: leaf.sum(0), d_params)),
        *jax.tree.leaves(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), d_x)),
    )
    pairs = list(zip(jax.tree.leaves(jax.jit(mapped)(params, x, masks)), expected, strict=True))
    scale = max([float(abs(np.asarray(b)).max()) for _, b in pairs if b.size], default=0.0)
    return max([float(abs(np.asarray(a - b)).max()) for a, b in pairs if a.size], default=0.0) / max(scale, 1e-300)


def problems(case: Case, meshes: tuple[Mesh, Mesh]) -> list[str]:
    """What is wrong with the case's rule, if anything is."""
    manual, autodiff = (facts(case, by_hand, meshes) for by_hand in (True, False))
    found = []
    for kind, count in manual["collectives"].items():
        allowed = autodiff["collectives"][kind] + (EXCEPTIONS.get(case.name, 0) if kind == "all-reduce" else 0)
        if count > allowed:
            found.append(f"{count} times {kind}, where autodiff has {autodiff['collectives'][kind]}")
    if any(ours != theirs for ours, theirs in zip(manual["lies"], autodiff["lies"])):
        found.append(f"outputs lie as {manual['lies']}, and autodiff's as {autodiff['lies']}")
    if manual["share"] > SHARE * max(autodiff["share"], 1.0):
        found.append(f"every device computes {manual['share']:.2f} times its share")
    error = attached_error(case, meshes[0])
    if not error < ERROR:
        found.append(f"attached under shard_map, gradients differ from autodiff's by {error:.1e}")
    return found


def main(names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = (), /) -> None:
    """Compiles every rule for eight devices that share a batch, and compares the programs with autodiff's.

    Args:
        names: Names of layers and losses, such as "Conv". Without a name, verifies all of them.
    """
    plain = {case.name: case for case in CASES if "/" not in case.name and case.name not in WITHOUT_A_BATCH}
    if unknown := [name for name in names if name not in plain]:
        raise UserError(f"there is no layer or loss named {unknown[0]}; there are {', '.join(plain)}")
    jax.config.update("jax_enable_x64", True)
    accelerators()
    auto = {"axis_types": (AxisType.Auto,)}
    many, one = (jax.make_mesh((n,), ("batch",), devices=jax.devices()[:n], **auto) for n in (DEVICES, 1))
    chosen = [plain[name] for name in names or plain]
    failed = 0
    for case in track(chosen, "compiling", disable=not sys.stderr.isatty()):
        for problem in problems(case, (many, one)):
            failed += 1
            print(f"{case.name}: {problem}")
    print(f"{len(chosen)} rules on {DEVICES} devices: {failed or 'no'} problem{'s' * (failed != 1)}")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
