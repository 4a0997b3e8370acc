"""Every rule in a module, with arguments to check it at: for ``backhand verify my_rules.py``.

A rule is a ``jax.custom_vjp`` or ``jax.custom_jvp``, compiled or not; a layer of this package; a function ``f`` beside
its two passes, ``f_forward`` and ``f_backward`` (or ``f_fwd`` and ``f_bwd``), or beside ``f_reference``, the same in
plain JAX.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ..errors import UserError
from ..layers.base import Context, Layer
from .assertion import own_rule
from .targets import call, draw, draw_params

_PASSES = (("_forward", "_backward"), ("_fwd", "_bwd"))
_SHAPES = tuple(f"float32[{sizes}]" for sizes in ("4,6", "6", "6,3", "3", "4", "", "2,5,4,6"))
"""Tried in this order where nothing says what the arguments are."""


@dataclass(frozen=True)
class FoundRule:
    """A rule of a module, by name. parts: what ``report_on`` takes before the arguments."""

    name: str
    parts: tuple[Any, ...]

    @property
    def definition(self) -> Callable[..., Any]:
        """What the arguments must be accepted by."""
        subject = self.parts[0]
        own = own_rule(subject)
        return self.parts[1] if len(self.parts) == 2 else subject if own is None else own.fun


def find_rules(module: ModuleType) -> list[FoundRule]:
    """The rules that are defined in a module, in their order."""
    return list(_rules(module))


def _rules(module: ModuleType) -> Iterator[FoundRule]:
    names = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    for name, value in names.items():
        if isinstance(value, Layer):
            yield FoundRule(name, (value,))
        elif not callable(value) or isinstance(value, type):
            continue
        elif (own := own_rule(value)) is not None:
            reference = names.get(f"{name}_reference")
            if getattr(own.fun, "__module__", None) == module.__name__:
                yield FoundRule(name, (value,) if reference is None else (value, reference))
        elif passes := next((p for p in _PASSES if all(callable(names.get(name + end)) for end in p)), None):
            yield FoundRule(name, (value, *(names[name + end] for end in passes)))
        elif callable(reference := names.get(f"{name}_reference")):
            yield FoundRule(name, (value, reference))


def arguments_of(rule: FoundRule, module: ModuleType, given: tuple | None, seed: int) -> tuple[tuple, str]:
    """Arguments of a rule, as ``report_on`` takes them, and what is to be said of them.

    They are the module's ``NAME_arguments`` (a tuple, or a function that returns one), else those that were given, else
    random ones of shapes that the definition accepts. Raises UserError where none are found.
    """
    own = getattr(module, f"{rule.name}_arguments", None)
    if own is not None:
        value = call(f"{rule.name}_arguments", own) if callable(own) else own
        if not isinstance(value, tuple | list):
            raise UserError(f"{rule.name}_arguments is a {type(value).__name__}; it must be a tuple of arguments")
        return _as_parts(rule, tuple(value)), ""
    if given is not None and _accepts(rule, given):
        return _as_parts(rule, given), ""
    accepted = [shapes for shapes in _guesses(rule) if _accepts(rule, draw(shapes, seed))]
    if accepted:  # those that the rule takes, too, if there are any
        shapes = next((s for s in accepted[:40] if _runs(rule, draw(s, seed))), accepted[0])
        return _as_parts(rule, draw(shapes, seed)), f"random {', '.join(shapes)}"
    raise UserError(f"no arguments: write {rule.name}_arguments = (...) beside it, or give --shapes")


def _as_parts(rule: FoundRule, arguments: tuple) -> tuple:
    layer = rule.parts[0]
    if not isinstance(layer, Layer):
        return (arguments,)
    x = arguments[0] if len(arguments) == 1 else arguments
    return draw_params(layer, x), x, Context(train=True, key=jax.random.key(2))


def _guesses(rule: FoundRule) -> Iterator[tuple[str, ...]]:
    """Shapes for as many arguments as the definition needs."""
    if isinstance(rule.parts[0], Layer):
        yield from ((shape,) for shape in _SHAPES)
        return
    try:
        parameters = inspect.signature(rule.definition).parameters.values()
    except (TypeError, ValueError):
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
    yield from itertools.islice(itertools.product(_SHAPES, repeat=count), 400)


def _accepts(rule: FoundRule, arguments: tuple) -> bool:
    """Whether the definition accepts the arguments, and has an output into which gradients may flow."""
    try:
        if isinstance(rule.parts[0], Layer):
            params, x, context = _as_parts(rule, arguments)
            y = jax.eval_shape(rule.parts[0].apply, params, x, context)
        else:
            y = jax.eval_shape(lambda: rule.definition(*map(jax.numpy.asarray, arguments)))
    except Exception:  # as it may be of functions for other shapes
        return False
    return any(np.issubdtype(leaf.dtype, np.inexact) for leaf in jax.tree.leaves(y))


def _runs(rule: FoundRule, arguments: tuple) -> bool:
    """Whether the rule's two passes run at the arguments, and give cotangents of their shapes."""
    if len(rule.parts) < 3:
        return True

    def cotangents() -> Any:
        primals = tuple(map(jax.numpy.asarray, arguments))
        y, residuals = rule.parts[1](*primals)
        return rule.parts[2](residuals, jax.tree.map(jax.numpy.ones_like, y))

    try:
        d = jax.eval_shape(cotangents)
    except Exception:
        return False
    return len(d) == len(arguments) and all(c is None or c.shape == a.shape for c, a in zip(d, arguments))
