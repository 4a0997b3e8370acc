"""Which layer of a composed model has the wrong rule; the layers before it only inherit its error.

Every layer is judged alone, at its input in the model. A layer made of layers is judged with the rules of its parts
replaced by autodiff, so that only its own chain rule can be wrong.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ...layers.base import Context, Layer, PyTree, Wrapper, children, map_children
from ..judge import judge
from ..make_rule import describe, of_layer
from ..report import Diagnosis
from ..report.results import Place
from ..rule import Rule, is_float
from . import diagnose


def locate(rule: Rule) -> tuple[tuple[Place, ...], tuple[Diagnosis, ...]]:
    """The layers of ``rule.layer`` whose own rule is wrong, and their diagnoses, with the leaves' full paths."""
    assert rule.layer is not None
    params, x = rule.arguments
    places, diagnoses = [], []
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if is_float(leaf) else None), (params, x))
        for path, part, arguments in _parts(rule.layer, "", params, x, rule.context):
            checks = () if any(children(part)) and not part.indivisible else ("state",)
            judgement = judge(of_layer(part, *arguments), checks=checks, precisions=())
            if judgement.ok:
                continue
            own = diagnose(judgement)
            worst = next(row for row in judgement.rows if not row.ok)
            places.append(Place(path, _describe_part(part), own[0].text if own else str(worst)))
            diagnoses += [dataclasses.replace(d, leaf="/".join(filter(None, (path, d.leaf)))) for d in own]
    return tuple(places), tuple(diagnoses)


def _describe_part(layer: Layer) -> str:
    """The layer as it would be written, shortened where it is long."""
    if any(isinstance(part, Derived) for _, part in children(layer)):
        layer = map_children(lambda _, part: part.layer if isinstance(part, Derived) else part, layer)
    text = describe(layer)
    return text if len(text) <= 120 else f"{type(layer).__name__}(...)"


def _parts(
    layer: Layer, path: str, params: PyTree, x: PyTree, context: Context
) -> Iterator[tuple[str, Layer, tuple[PyTree, PyTree, Context]]]:
    """Every layer in ``layer``, innermost first, with path, params, input and context; composites of derived parts."""
    parts = [] if layer.indivisible else list(children(layer))
    if not parts:
        yield path, layer, (params, x, context)
        return
    calls: dict[str, list[tuple[PyTree, PyTree, Context]]] = {name: [] for name, _ in parts}
    tapped = map_children(lambda name, part: _Tap(part, calls[name]), layer)
    with jax.disable_jit():  # so that a scan is a loop, and every call has numbers
        tapped.apply(params, x, context)
    for name, part in parts:
        if calls[name]:
            yield from _parts(part, f"{path}/{name}" if path else name, *calls[name][-1])
    yield path, map_children(lambda _, part: Derived(part), layer), (params, x, context)


@dataclass(frozen=True, eq=False)
class _Tap(Wrapper):
    """``layer``, recording the arguments of every call."""

    layer: Layer
    calls: list[tuple[PyTree, PyTree, Context]]

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        self.calls.append((params, x, context))
        return self.layer.apply(params, x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        self.calls.append((params, x, context))
        return self.layer.forward(params, x, context)


@dataclass(frozen=True)
class Derived(Wrapper):
    """``layer`` with autodiff's backward pass of its definition."""

    layer: Layer

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(params, x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.apply(params, x, context), (x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        x, context = residuals
        rule = of_layer(self.layer, params, x, context)
        d_leaves = [d for d in jax.tree.leaves(d_y) if d is not None]
        cotangents = rule.autodiff(rule.arrays, d_leaves)["d"]
        return jax.tree.unflatten(jax.tree.structure((params, x)), [cotangents.get(leaf) for leaf in rule.leaves])
