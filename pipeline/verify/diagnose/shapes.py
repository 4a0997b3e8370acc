"""Which sum is missing or too many, where a cotangent has another shape than its argument."""

import itertools

import numpy as np

from .suspect import join_axes, largest


def of_shapes(manual: np.ndarray, right: np.ndarray) -> tuple[str, str]:
    """Kind and words of a cotangent whose shape differs from the right one's."""
    close = lambda a, b: a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-8 * max(largest(b), 1e-300))  # noqa: E731
    if manual.size == right.size and close(manual.reshape(right.shape), right):
        return "shape", "the numbers are right, but in another shape"
    for count in range(1, manual.ndim + 1):
        for axes in itertools.combinations(range(manual.ndim), count):
            if any(close(manual.sum(axes, keepdims=keep), right) for keep in (False, True)):
                return "missing sum", f"missing sum over axis {join_axes(axes)}: the argument was broadcast over it"
    for count in range(1, right.ndim + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            for keep in (False, True):
                if close(manual, right.sum(axes, keepdims=keep)):
                    return "extra sum", f"summed over axis {join_axes(axes)}, which must stay"
                if close(manual, right.mean(axes, keepdims=keep)):
                    return "extra sum", f"averaged over axis {join_axes(axes)}, which must stay"
    if manual.ndim == right.ndim and manual.ndim > 1:
        for order in itertools.permutations(range(right.ndim)):
            if close(manual, right.transpose(order)):
                return "transposed", f"transposed: its axes are in the order {list(order)}"
    if manual.ndim == right.ndim + 1 or (manual.ndim == right.ndim and manual.size > right.size):
        axes = [i for i in range(manual.ndim) if manual.ndim > right.ndim or manual.shape[i] != right.shape[i]]
        return "missing sum", f"a sum is missing (over axis {join_axes(axes[:1])}, judging by the shapes)"
    if manual.size < right.size and manual.ndim <= right.ndim:
        return "extra sum", "an axis is missing"
    return "shape", ""
