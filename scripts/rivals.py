"""Other gradient checkers: whether they raise an alarm about a rule."""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from pipeline import compiler
from pipeline.verify.rule import Rule, is_float, is_key, outputs, replaced, spread


def by_check_grads(rule: Rule, dtype: str) -> bool | None:
    """``jax.test_util.check_grads`` in reverse mode, of a ``jax.custom_vjp`` with the rule."""
    with jax.enable_x64(dtype == "float64"):
        arrays = [_cast(array, dtype) for array in rule.arrays]
        places = [i for i, name in enumerate(rule.leaves) if name in rule.floats]
        merged = lambda floats: replaced(arrays, places, floats)  # noqa: E731

        @jax.custom_vjp
        def function(*floats: Any) -> list[Any]:
            return list(outputs(rule.define(merged(floats))).values())

        def forward(*floats: Any) -> tuple[Any, Any]:
            y, residuals = rule.forward(*rule.pack(merged(floats)))
            return list(outputs(y).values()), (floats, residuals, y)

        def backward(residuals: Any, d_y: Any) -> tuple:
            floats, own_residuals, y = residuals
            arguments = rule.pack(merged(floats))
            aligned, _ = rule.align(rule.backward(arguments, own_residuals, spread(y, d_y)), arguments)
            return tuple(aligned[rule.leaves[i]] for i in places)

        function.defvjp(forward, backward)
        try:
            check_grads(function, [arrays[i] for i in places], order=1, modes=["rev"])
        except Exception:
            return True
        return False


def by_gradcheck(rule: Rule) -> bool | None:
    """``torch.autograd.gradcheck`` in float64, of a ``torch.autograd.Function`` with the rule; arrays pass by NumPy.

    The rule is compiled, as the Jacobian is built entry by entry. Compilation would hide a rule that is not
    deterministic, so this is checked before, as gradcheck does. None for complex arguments, and for arguments of more
    than 500 entries, whose Jacobian takes minutes.
    """
    import torch  # pyright: ignore[reportMissingImports]  (where it is installed)

    with jax.enable_x64(True):
        arrays = [_cast(array, "float64") for array in rule.arrays]
        places = [i for i, name in enumerate(rule.leaves) if name in rule.floats]
        if any(np.iscomplexobj(arrays[i]) for i in places) or sum(arrays[i].size for i in places) > 500:
            return None

        def merged(floats: Any) -> list[Any]:
            return replaced(arrays, places, [jnp.asarray(tensor.detach().numpy()) for tensor in floats])

        def value(arrays: Any) -> list[Any]:
            return list(outputs(rule.forward(*rule.pack(arrays))[0]).values())

        def cotangents(arrays: Any, d_y: Any) -> list[Any]:
            manual = rule.manual(arrays, d_y)["d"]
            return [manual[rule.leaves[i]] for i in places]

        try:
            ones = [jnp.ones_like(leaf) for leaf in value(arrays)]
            once, again = cotangents(arrays, ones), cotangents(arrays, ones)
            if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(once, again)):
                return True
        except Exception:
            return True
        value, cotangents = _compiled(value, arrays), _compiled(cotangents, arrays, ones)

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *floats: Any) -> Any:
                ctx.save_for_backward(*floats)
                return tuple(torch.from_numpy(np.array(leaf)) for leaf in value(merged(floats)))

            @staticmethod
            def backward(ctx: Any, *d_y: Any) -> Any:
                d_floats = cotangents(merged(ctx.saved_tensors), [jnp.asarray(d.numpy()) for d in d_y])
                return tuple(torch.from_numpy(np.array(d)) for d in d_floats)

        inputs = [torch.from_numpy(np.array(arrays[i])).requires_grad_() for i in places]
        try:
            return not torch.autograd.gradcheck(Function.apply, inputs, raise_exception=False)
        except Exception:
            return True


def _compiled(function: Callable, *arguments: Any) -> Callable:
    """``function`` under jit; without, if it cannot be traced."""
    compiled = compiler.jit(function)
    try:
        compiled(*arguments)
    except Exception:
        return function
    return compiled


def _cast(array: Any, dtype: str) -> Any:
    if is_key(array) or not is_float(array):
        return array
    return jnp.asarray(array) if jnp.iscomplexobj(array) else jnp.asarray(array).astype(dtype)


RIVALS: dict[str, Callable[[Rule], bool | None]] = {
    "check_grads, float32": lambda rule: by_check_grads(rule, "float32"),
    "check_grads, float64": lambda rule: by_check_grads(rule, "float64"),
}
if importlib.util.find_spec("torch") is not None:
    RIVALS["gradcheck, float64"] = by_gradcheck
"""The other checkers by name: ``(rule) -> whether it raises an alarm``, None where it cannot check the rule."""
