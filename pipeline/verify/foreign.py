"""Functions that are not written in JAX, in NumPy or PyTorch, as ones that JAX can trace."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..layers.base import PyTree
from .rule import Rule, float_places, is_float, outputs


def by_callback(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function in NumPy as one that JAX can trace. It is called once with ones, to find out its shapes."""

    def call(*arguments: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(arguments)
        traced = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray)]

        def on_host(*arrays: Any) -> PyTree:
            own = list(leaves)
            for i, array in zip(traced, arrays):
                own[i] = np.asarray(array)
            return jax.tree.map(np.asarray, function(*jax.tree.unflatten(structure, own)))

        like = on_host(*(np.ones(leaves[i].shape, leaves[i].dtype) for i in traced))
        dtypes = jax.tree.map(lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype), like)
        shapes = jax.tree.map(lambda leaf, dtype: jax.ShapeDtypeStruct(leaf.shape, dtype), like, dtypes)
        cast = lambda *arrays: jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), on_host(*arrays), dtypes)  # noqa: E731
        return jax.pure_callback(cast, shapes, *(jnp.asarray(leaves[i]) for i in traced), vmap_method="sequential")

    return call


def is_torch_function(subject: Any) -> bool:
    """Whether it is a subclass of ``torch.autograd.Function``; PyTorch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(subject, type) and issubclass(subject, torch.autograd.Function)


def of_torch(function: Any, definition: Callable[..., Any], arguments: Sequence[Any], names: tuple[str, ...]) -> Rule:
    """The rule of a ``torch.autograd.Function``, against PyTorch's own autograd of a function of tensors.

    arguments: tensors, arrays, and what else the function takes; none of them is a container.
    """
    torch: Any = sys.modules["torch"]  # the function's own class has loaded it

    arguments = tuple(a.detach().cpu().numpy() if isinstance(a, torch.Tensor) else a for a in arguments)

    def tensors(arguments: Sequence[Any]) -> list[Any]:
        result = []
        for argument in arguments:
            if isinstance(argument, jax.Array | np.ndarray):
                argument = torch.tensor(np.asarray(argument))
                argument.requires_grad_(argument.is_floating_point() or argument.is_complex())
            result.append(argument)
        return result

    def in_numpy(y: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.detach().numpy(), y)

    def pull_back(y: PyTree, inputs: list[Any], d_y: Sequence[Any]) -> list[Any]:
        """The cotangent of every input; None where none reaches it."""
        wanted = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
        floats = [leaf for leaf in jax.tree.leaves(y) if leaf.is_floating_point() or leaf.is_complex()]
        # PyTorch's cotangents of complex numbers are the conjugates of JAX's.
        of_torch = [torch.tensor(np.conj(np.asarray(d))) for d in d_y]
        pairs = [(leaf, d) for leaf, d in zip(floats, of_torch) if leaf.requires_grad]
        results = iter(
            torch.autograd.grad([leaf for leaf, _ in pairs], wanted, [d for _, d in pairs], allow_unused=True)
            if pairs
            else [None] * len(wanted)
        )
        cotangents = [next(results) if isinstance(x, torch.Tensor) and x.requires_grad else None for x in inputs]
        return [None if d is None else np.conj(d.numpy()) for d in cotangents]

    def forward(*arguments: Any) -> tuple[PyTree, Any]:
        inputs = tensors(arguments)
        y = function.apply(*inputs)
        return in_numpy(y), (y, inputs)

    def backward(arguments: tuple, residuals: Any, d_y: PyTree) -> tuple:
        y, inputs = residuals
        return tuple(pull_back(y, inputs, [d for d in jax.tree.leaves(d_y) if d is not None]))

    def by_torch(define: Callable, names: Sequence[str], arrays: Sequence[Any], d_y: Sequence[Any]) -> dict[str, Any]:
        places = float_places(arrays)

        def on_host(arrays: Sequence[Any], d_y: Sequence[Any]) -> list[np.ndarray]:
            rest = iter(arrays)
            own = [next(rest) if isinstance(a, jax.Array | np.ndarray) else a for a in arguments]
            inputs = tensors([np.array(a) if isinstance(a, jax.Array | np.ndarray) else a for a in own])
            cotangents = pull_back(definition(*inputs), inputs, d_y)
            of_arrays = [d for d, a in zip(cotangents, arguments) if isinstance(a, jax.Array | np.ndarray)]
            return [np.zeros_like(arrays[i]) if of_arrays[i] is None else of_arrays[i] for i in places]

        like = [jax.ShapeDtypeStruct(arrays[i].shape, arrays[i].dtype) for i in places]
        d = jax.pure_callback(on_host, like, list(arrays), list(d_y), vmap_method="sequential")
        return {"y": outputs(define(arrays)), "d": {names[i]: leaf for i, leaf in zip(places, d)}}

    return Rule(
        subject=function.__name__,
        reference=by_callback(lambda *arguments: in_numpy(definition(*tensors(arguments)))),
        forward=forward,
        backward=backward,
        arguments=arguments,
        names=names,
        must_jit=False,
        derivative=by_torch,
        differentiated=tuple(not hasattr(a, "dtype") or is_float(a) for a in arguments),
    )
