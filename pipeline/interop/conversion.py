"""Parameters of layers under the names and in the layouts of other frameworks, and back.

A framework is a table of ``Conversion``s by the type of the layer. Composite layers are converted part by part.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..layers.base import Layer, PyTree, Wrapper, children
from ..layers.repeat import Repeat

Tree = dict[str, Any]


class Conversion(NamedTuple):
    """Both directions for one type of layer.

    to: (layer, params) -> tree under the framework's names. back: (layer, tree) -> params. statistics: the names in the
    tree that hold statistics of the data, which the framework keeps apart from parameters.
    """

    to: Callable[[Any, Tree], Tree]
    back: Callable[[Any, Tree], Tree]
    statistics: tuple[str, ...] = ()


Table = Mapping[type[Layer], Conversion]


def renamed(names: Mapping[str, str], layout: Callable[[Array], Array] = lambda array: array) -> Conversion:
    """Other names for single arrays. names: theirs by ours; layout: what both directions do with the array.

    Without ``use_bias`` a layer has no bias.
    """

    def to(layer: Layer, params: Tree) -> Tree:
        del layer
        return {names[name]: layout(array) for name, array in params.items()}

    def back(layer: Layer, tree: Tree) -> Tree:
        has_bias = getattr(layer, "use_bias", True)
        return {name: layout(tree[theirs]) for name, theirs in names.items() if has_bias or name != "bias"}

    return Conversion(to, back)


def variance(params: Tree) -> Array:
    """The variance, of BatchNorm's mean and mean square."""
    return jnp.maximum(params["mean_square"] - jnp.square(params["mean"]), 0)


def mean_square(mean: Array, variance: Array) -> Array:
    return variance + jnp.square(mean)


def check_epsilon(layer: Layer, module: Any) -> None:
    """Raises ValueError if a module of another framework normalises with another epsilon than ``layer``."""
    ours = getattr(layer, "epsilon", None)
    theirs = getattr(module, "epsilon", getattr(module, "eps", ours))
    if ours != theirs:
        raise ValueError(f"{layer}: the epsilon of {type(module).__name__} is {theirs}; give both the same one")


def to_framework(table: Table, layer: Layer, params: PyTree) -> tuple[PyTree, PyTree]:
    """``params`` under the framework's names: (parameters, statistics). The statistics are {} if there are none."""
    if type(layer) in table:
        conversion = table[type(layer)]
        tree = conversion.to(layer, jax.tree.map(jnp.asarray, params))
        return (
            {name: value for name, value in tree.items() if name not in conversion.statistics},
            {name: value for name, value in tree.items() if name in conversion.statistics},
        )
    if isinstance(layer, Wrapper):
        return to_framework(table, layer.layer, params)
    if isinstance(layer, Repeat):
        parameters, statistics = jax.vmap(lambda params: to_framework(table, layer.layer, params))(params["layer"])
        return {"layer": parameters}, {"layer": statistics} if statistics else {}
    parts = _parts(layer, params)
    if not parts:
        return params, {}
    pairs = {name: to_framework(table, part, params_of) for name, (part, params_of) in parts.items()}
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items() if pair[1]}


def from_framework(table: Table, layer: Layer, parameters: PyTree, statistics: PyTree) -> PyTree:
    """The layer's params, from the result of ``to_framework``. Raises ValueError for missing or unknown names."""
    if type(layer) in table:
        tree = jax.tree.map(jnp.asarray, {**parameters, **statistics})  # a restored checkpoint has NumPy's arrays
        try:
            params = table[type(layer)].back(layer, tree)
            known = jax.tree.structure(table[type(layer)].to(layer, params))
        except KeyError as error:
            raise ValueError(f"{layer}: there is no {error} among {list(shapes(tree))}") from None
        if known != jax.tree.structure(tree):
            raise ValueError(f"{layer}: it has other parameters than {list(shapes(tree))}")
        return params
    if isinstance(layer, Wrapper):
        return from_framework(table, layer.layer, parameters, statistics)
    if isinstance(layer, Repeat):
        both = parameters["layer"], statistics.get("layer", {})
        return {"layer": jax.vmap(lambda both: from_framework(table, layer.layer, *both))(both)}
    names = {_name(path) for path, _ in children(layer)}
    if not names or not isinstance(parameters, Mapping) or not set(parameters) <= names:
        return parameters
    params: Tree = {}
    for path, part in children(layer):
        field, _, place = path.partition("/")
        value = from_framework(table, part, parameters.get(_name(path), {}), statistics.get(_name(path), {}))
        if place:
            params.setdefault(field, []).append(value)
        else:
            params[field] = value
    return params


def _name(path: str) -> str:
    """``layers_0``, as Flax calls the parts of a tuple."""
    return path.replace("/", "_")


def shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a tree, by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _parts(layer: Layer, params: PyTree) -> dict[str, tuple[Layer, PyTree]]:
    """The child layers whose parameters are those of the layer, each with its own."""
    fields = {path.partition("/")[0] for path, _ in children(layer)}
    if not isinstance(params, Mapping) or fields != set(params):
        return {}
    parts = {}
    for path, part in children(layer):
        field, _, place = path.partition("/")
        parts[_name(path)] = (part, params[field][int(place)] if place else params[field])
    return parts
