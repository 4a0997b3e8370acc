"""Which layer of a composed model has the wrong rule: not those below it, which only inherit its error.

Every layer is judged alone, at the input it gets in the model. A layer made of layers is judged with its parts' rules
replaced by autodiff's, so that what is left to be wrong is its own chain rule.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from pipeline.layers.base import Context, Layer, PyTree, Wrapper, children, map_children
from pipeline.verify.diagnose import diagnose
from pipeline.verify.judge import judge
from pipeline.verify.report import Diagnosis, Place
from pipeline.verify.rule import Rule, describe, is_float, of_layer


def locate(rule: Rule) -> tuple[tuple[Place, ...], tuple[Diagnosis, ...]]:
    """The layers of ``rule.layer`` whose own rule is wrong, and what is wrong with them; leaves are called in full."""
    assert rule.layer is not None
    params, x = rule.arguments
    places, diagnoses = [], []
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if is_float(leaf) else None), (params, x))
        for path, part, given in _parts(rule.layer, "", wide[0], wide[1], rule.context):
            checks = () if any(children(part)) else ("state",)
            found = judge(of_layer(part, *given), checks=checks, precisions=())
            if all(row.ok for row in found.rows):
                continue
            own = diagnose(found)
            worst = next(row for row in found.rows if not row.ok)
            places.append(Place(path, described(part), own[0].text if own else str(worst)))
            diagnoses += [dataclasses.replace(d, leaf="/".join(filter(None, (path, d.leaf)))) for d in own]
    return tuple(places), tuple(diagnoses)


def described(layer: Layer) -> str:
    """The layer as it would be written, with its parts in short."""
    if any(isinstance(part, Derived) for _, part in children(layer)):
        layer = map_children(lambda _, part: part.layer if isinstance(part, Derived) else part, layer)
    text = describe(layer)
    return text if len(text) <= 120 else f"{type(layer).__name__}(...)"


def _parts(
    layer: Layer, path: str, params: PyTree, x: PyTree, context: Context
) -> Iterator[tuple[str, Layer, tuple[PyTree, PyTree, Context]]]:
    """Every layer in ``layer``, innermost first, with its path and what it is given; composites over derived parts."""
    parts = list(children(layer))
    if not parts:
        yield path, layer, (params, x, context)
        return
    calls: dict[str, list[tuple[PyTree, PyTree, Context]]] = {name: [] for name, _ in parts}
    tapped = map_children(lambda name, part: _Tap(part, calls[name]), layer)
    with jax.disable_jit():  # so that a scan is a loop, and every call has its numbers
        tapped.apply(params, x, context)
    for name, part in parts:
        if calls[name]:
            yield from _parts(part, f"{path}/{name}" if path else name, *calls[name][-1])
    yield path, map_children(lambda _, part: Derived(part), layer), (params, x, context)


@dataclass(frozen=True, eq=False)
class _Tap(Wrapper):
    """``layer``, noting what each call of its definition is given."""

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
    """``layer`` with the backward pass that autodiff derives from its definition."""

    layer: Layer

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(params, x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.apply(params, x, context), (x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        x, context = residuals
        rule = of_layer(self.layer, params, x, context)
        d_leaves = [d for d in jax.tree.leaves(d_y) if d is not None]
        found = rule.autodiff(rule.arrays, d_leaves)["d"]
        return jax.tree.unflatten(jax.tree.structure((params, x)), [found.get(leaf) for leaf in rule.leaves])
