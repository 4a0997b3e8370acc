"""Other gradient checkers, asked about the same rules: whether they raise an alarm."""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from pipeline.verify.rule import Rule, float_places, is_float, is_key, outputs, replaced, spread


def by_check_grads(rule: Rule, dtype: str) -> bool | None:
    """``jax.test_util.check_grads`` in reverse mode, of the function with the rule behind ``jax.custom_vjp``."""
    with jax.enable_x64(dtype == "float64"):
        arrays = [_cast(array, dtype) for array in rule.arrays]
        places = float_places(arrays)
        merged = lambda floats: replaced(arrays, places, floats)  # noqa: E731

        @jax.custom_vjp
        def function(*floats: Any) -> list[Any]:
            return list(outputs(rule.define(merged(floats))).values())

        def forward(*floats: Any) -> tuple[Any, Any]:
            y, residuals = rule.forward(*rule.pack(merged(floats)))
            return list(outputs(y).values()), (floats, residuals, y)

        def backward(kept: Any, d_y: Any) -> tuple:
            floats, residuals, y = kept
            arguments = rule.pack(merged(floats))
            found, _ = rule.align(rule.backward(arguments, residuals, spread(y, d_y)), arguments)
            return tuple(found[rule.leaves[i]] for i in places)

        function.defvjp(forward, backward)
        try:
            check_grads(function, [arrays[i] for i in places], order=1, modes=["rev"])
        except Exception:
            return True
        return False


def by_gradcheck(rule: Rule) -> bool | None:
    """``torch.autograd.gradcheck`` in float64, of the rule behind ``torch.autograd.Function``; arrays pass by NumPy."""
    import torch  # pyright: ignore[reportMissingImports]  (where it is installed)

    with jax.enable_x64(True):
        arrays = [_cast(array, "float64") for array in rule.arrays]
        places = float_places(arrays)
        if any(np.iscomplexobj(arrays[i]) for i in places) or sum(arrays[i].size for i in places) > 2000:
            return None  # its Jacobian is built entry by entry

        def merged(floats: Any) -> list[Any]:
            return replaced(arrays, places, [jnp.asarray(tensor.detach().numpy()) for tensor in floats])

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *floats: Any) -> Any:
                ctx.save_for_backward(*floats)
                y = outputs(rule.define(merged(floats))).values()
                return tuple(torch.from_numpy(np.array(leaf)) for leaf in y)

            @staticmethod
            def backward(ctx: Any, *d_y: Any) -> Any:
                given = merged(ctx.saved_tensors)
                found = rule.manual(given, [jnp.asarray(d.numpy()) for d in d_y])["d"]
                return tuple(torch.from_numpy(np.array(found[rule.leaves[i]])) for i in places)

        inputs = [torch.from_numpy(np.array(arrays[i])).requires_grad_() for i in places]
        try:
            return not torch.autograd.gradcheck(Function.apply, inputs, raise_exception=False)
        except Exception:
            return True


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
