"""Large arguments made small: what takes minutes at a gigabyte is judged at a sample of its rows and columns."""

import dataclasses
from typing import Any

import numpy as np

from .checks.probes import Sizes
from .domain import Domain
from .programs import code
from .rule import Rule, is_key

MOST_NUMBERS = 2_000_000
"""Arguments of more numbers than this are sampled, where the function accepts other sizes."""

_LENGTHS = (256, 128, 192)
"""The lengths of sampled axes, in turn: multiples of 64, as kernels for whole tiles need them."""


def sampled(rule: Rule, arrays: list[Any], domain: Domain, seed: int) -> tuple[Rule, str]:
    """The rule at smaller arguments, and a note on it; the rule itself and "" where it is small, or must stay large.

    It stays large where a size may be a number in its code.
    """
    count = sum(np.size(array) for array in arrays if not is_key(array))
    own_sizes = {size for array in arrays for size in np.shape(array) if size > max(_LENGTHS)}
    built_in = own_sizes & code.integers(rule.forward, rule.backward, modules=True)
    if rule.layer is not None or count <= MOST_NUMBERS or domain.sizes == "fixed" or built_in:
        return rule, ""
    sizes = Sizes(rule, arrays, domain, seconds=30.0)

    random, kept, changed = np.random.default_rng((seed, 19)), list(arrays), {}
    for number, group in enumerate(sizes.groups):
        length = _LENGTHS[number % len(_LENGTHS)]
        smaller = changed | dict.fromkeys(group, length)
        if sizes.size(group[0]) > length and all(domain.allows(rule, *axis, length) for axis in group):
            if not sizes.allows(smaller):
                continue
            changed = smaller
            order = np.sort(random.choice(sizes.size(group[0]), length, replace=False))
            for i, axis in group:
                kept[i] = np.take(kept[i], order, axis)
    if not changed:
        return rule, ""
    shapes = ", ".join(str(np.shape(array)) for array in kept if np.ndim(array))
    note = f"the arguments hold {count:,} numbers, so the rule is judged at a sample of them: sizes {shapes}"
    return dataclasses.replace(rule, arguments=rule.pack(kept)), note
