"""The contract of ``pipeline.layers.base``, checked while tracing: structures, shapes, dtypes. Nothing is computed."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.layers.base import Context, Layer, PyTree
from pipeline.verify.measure import path_of


def breaches(layer: Layer, params: PyTree, x: PyTree, context: Context) -> list[tuple[str, str]]:
    """(leaf, what is wrong with it) for everything that ``layer`` does against the contract at these inputs."""
    found: list[tuple[str, str]] = []
    jax.eval_shape(lambda params, x: found.extend(_breaches(layer, params, x, context)), params, x)
    return found


def _breaches(layer: Layer, params: PyTree, x: PyTree, context: Context) -> Iterator[tuple[str, str]]:
    expected = layer.apply(params, x, context)
    y, residuals = layer.forward(params, x, context)
    yield from _mismatches("forward's value", {"y": y}, {"y": expected})
    for path, residual in jax.tree_util.tree_flatten_with_path(residuals)[0]:
        if not isinstance(residual, jax.Array | np.ndarray):
            yield "", f"the residual {path_of(path)} is {residual!r}: not an array, nor known while tracing (Static)"
    d_params, d_x = layer.backward(params, residuals, jax.tree.map(jnp.ones_like, floats(expected)))
    yield from _cotangent(d_params, params, may_be_none=False)
    yield from _cotangent({"x": d_x}, {"x": x}, may_be_none=True)
    yield from _mismatches("what statistics gives", layer.statistics(params, residuals), params)


def _cotangent(cotangent: PyTree, primal: PyTree, may_be_none: bool) -> Iterator[tuple[str, str]]:
    found = list(_mismatches("the cotangent", cotangent, primal))
    yield from found
    for leaf, d, its_primal in _pairs(cotangent, primal) if not found else ():
        if d is None and is_float(its_primal) and not may_be_none:
            yield leaf, "the cotangent of a parameter is None; where no gradient flows it is zeros"
        if d is not None and not is_float(its_primal):
            yield leaf, f"the cotangent of {its_primal.dtype} must be None"


def _mismatches(what: str, found: PyTree, like: PyTree) -> Iterator[tuple[str, str]]:
    """Where ``found`` has not the structure, shapes and dtypes of ``like``; None may stand for any part of it."""
    present, expected = _with_nones(found), _with_nones(like)
    absent = [path for path in present if present[path] is None]
    under_none = lambda path: any(not top or path == top or path.startswith(f"{top}/") for top in absent)  # noqa: E731
    missing = [path for path in expected if path not in present and not under_none(path)]
    surplus = [path for path in present if path not in expected and present[path] is not None]
    yield from ((path, f"{what} is missing") for path in missing)
    yield from ((path, f"{what} is there, and nothing that it belongs to") for path in surplus)
    if missing or surplus:
        return
    try:
        pairs = _pairs(found, like)
    except ValueError as error:
        yield "", f"{what} has another structure: {error}"
        return
    for path, leaf, primal in pairs:
        if leaf is None or not is_float(primal):
            continue
        if not isinstance(leaf, jax.Array | np.ndarray):
            yield path, f"{what} is {leaf!r}, which is no array"
        elif (leaf.shape, leaf.dtype) != (primal.shape, primal.dtype):
            yield path, f"{what} is {leaf.dtype}{list(leaf.shape)}; it must be {primal.dtype}{list(primal.shape)}"


def _pairs(found: PyTree, like: PyTree) -> list[tuple[str, Any, Any]]:
    """(path, leaf of ``found`` or None, leaf of ``like``) for every leaf of ``like``."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    spread = structure.flatten_up_to(spread_none(found, like))
    return [(path_of(path), leaf, primal) for (path, primal), leaf in zip(leaves, spread)]


def _with_nones(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    return {path_of(path): leaf for path, leaf in leaves}


def spread_none(cotangent: PyTree, primal: PyTree) -> PyTree:
    """``cotangent`` with a None for every leaf of ``primal`` that a None of it stands for.

    Raises ValueError where the structures differ otherwise.
    """
    part_of = lambda d, part: jax.tree.map(lambda _: None, part) if d is None else d  # noqa: E731
    return jax.tree.map(part_of, cotangent, primal, is_leaf=is_none)


def floats(tree: PyTree) -> PyTree:
    """The tree with None in place of what is not a float."""
    return jax.tree.map(lambda leaf: leaf if is_float(leaf) else None, tree)


def is_float(leaf: Any) -> bool:
    """Whether gradients flow into it: not into integers, nor into the None that stands for no weights."""
    return leaf is not None and jnp.issubdtype(leaf.dtype, jnp.floating)


def is_none(node: Any) -> bool:
    return node is None
