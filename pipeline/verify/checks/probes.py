"""The arguments at which a rule is checked: the author's own, others of the same meaning or other sizes, and edges.

The author gives only example arguments. Their meaning is inferred from their numbers, cautiously: numbers that are all
positive stay positive, rows that add up to 1 still do, ids stay among the ids of the example. Where the definition
itself is not finite, or does not accept the sizes, there is no probe.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..domain import Domain
from ..faults import raise_if_own, run
from ..programs import jaxprs
from ..rule import Rule, is_float, is_key, outputs


@dataclass(frozen=True, eq=False)
class Probe:
    """Arguments, and a cotangent of the outputs.

    name: what is special about them: "as given", "large", "sizes (5, 9), (9, 6)".
    arrays: the arguments' arrays, in float64. d_y: a cotangent for every float output.
    from_author: whether these are the author's own values, where the definition's conventions at kinks count.
    kind: "" for ordinary values, else the edge: "ties", "signs", "zeros", "large", "tiny", "equal ids", "mask",
        "sizes", "broadcast"; "author" for the author's own edges.
    by_chance: whether the example's numbers may be positive, or not near zero, by chance alone.
    """

    name: str
    arrays: list[Any]
    d_y: list[np.ndarray]
    from_author: bool = False
    kind: str = ""
    by_chance: bool = True


def meaning(array: Any) -> str:
    """The meaning of numbers like these: the narrowest of the names that the checks know.

    Floats: "flags" (0 and 1), "shares" (rows that add up to 1), "unit" (in [0, 1]), "positive", "not negative",
    "sorted", "symmetric", "sparse" (mostly zeros, as a triangle), "not zero" (of both signs, and none near 0), "real".
    Others: "mask", "permutation", "ids", "key".
    """
    if is_key(array):
        return "key"
    array = np.asarray(array)
    if array.dtype == bool:
        return "mask"
    if array.dtype.kind in "iu":
        flat = np.sort(array.reshape(-1))
        return "permutation" if array.ndim and flat.size > 1 and (flat == np.arange(flat.size)).all() else "ids"
    if array.dtype.kind != "f" and array.dtype.kind != "c":
        array = array.astype(np.float64)  # bfloat16 and its like
    if array.dtype.kind == "c" or not array.size or not np.isfinite(array).all():
        return "real"
    return _meaning_of_floats(array.astype(np.float64))


def _meaning_of_floats(array: np.ndarray) -> str:
    if array.ndim > 1 and array.shape[-1] > 1 and (array >= 0).all() and np.allclose(array.sum(-1), 1, atol=1e-4):
        return "shares"
    if array.size > 1 and np.isin(array, (0, 1)).all() and (array == 1).any():
        return "flags"
    square = array.ndim > 1 and array.shape[-1] == array.shape[-2] > 1
    if square and np.allclose(array, np.swapaxes(array, -1, -2), rtol=1e-4, atol=1e-6) and array.std():
        return "symmetric"
    if array.ndim and array.shape[-1] > 3 and (np.diff(array, axis=-1) > 0).all():
        return "sorted"
    if array.size > 3 and (array == 0).mean() > 0.4:
        return "sparse"
    if (array > 0).all():
        return "unit" if (array <= 1).all() and array.size > 1 else "positive"
    if (array >= 0).all() or (array <= 0).all():
        return "not negative"
    size = np.abs(array)
    return "not zero" if array.size > 3 and size.min() >= 0.09 * size.max() else "real"


def redraw(array: Any, random: np.random.Generator) -> Any:
    """Other numbers of the same meaning, in the same range. Arrays without floats stay the same."""
    if not is_float(array):
        return array
    what = meaning(array)
    if what in ("flags", "sparse", "sorted") or np.iscomplexobj(array):
        return array * (1.0 if what == "flags" else random.uniform(0.8, 1.25))
    if what == "symmetric":  # D A D is symmetric, and positive definite where A is
        scale = random.uniform(0.8, 1.25, array.shape[:-1])
        return array * scale[..., :, None] * scale[..., None, :]
    if array.size == 1 or what in ("positive", "not zero"):
        return array * random.uniform(0.8, 1.25, array.shape)
    if what == "shares":
        share = random.uniform(0.2, 0.8)
        return share * array + (1 - share) * array[random.permutation(len(array))]
    shuffle = lambda: random.permutation(array.reshape(-1)).reshape(array.shape)  # noqa: E731
    share = random.uniform(0.2, 0.8, array.shape)
    mixed = share * shuffle() + (1 - share) * shuffle()
    return mixed * random.choice((-1.0, 1.0), array.shape) if what == "real" else mixed


def cotangents(rule: Rule, arrays: Sequence[Any], random: np.random.Generator) -> list[np.ndarray]:
    """Normally distributed cotangents for every float output at these arguments."""
    y = outputs(run(jax.eval_shape, rule.define, list(arrays))).values()
    return [_normal(leaf, random) for leaf in y]


def _normal(leaf: Any, random: np.random.Generator) -> np.ndarray:
    draw = (
        random.normal(size=leaf.shape) if leaf.shape else np.asarray(random.choice((-1, 1)) * random.uniform(0.6, 1.7))
    )
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return draw + 1j * random.normal(size=leaf.shape)
    return np.asarray(draw)


def same_sizes(rule: Rule, arrays: list[Any], random: np.random.Generator) -> Iterator[Probe]:
    """Probes that need no new compilation: those of the author's arguments come first."""
    d_y = cotangents(rule, arrays, random)
    another = lambda: [_normal(leaf, random) for leaf in d_y]  # noqa: E731
    yield Probe("as given", arrays, d_y, from_author=True)
    yield Probe("as given, another cotangent", arrays, another(), from_author=True)
    if any(leaf.size > 1 for leaf in d_y):
        yield Probe(
            "as given, one output's cotangent", arrays, [_one_hot(leaf, random) for leaf in d_y], from_author=True
        )
    for count in ("other values", "other values again"):
        yield Probe(count, [redraw(array, random) for array in arrays], another())
    yield from _edges(arrays, another, random)


