"""Losses that are functions instead of objectives: differentiated by autodiff, or with a gradient of their own."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..layers.base import Context, Layer, PyTree
from ..layers.objective import Objective

LossFunction = Callable[[PyTree, Any, Context], Any]
"""``(params, batch, context) -> (loss, aux)``, or the same with its gradient: ``-> ((loss, aux), d_params)``.

loss: one number, the mean over the batch. aux: a dict of numbers is logged as metrics; anything else is not used.
context.key: a random key that is different in each step.
"""

NEEDED = "it must return (loss, aux), or ((loss, aux), d_params) with its own gradient"
RESERVED = frozenset({"kind", "step", "epoch", "learning_rate", "examples_per_second", "gradient_norm", "finite"})
"""Names in a line of metrics.jsonl that are no metrics."""


def with_gradient(loss: LossFunction) -> Callable[..., tuple[tuple[Any, PyTree], PyTree]]:
    """A function ``(params, batch, context, weight=1.0) -> ((loss, aux), d_params)``, as ``value_and_grad`` returns it.

    A function that returns its own gradient is called as it is. One that returns a loss alone is differentiated by
    ``jax.value_and_grad``. Which of the two it is, its shapes say: nothing is computed for it.

    The returned function raises ValueError where ``loss`` returns something else.

    >>> square = with_gradient(lambda params, batch, context: (((params - batch) ** 2).mean(), {}))
    >>> (loss, aux), d_params = square(jnp.float32(3), jnp.ones(4), Context())
    >>> loss.item(), d_params.item()
    (4.0, 4.0)
    """

    def value_and_gradient(params: PyTree, batch: Any, context: Context, weight: Any = 1.0) -> Any:
        if _has_gradient(jax.eval_shape(loss, params, batch, context), params):
            (value, aux), d_params = loss(params, batch, context)
            return (value * weight, aux), jax.tree.map(lambda leaf: (leaf * weight).astype(leaf.dtype), d_params)

        def weighted(params: PyTree) -> tuple[Any, Any]:
            value, aux = loss(params, batch, context)
            return value * weight, aux

        return jax.value_and_grad(weighted, has_aux=True)(params)

    return value_and_gradient


def metrics_of(aux: Any) -> dict[str, Array]:
    """The numbers in ``aux``, if it is a dict, but for the loss. Raises ValueError for names that are no metrics'."""
    if not isinstance(aux, Mapping):
        return {}
    metrics = {str(name): jnp.asarray(value) for name, value in aux.items() if name != "loss" and _is_number(value)}
    if reserved := sorted(metrics.keys() & RESERVED):
        raise ValueError(
            f"objective returns {', '.join(reserved)} in aux, which is not the name of a metric; rename it"
        )
    return {name: value.astype(jnp.promote_types(value.dtype, jnp.float32)) for name, value in metrics.items()}


def require_loss(objective: Any) -> None:
    """Raises ValueError if ``objective`` is neither an Objective nor a function."""
    if isinstance(objective, Objective) or (callable(objective) and not isinstance(objective, Layer | type)):
        return
    raise ValueError(
        f"objective is a {type(objective).__name__}; give an Objective(model, loss), or a function (params, batch, "
        "context) -> (loss, aux)"
    )


def _has_gradient(shapes: Any, params: PyTree) -> bool:
    """Whether a loss function returns its own gradient. shapes: of what it returns."""
    if not _is_pair(shapes):
        raise ValueError(f"objective returned {_described(shapes)}; {NEEDED}")
    first, second = shapes
    if not _is_pair(first):
        _require_loss(first)
        return False
    _require_loss(first[0])
    needed, returned = (_shapes(tree) for tree in (params, second))
    if jax.tree.structure(params) != jax.tree.structure(second) or needed != returned:
        differing = [path for path in {**needed, **returned} if needed.get(path) != returned.get(path)]
        place = (
            f"at {differing[0] or 'its root'} it has {_shape(returned, differing[0])}, and params "
            f"{_shape(needed, differing[0])}"
            if differing
            else f"it is {jax.tree.structure(second)}, and params {jax.tree.structure(params)}"
        )
        raise ValueError(f"objective returned a gradient that is not like params: {place}; {NEEDED}")
    return True


def _require_loss(loss: Any) -> None:
    if not _is_number(loss):
        remedy = "; take its mean" if getattr(loss, "shape", ()) else ""
        raise ValueError(
            f"objective returned {_described(loss)} as the loss, which must be one number{remedy}; {NEEDED}"
        )
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(f"objective returned {_described(loss)} as the loss, which must be a float; {NEEDED}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or getattr(value, "shape", None) == ()


def _described(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    size = f" of {len(value)}" if isinstance(value, tuple | list | dict) else ""
    return f"a {type(value).__name__}{size}"


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf) for path, leaf in leaves}


def _shape(shapes: Mapping[str, tuple[int, ...]], path: str) -> str:
    return f"shape {shapes[path]}" if path in shapes else "nothing"
