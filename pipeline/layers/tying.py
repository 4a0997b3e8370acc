"""Tied parameters: one array used in several places, such as an embedding that is also the output projection.

A tie is a pair of parameter paths (target, source), such as ``("layers/2/kernel", "layers/0/kernel")``. The target is
left out of the parameters; wherever it is used, the source takes its place. ``Tied`` ties parameters within a layer.
``Objective`` has ``ties`` of its own, since they often connect a model and its loss.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Context, Layer, PyTree

Ties = tuple[tuple[str, str], ...]


def check_ties(params: PyTree, ties: Ties) -> None:
    """Raises ValueError if the two parameters of a tie differ in shape. params: including all targets."""
    for target, source in ties:
        shapes = [_read(params, path).shape for path in (target, source)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Tied: {target} has shape {shapes[0]} and {source} has {shapes[1]}; they must be equal")


def remove_targets(params: PyTree, ties: Ties) -> PyTree:
    """``params`` without the targets of the ties: what is trained and saved."""
    for target, _ in ties:
        params = _write(params, target, None)
    return params


def expand_targets(params: PyTree, ties: Ties) -> PyTree:
    """The inverse of ``remove_targets``: adds every target, equal to its source."""
    for target, source in ties:
        params = _write(params, target, _read(params, source))
    return params


def sum_cotangents(d_params: PyTree, ties: Ties) -> PyTree:
    """The cotangent of an array used in several places is the sum over its uses: d_source += d_target."""
    for target, source in ties:
        d_params = _write(d_params, source, _read(d_params, target) + _read(d_params, source))
    return remove_targets(d_params, ties)


@dataclass(frozen=True)
class Tied(Layer):
    """``layer`` with tied parameters. ties: pairs (target, source) of parameter paths; see the module's docstring.

    >>> import jax
    >>> from backhand.layers import Dense, Serial
    >>> layer = Tied(Serial((Dense(3), Dense(3))), (("layers/1/kernel", "layers/0/kernel"),))
    >>> params = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((2, 3), "float32"))
    >>> [sorted(part) for part in params["layer"]["layers"]]
    [['bias', 'kernel'], ['bias']]
    """

    examplewise: ClassVar[bool] = True

    layer: Layer
    ties: Ties

    def init(self, key: Any, x: PyTree) -> PyTree:
        params = self.layer.init(key, x)
        check_ties(params, self.ties)
        return {"layer": remove_targets(params, self.ties)}

    def _expand(self, params: PyTree) -> PyTree:
        return expand_targets(params["layer"], self.ties)

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.layer.apply(self._expand(params), x, context)

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.forward(self._expand(params), x, context)

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """The layer's own rule on the expanded parameters; then the cotangents of all uses of an array are summed."""
        d_params, d_x = self.layer.backward(self._expand(params), residuals, d_y)
        return {"layer": sum_cotangents(d_params, self.ties)}, d_x

    def after(self, context: Context) -> Context:
        return self.layer.after(context)

    def init_cache(self, params: PyTree, x: PyTree, length: int, context: Context) -> PyTree:
        return self.layer.init_cache(self._expand(params), x, length, context)

    def decode_step(self, params: PyTree, cache: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        return self.layer.decode_step(self._expand(params), cache, x, context)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        return {"layer": remove_targets(self.layer.statistics(self._expand(params), residuals), self.ties)}


def _read(tree: PyTree, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[int(name)] if isinstance(tree, list) else tree[name]
    return tree


def _write(tree: PyTree, path: str, value: Any) -> PyTree:
    """A copy of ``tree`` with ``value`` at ``path``, or without the entry at ``path`` if ``value`` is None."""
    name, _, rest = path.partition("/")
    if isinstance(tree, list):
        return [_write(part, rest, value) if i == int(name) else part for i, part in enumerate(tree)]
    if rest:
        return tree | {name: _write(tree[name], rest, value)}
    others = {key: part for key, part in tree.items() if key != name}
    return others if value is None else others | {name: value}