def _one_hot(leaf: np.ndarray, random: np.random.Generator) -> np.ndarray:
    result = np.zeros_like(leaf)
    if leaf.size:
        result.reshape(-1)[random.integers(leaf.size)] = 1.3
    return result


def _edges(arrays: list[Any], d_y: Callable, random: np.random.Generator) -> Iterator[Probe]:
    means = [meaning(array) for array in arrays]
    if {"real", "not zero"} & set(means):
        size = lambda array: float(np.abs(array).max(initial=0.0)) or 1.0  # noqa: E731

        def change(function: Callable[[Any], Any]) -> list[Any]:
            return [function(array) if what in ("real", "not zero") else array for array, what in zip(arrays, means)]

        if "not zero" in means:
            signs = lambda array: random.choice((-1.0, 1.0), np.shape(array)) * np.ones_like(array)  # noqa: E731
            yield Probe("ties", change(signs), d_y(), kind="ties")
        else:
            tied = lambda array: random.integers(-1, 2, np.shape(array)) * np.ones_like(array)  # noqa: E731
            yield Probe("zeros and ties", change(tied), d_y(), kind="ties")
            yield Probe("all zero", change(np.zeros_like), d_y(), kind="ties")
        yield Probe("large", change(lambda array: array * (1e4 / size(array))), d_y(), kind="large")
        yield Probe("tiny", change(lambda array: array * (1e-6 / size(array))), d_y(), kind="tiny")
    yield from _signs_and_zeros(arrays, means, d_y, random)
    if any(what == "ids" and array.ndim and array.size > 1 for what, array in zip(means, arrays)):
        equal = [
            np.full_like(array, array.reshape(-1)[array.size // 2]) if what == "ids" and array.ndim else array
            for array, what in zip(arrays, means)
        ]
        yield Probe("equal ids", equal, d_y(), kind="equal ids")
    for place, what in enumerate(means):
        if what in ("mask", "flags") and arrays[place].ndim:
            row = np.array(arrays[place])
            row[:1] = 0
            yield Probe("one row wholly masked", [*arrays[:place], row, *arrays[place + 1 :]], d_y(), kind="mask")
            none = np.zeros_like(row)
            yield Probe("everything masked", [*arrays[:place], none, *arrays[place + 1 :]], d_y(), kind="mask")
            half = (np.arange(row.shape[-1]) < (row.shape[-1] + 1) // 2) * np.ones_like(row)
            padded = half.astype(row.dtype)
            yield Probe("masked at the end", [*arrays[:place], padded, *arrays[place + 1 :]], d_y(), kind="mask")


def _signs_and_zeros(
    arrays: list[Any], means: list[str], d_y: Callable, random: np.random.Generator
) -> Iterator[Probe]:
    """Both signs and zeros, in each array whose example numbers are all positive, or none of them near zero."""
    for place, what in enumerate(means):
        if what not in ("positive", "not negative", "unit", "not zero"):
            continue
        array, number = arrays[place], f" in array {place + 1}"
        few = np.size(array) < 8

        def probe(name: str, values: Any, kind: str, place: int = place, few: bool = few) -> Probe:
            return Probe(name, [*arrays[:place], values, *arrays[place + 1 :]], d_y(), kind=kind, by_chance=few)

        if what != "not zero":
            signs = random.choice((-1.0, 1.0), np.shape(array)) if np.size(array) > 1 else -1.0
            # A single positive number beside arrays is a temperature, a slope or a scale, whose sign means something.
            is_scale = np.size(array) == 1 < max(map(np.size, arrays))
            yield probe(f"both signs{number}", array * signs, "signs", few=not is_scale)
        if what != "not negative":
            yield probe(f"zeros{number}", array * random.integers(0, 2, np.shape(array)), "zeros")
            yield probe(f"all zero{number}", np.zeros_like(array), "zeros")


_RECURRENT = {"scan", "while", "cumprod", "cumlogsumexp", "reduce_prod", "pallas_call", "pure_callback"}
"""Operations of functions at which more than 128 numbers in a row may overflow, or take long."""


class Sizes:
    """Which axes of which arguments share a size: the definition is traced with other shapes to find out."""

    def __init__(self, rule: Rule, arrays: list[Any], domain: Domain = Domain(), seconds: float = 2.0) -> None:  # noqa: B008  (frozen)
        self.rule, self.arrays, self.domain, self.until = rule, arrays, domain, time.monotonic() + seconds
        self.axes = [(i, axis) for i, array in enumerate(arrays) for axis in range(np.ndim(array)) if not is_key(array)]
        self.groups = self._groups()

    def size(self, axis: tuple[int, int]) -> int:
        return self.arrays[axis[0]].shape[axis[1]]

    def allows(self, sizes: dict[tuple[int, int], int]) -> bool:
        """Whether the definition accepts arguments of these sizes."""
        try:
            run(jax.eval_shape, self.rule.define, self._like(sizes))
        except Exception as error:
            raise_if_own(error)
            return False
        return True

    def _like(self, sizes: dict[tuple[int, int], int]) -> list[Any]:
        shapes = [list(np.shape(array)) for array in self.arrays]
        for (i, axis), size in sizes.items():
            shapes[i][axis] = size
        return [
            array if is_key(array) else jax.ShapeDtypeStruct(tuple(shape), array.dtype)
            for shape, array in zip(shapes, self.arrays)
        ]

    def _groups(self) -> list[tuple[tuple[int, int], ...]]:
        """The smallest sets of axes of equal size that can grow together without others."""
        groups: list[tuple[tuple[int, int], ...]] = []
        by_size: dict[int, list[tuple[int, int]]] = {}
        for axis in self.axes:
            by_size.setdefault(self.size(axis), []).append(axis)
        fixed = {i for i, array in enumerate(self.arrays) if not is_float(array) and meaning(array) == "permutation"}
        if self.rule.layer is not None:  # its parameters have the sizes that its own fields give them
            fixed |= {i for i, leaf in enumerate(self.rule.leaves) if leaf.split("/")[0] != "x"}
        for size, axes in by_size.items():
            rest = [axis for axis in axes if axis[0] not in fixed] if size else []
            for count in range(1, len(axes) + 1):
                for group in itertools.combinations(tuple(rest), count):
                    if time.monotonic() > self.until:
                        return groups
                    if all(axis in rest for axis in group) and self.allows(dict.fromkeys(group, size + 2)):
                        groups.append(group)
                        rest = [axis for axis in rest if axis not in group]
                if not rest:
                    break
        return groups

    def _permitted(self, group: tuple[tuple[int, int], ...], size: int) -> int | None:
        """The size, or the next larger one that the domain has for these axes; None where it has none."""
        if self.domain.sizes is None:
            return size
        fits = lambda size: all(self.domain.allows(self.rule, *axis, size) for axis in group)  # noqa: E731
        return next(filter(fits, range(size, 4 * size + 260)), None)

    def unrolled(self) -> set[int]:
        """The groups that must not grow beyond 128: a program that is longer at larger sizes has a loop over them."""
        kinds = jaxprs.primitives(self.rule.define, self.arrays)
        if kinds & _RECURRENT or sum(np.size(array) for array in self.arrays) > 4096:
            return set(range(len(self.groups)))
        length = self._length({})
        return {
            number
            for number, group in enumerate(self.groups)
            if number >= 2 or self._length(dict.fromkeys(group, self.size(group[0]) + 2)) != length
        }

    def _length(self, sizes: dict[tuple[int, int], int]) -> int:
        return len(jaxprs.operations(self.rule.define, self._like(sizes)))

    def broadcast(self, random: np.random.Generator) -> Iterator[Probe]:
        """Probes in which one array has a size of 1 on an axis that it has in common with others."""
        for group in self.groups:
            for axis in group[1:] if len(group) > 1 and self.size(group[0]) > 1 else ():
                if self.domain.sizes is None and is_float(self.arrays[axis[0]]) and self.allows({axis: 1}):
                    arrays = list(self.arrays)
                    arrays[axis[0]] = np.take(arrays[axis[0]], [0], axis[1])
                    name = f"axis {axis[1]} of {self.rule.leaves[axis[0]]} of size 1"
                    yield Probe(name, arrays, cotangents(self.rule, arrays, random), kind="broadcast")
                    return

    def resized(
        self, name: str, new: Callable[[int, int], tuple[int, ...]], random: np.random.Generator
    ) -> Probe | None:
        """A probe with the first of ``new(number of the group, its size)`` that is allowed; None where none is.

        Values are those of the example, repeated in a random order and changed a little.
        """
        sizes: dict[tuple[int, int], int] = {}
        for number, group in enumerate(self.groups):
            for candidate in new(number, self.size(group[0])):
                size = self._permitted(group, candidate)
                if size is not None and self.allows(sizes | dict.fromkeys(group, size)):
                    sizes |= dict.fromkeys(group, size)
                    break
        if not sizes:
            return None
        arrays = list(self.arrays)
        for group in self.groups:
            if group[0] in sizes:
                old, size = self.size(group[0]), sizes[group[0]]
                order = np.sort(
                    random.permutation(np.arange(max(size, old)) % old)[:size]
                )  # a sorted array stays sorted
                for i, axis in group:
                    arrays[i] = np.take(arrays[i], order, axis)
        arrays = [self._alike(array, original, random) for array, original in zip(arrays, self.arrays)]
        shapes = ", ".join(str(np.shape(array)) for array in arrays if np.ndim(array))
        try:
            return Probe(f"{name}: sizes {shapes}", arrays, cotangents(self.rule, arrays, random), kind="sizes")
        except Exception as error:  # the definition may raise at these values, as where they index too far
            raise_if_own(error)
            return None

    @staticmethod
    def _alike(array: Any, original: Any, random: np.random.Generator) -> Any:
        if not is_float(array) or np.shape(array) == np.shape(original):
            return array
        what = meaning(original)
        if what == "shares":
            return array / array.sum(-1, keepdims=True)
        if what == "sorted":
            return np.sort(array * random.uniform(1.0, 1.01, array.shape), -1)
        if what == "unit":
            return array * random.uniform(0.7, 1.0, array.shape)
        return array if what in ("flags", "symmetric", "sparse") else array * random.uniform(0.7, 1.3, array.shape)


_MOST_NUMBERS = 1_000_000
"""An intermediate array of more numbers than this takes longer than a check may."""


def _largest_value(rule: Rule, probe: Probe) -> int:
    """The number of elements of the largest array in either program at a probe; 0 where they cannot be traced."""
    both = lambda arrays, d_y: (rule.autodiff(arrays, d_y), rule.manual(arrays, d_y)["y"])  # noqa: E731
    try:
        operations = run(jaxprs.operations, both, list(probe.arrays), list(probe.d_y))
    except Exception as error:  # the comparison itself will say so
        raise_if_own(error)
        return 0
    return max((v.aval.size for o in operations for v in o.outvars if hasattr(v.aval, "size")), default=0)


def other_sizes(
    rule: Rule,
    arrays: list[Any],
    random: np.random.Generator,
    domain: Domain = Domain(),  # noqa: B008  (frozen)
    wants_smaller: Callable[[], bool] = lambda: False,
) -> Iterator[Probe]:
    """Probes with larger sizes that differ from each other, beyond 128 where they can, odd ones, a single example.

    wants_smaller: is asked after the first whether sizes below 128 are needed, too.
    """
    if domain.sizes == "fixed":
        return
    sizes = Sizes(rule, arrays, domain)
    # In even steps: a rule for windows of odd sizes need not be right for even ones.
    large = sizes.unrolled()

    def grown(number: int, size: int) -> tuple[int, ...]:
        wider = 130 + (size - 130) % 2 + 2 * number
        return (
            (*((wider,) if number not in large and size < wider else ()), size + 2 * (number + 1)) if size > 1 else ()
        )

    smaller_needed = False
    if (probe := sizes.resized("other sizes", grown, random)) is not None:
        smaller_needed = _largest_value(rule, probe) > _MOST_NUMBERS
        if not smaller_needed:
            yield probe
    if smaller_needed or wants_smaller():
        probe = sizes.resized("other sizes", lambda *group: grown(*group)[-1:], random)
        yield from () if probe is None else (probe,)
    odd = sizes.resized("odd sizes", lambda _, size: (size + 1,) if size >= 4 and size % 2 == 0 else (), random)
    whole = {i for i, array in enumerate(arrays) if not is_float(array) and np.ndim(array)}

    def one(number: int, size: int) -> tuple[int, ...]:
        # Not fewer rows than ids, and not fewer steps than the lengths count: those arguments would be wrong.
        reached = {i for i, axis in sizes.groups[number] if axis == 0}
        leading = all(axis == 0 for _, axis in sizes.groups[number])
        return (1,) if size > 1 and leading and whole <= reached else ()

    single = sizes.resized("one example", one, random)
    yield from (probe for probe in (odd, single, *sizes.broadcast(random)) if probe is not None)
