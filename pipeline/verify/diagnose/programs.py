"""Wrong by the function's own program: a way of the chain rule lost or counted twice, a product's operand mixed up."""

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np

from pipeline import compiler
from pipeline.layers.base import PyTree
from pipeline.verify import jaxprs
from pipeline.verify.diagnose.edits import Edited
from pipeline.verify.diagnose.mixups import Mixed, Mixup
from pipeline.verify.diagnose.numbers import described
from pipeline.verify.diagnose.suspect import Hypothesis, Suspect, close, factors_along, largest, orders
from pipeline.verify.diagnose.ways import EVERY, FIRST, LAST, Gated, Way
from pipeline.verify.rule import Rule, autodiff
from pipeline.verify.trial import Seen


def stopped(suspect: Suspect) -> Iterator[Hypothesis]:
    """The cotangent as it would be without ``stop_gradient``, or without one of several."""
    rule = suspect.rule
    program = jax.make_jaxpr(rule.define)(suspect.seen.probe.arrays).jaxpr
    places = [jaxprs.source_of(e) for e in jaxprs.equations(program) if e.primitive.name == "stop_gradient"]
    for which in [None, *(range(len(places)) if 1 < len(places) <= 6 else ())] if places else ():
        through = jaxprs.unstopped(rule.define, which)
        function = compiler.jit(lambda arrays, d_y, f=through: autodiff(f, rule.leaves, arrays, d_y)["d"][suspect.leaf])
        where = "" if which is None else f" in {places[which]}"
        text = f"stop_gradient{where} is ignored: a gradient flows where the function holds it back"
        yield Hypothesis(
            "stop_gradient",
            text,
            lambda seen, f=function: np.asarray(f(list(seen.probe.arrays), list(seen.probe.d_y))),
        )


_MOST = 3e7
"""How many numbers all variations of the leaves may have: what is larger is not tried, rather than fill the memory."""


class _Variants:
    """Every leaf's cotangent under variations of the function's program: compiled once for all wrong leaves.

    Raises ValueError where there would be too many numbers.
    """

    def __init__(self, rule: Rule, varied: Callable[[Any, list[Any]], PyTree]) -> None:
        def cotangents(row: Any, arrays: list[Any], d_y: list[Any]) -> dict[str, Any]:
            return autodiff(lambda arrays: varied(row, arrays), rule.leaves, arrays, d_y)["d"]

        self._all = compiler.jit(lambda rows, arrays, d_y: jax.lax.map(lambda row: cotangents(row, arrays, d_y), rows))
        self._found: dict[tuple[int, str], dict[str, np.ndarray]] = {}

    def __call__(self, seen: Seen, what: str, rows: PyTree, leaf: str) -> np.ndarray:
        """(rows, *shape): the leaf's cotangent at a probe under each variation; ``what`` names the set of rows."""
        if (id(seen), what) not in self._found:
            if not self.affordable(len(jax.tree.leaves(rows)[0]), seen):
                raise ValueError(f"{what}: too many variations of arrays of this size")
            found = self._all(rows, list(seen.probe.arrays), list(seen.probe.d_y))
            self._found[id(seen), what] = {name: np.asarray(value) for name, value in found.items()}
        return self._found[id(seen), what][leaf]

    @staticmethod
    def affordable(count: int, seen: Seen) -> bool:
        return count * sum(leaf.size for leaf in seen.reference.values()) <= _MOST


def _shared(suspect: Suspect, name: str, make: Callable[[], Any]) -> Any:
    """What all leaves of one judgement have in common, made once for the sizes of a probe."""
    key = name, *(np.shape(array) for array in suspect.seen.probe.arrays)
    if key not in suspect.found.shared:
        suspect.found.shared[key] = make()
    return suspect.found.shared[key]


def programs(suspect: Suspect) -> Iterator[Hypothesis]:
    """One way of the function's own chain rule lost, twice or scaled; a constant of its program taken for another."""
    try:
        program = _Program(suspect)
        program.closed(suspect.seen)
    except Exception:  # a program that cannot be taken apart says nothing
        return
    yield from program.hypotheses()


class _Program:
    """The leaf's cotangent with each way's gate closed in turn, at the suspect's probe and at others."""

    def __init__(self, suspect: Suspect) -> None:
        self.suspect, rule = suspect, suspect.rule

        def make() -> tuple[Gated, _Variants]:
            gated = Gated(rule.define, list(suspect.seen.probe.arrays))
            return gated, _Variants(rule, lambda row, arrays: gated.run_with(row[0], row[1], row[2], arrays))

        self.gated, self._variants = _shared(suspect, "ways", make)
        self.open = np.ones(len(self.gated.ways))
        self.numbers = np.array([constant.value for constant in self.gated.constants], np.float64)

    def gates(self, seen: Seen, gate: float, step: int = EVERY) -> np.ndarray:
        """(ways, *shape): the cotangent with one way's gate at another number than 1, at one step of a scan or all."""
        rows = 1 + (gate - 1) * np.eye(len(self.open))
        return self._varied(seen, f"gates at {gate}, {step}", rows, step)

    def _varied(self, seen: Seen, what: str, gates: np.ndarray, step: int = EVERY) -> np.ndarray:
        numbers, steps = np.tile(self.numbers, (len(gates), 1)), np.full(len(gates), step)
        return self._variants(seen, what, (gates, numbers, steps), self.suspect.leaf)

    def closed(self, seen: Seen) -> np.ndarray:
        """(ways, *shape): the cotangent with one way closed."""
        return self.gates(seen, 0.0)

    def other_constants(self, seen: Seen) -> tuple[list[str], np.ndarray]:
        """The cotangent with one constant 0, 1 or its reciprocal, or one 0 and another 1."""
        rows, texts = [], []
        places = [i for i, constant in enumerate(self.gated.constants) if constant.value not in (0.0,)][:12]
        for i in places:
            constant = self.gated.constants[i]
            for value in {0.0, 1.0} - {constant.value}:
                rows.append(self._changed({i: value}))
                texts.append(f"as if the constant {constant.value:.6g} in {constant.source} were {value:g}")
        for i, j in itertools.permutations(places, 2):
            one, other = self.gated.constants[i], self.gated.constants[j]
            if one.value != 1.0 and 0 < other.value < 1 and 0 < one.value < 1:
                rows.append(self._changed({i: 1.0, j: 0.0}))
                texts.append(
                    f"as if {one.value:.6g} in {one.source} were 1 and {other.value:.6g} in {other.source} were 0"
                )
        if not rows or not self._variants.affordable(len(rows), self.suspect.seen):
            return [], np.zeros((0, *self.suspect.reference.shape))
        varied = np.ones((len(rows), len(self.open))), np.array(rows), np.full(len(rows), EVERY)
        return texts, self._variants(seen, "constants", varied, self.suspect.leaf)

    def _changed(self, values: dict[int, float]) -> np.ndarray:
        numbers = self.numbers.copy()
        for i, value in values.items():
            numbers[i] = value
        return numbers

    def hypotheses(self) -> Iterator[Hypothesis]:
        suspect = self.suspect
        if len(self.open):
            yield from self._one_way()
            yield from self._every_step()
            yield from self._one_step()
            yield from self._two_ways(plainly=True)
        texts, predicted = self.other_constants(suspect.seen)
        for i, text in enumerate(texts):
            if suspect.same(predicted[i]):
                yield Hypothesis("other function", text, lambda seen, i=i: self.other_constants(seen)[1][i])
        if len(self.open):
            yield from self._one_path()
            yield from self._two_ways(plainly=False)
            yield from self._by_row()

    def _shares(self, seen: Seen) -> np.ndarray:
        """(ways, *shape): what each way contributes."""
        return seen.reference[self.suspect.leaf] - self.closed(seen)

    def _one_way(self) -> Iterator[Hypothesis]:
        suspect, leaf = self.suspect, self.suspect.leaf
        error, shares = suspect.manual - suspect.reference, self._shares(suspect.seen)
        for i, share in enumerate(shares):
            norm = float(np.real(np.vdot(share, share)))
            if not norm > 1e-20 * float(np.real(np.vdot(suspect.reference, suspect.reference)) or 1.0):
                continue
            yield from self._turned(i, share)
            gain = float(np.real(np.vdot(share, error))) / norm
            if not suspect.same(suspect.reference + gain * share):
                continue
            kind, text = _way_words(self.gated.ways[i], 1 + gain, suspect)
            yield Hypothesis(
                kind, text, lambda seen, i=i, gain=gain: seen.reference[leaf] + gain * self._shares(seen)[i]
            )

    def _every_step(self) -> Iterator[Hypothesis]:
        """A way that is gone again and again, as that from step to step: counted twice, or negated, at each."""
        for gate in (2.0, -1.0) if any(len(way.key) > 2 for way in self.gated.ways) else ():
            for i, found in enumerate(self.gates(self.suspect.seen, gate)):
                if self.suspect.same(found):
                    kind, text = _way_words(self.gated.ways[i], gate, self.suspect)
                    yield Hypothesis(kind, text, lambda seen, i=i, gate=gate: self.gates(seen, gate)[i])

    def _turned(self, i: int, share: np.ndarray) -> Iterator[Hypothesis]:
        """What one way contributes, transposed or reversed."""
        leaf = self.suspect.leaf
        turns: list[tuple[str, str, Callable]] = [
            ("transposed", f"transposed (axes {axes})", lambda c, order=order: c.transpose(order))
            for axes, order in orders(share.shape)
        ]
        turns += [
            ("flipped", f"reversed along axis {axis}", lambda c, axis=axis: np.flip(c, axis))
            for axis in range(share.ndim)
            if share.shape[axis] > 1
        ]
        for kind, words, turn in turns:
            if self.suspect.same(self.suspect.reference - share + turn(share)):
                text = f"a term is {words}: the gradient through {self.gated.ways[i]}"

                def predict(seen: Seen, turn: Callable = turn) -> np.ndarray:
                    its = self._shares(seen)[i]
                    return seen.reference[leaf] - its + turn(its)

                yield Hypothesis(kind, text, predict)

    def _one_step(self) -> Iterator[Hypothesis]:
        """A scan's first or last step left out: of one way, or of all that a step adds."""
        inside = [i for i, way in enumerate(self.gated.ways) if self.gated.scan_of(way.key)]
        if not inside:
            return
        for step, words in ((FIRST, "first"), (LAST, "last")):
            for i in inside:
                predict = lambda seen, i=i, step=step: self.gates(seen, 0.0, step)[i]  # noqa: E731
                if self.suspect.same(predict(self.suspect.seen)):
                    text = f"the {words} step of the scan is left out: there the gradient through {self.gated.ways[i]}"
                    yield Hypothesis("missing term", f"{text} is lost", predict)
            every = np.ones((1, len(self.open)))
            every[0, inside] = 0.0
            predict = lambda seen, every=every, step=step: self._varied(seen, f"no step {step}", every, step)[0]  # noqa: E731
            yield Hypothesis("missing term", f"the {words} step of the scan is left out: its share is lost", predict)

    def _distinct(self, most: int) -> list[int]:
        """Ways that contribute, one of those that contribute the same."""
        found: list[int] = []
        shares = self._shares(self.suspect.seen)
        for i, share in enumerate(shares):
            if largest(share) > 1e-9 * largest(self.suspect.reference) and not any(
                close(share, shares[j], 1e-9) for j in found
            ):
                found.append(i)
        return found[:most]

    def _two_ways(self, plainly: bool) -> Iterator[Hypothesis]:
        """Two at once lost or scaled, as the mean's and the variance's of a normalisation.

        plainly: both lost, twice or negated, or by the same factor; otherwise, by any factors.
        """
        suspect, leaf = self.suspect, self.suspect.leaf
        for _, i, j, gains in (fit for fit in self._pairs if fit[0] == plainly):
            one, other = (self.gated.ways[n] for n in (i, j))
            text = f"two ways of the chain rule are lost: through {one} and through {other}"
            if np.abs(gains + 1).max() > 1e-6:
                parts = [_way_words(way, 1 + gain, suspect)[1] for way, gain in zip((one, other), gains)]
                text = "; and ".join(parts)
            yield Hypothesis(
                "missing term" if np.abs(gains + 1).min() <= 1e-6 else "doubled term",
                text,
                lambda seen, i=i, j=j, g=gains: seen.reference[leaf] + np.tensordot(g, self._shares(seen)[[i, j]], 1),
            )

    @cached_property
    def _pairs(self) -> list[tuple[bool, int, int, np.ndarray]]:
        """Two ways that explain the error together: whether plainly (see ``_two_ways``), which, and their gains."""
        suspect, leaf, distinct = self.suspect, self.suspect.leaf, self._distinct(40)
        everywhere = [suspect.seen, *suspect.others]
        error = np.concatenate([(seen.manual[leaf] - seen.reference[leaf]).reshape(-1) for seen in everywhere])
        fits: list[tuple[bool, int, int, np.ndarray]] = []
        if len(distinct) < 2 or error.size < 4:
            return fits
        shares = np.concatenate(
            [self._shares(seen)[distinct].reshape(len(distinct), -1) for seen in everywhere], axis=1
        )
        for a, b in itertools.combinations(range(len(distinct)), 2):
            gains, *_ = np.linalg.lstsq(np.real(shares[[a, b]].T), np.real(error), rcond=1e-10)
            if np.abs(gains @ shares[[a, b]] - error).max() <= suspect.tolerance * largest(error) * 1e2:
                usual = [min(abs(gain - usual) for usual in (-1, 1, -2)) < 1e-6 for gain in gains]
                plain = all(usual) or abs(gains[0] - gains[1]) < 1e-6
                fits.append((bool(plain), distinct[a], distinct[b], gains))
        return fits

    def _by_row(self) -> Iterator[Hypothesis]:
        """A way off by a factor of its own at every index of an axis: divided by another count, say, or masked."""
        suspect, leaf = self.suspect, self.suspect.leaf
        for i, axis in itertools.product(self._distinct(40), range(suspect.reference.ndim)):

            def fitted(seen: Seen, i: int = i, axis: int = axis, least: int = 1) -> np.ndarray | None:
                error = seen.manual[leaf] - seen.reference[leaf]
                return factors_along(error, self._shares(seen)[i], axis, suspect.tolerance, least)

            gains = fitted(suspect.seen, least=2)
            if gains is not None and suspect.reference.shape[axis] * 2 < suspect.reference.size:
                text = f"a term is off by a factor of its own at every index of axis {axis} ({1 + gains.min():.4g} to "
                text += f"{1 + gains.max():.4g}): the gradient through {self.gated.ways[i]}"
                found = lambda seen, fitted=fitted: None if fitted(seen) is None else seen.manual[leaf]  # noqa: E731
                yield Hypothesis("missing factor", text, found)

    def _one_path(self) -> Iterator[Hypothesis]:
        """What goes through two operations, one after the other, where each of them has other shares that are right."""
        suspect, leaf, distinct = self.suspect, self.suspect.leaf, self._distinct(24)
        pairs = list(itertools.combinations(distinct, 2))
        if not pairs or not self._variants.affordable(len(pairs), suspect.seen):
            return
        rows = np.ones((len(pairs), len(self.open)))
        for row, pair in zip(rows, pairs):
            row[list(pair)] = 0.0

        def shared(seen: Seen) -> np.ndarray:
            """(pairs, *shape): what passes both."""
            one, other = (self._shares(seen)[[pair[k] for pair in pairs]] for k in (0, 1))
            return one + other - (seen.reference[leaf] - self._varied(seen, f"closed: {pairs}", rows))

        error = suspect.manual - suspect.reference
        for number, (pair, share) in enumerate(zip(pairs, shared(suspect.seen))):
            norm = float(np.real(np.vdot(share, share)))
            if largest(share) <= 1e-9 * largest(suspect.reference):
                continue
            gain = float(np.real(np.vdot(share, error))) / norm
            if suspect.same(suspect.reference + gain * share):
                _, text = _way_words(self.gated.ways[pair[0]], 1 + gain, suspect)
                text += f", of what also passes {self.gated.ways[pair[1]]}"
                yield Hypothesis(
                    "missing term" if abs(gain + 1) < 1e-7 else "doubled term",
                    text,
                    lambda seen, number=number, gain=gain: seen.reference[leaf] + gain * shared(seen)[number],
                )


def _way_words(way: Way, gate: float, suspect: Suspect) -> tuple[str, str]:
    """What happened to a way of the chain rule, from the factor it counts with."""
    if abs(gate) < 1e-7:
        return "missing term", f"a term is missing: the gradient through {way} is lost"
    if abs(gate - 2) < 1e-7:
        return "doubled term", f"a term counts twice: the gradient through {way}"
    if abs(gate + 1) < 1e-7:
        return "doubled term", f"a term has the wrong sign: the gradient through {way}"
    words = described(gate, suspect.rule, suspect.seen)
    return "doubled term", f"a term is off by the factor {words}: the gradient through {way}"


def mixups(suspect: Suspect) -> Iterator[Hypothesis]:
    """A product's derivative with another value where its other operand belongs; a Jacobian's diagonal alone."""
    yield from _each_alone(suspect, Mixed, lambda mixed: [_mixup_words(mixup) for mixup in mixed.mixups])


def edits(suspect: Suspect) -> Iterator[Hypothesis]:
    """The derivative of the function with one of its decisions made otherwise: a mask, a comparison, a whole number."""
    yield from _each_alone(suspect, Edited, lambda edited: [(edit.kind, edit.text) for edit in edited.edits])


def _each_alone(
    suspect: Suspect, kind: type[Mixed] | type[Edited], described: Callable[[Any], list[tuple[str, str]]]
) -> Iterator[Hypothesis]:
    """The cotangent with one thing at a time changed of those that a program finds in the function.

    described: kind and words of each, in their order.
    """
    rule = suspect.rule

    def make() -> tuple[Mixed | Edited, _Variants]:
        program = kind(rule.define, list(suspect.seen.probe.arrays))
        return program, _Variants(rule, program.run_with)

    try:
        program, variants = _shared(suspect, kind.__name__, make)
        words = described(program)
        rows = np.eye(len(words))
        predict = lambda seen, i: variants(seen, "each alone", rows, suspect.leaf)[i]  # noqa: E731
        if not words or not predict(suspect.seen, 0).size:
            return
    except Exception:  # a program that cannot be taken apart says nothing
        return
    for i, (name, text) in enumerate(words):
        if suspect.same(predict(suspect.seen, i)):
            yield Hypothesis(name, text, lambda seen, i=i: predict(seen, i))


def _mixup_words(mixup: Mixup) -> tuple[str, str]:
    where, operation = f"the product in {mixup.source}", f"the operation in {mixup.source}"
    if mixup.kind == "transposed":
        return "transposed", f"in the derivative of {where} the other operand is transposed"
    if mixup.kind == "ones":
        return "missing factor", f"in the derivative of {where} the other operand is missing as a factor"
    if mixup.kind == "identity":
        return "missing factor", f"the derivative of {operation} is missing, as if it were the identity"
    if mixup.kind == "slope from input":
        return "as if", f"the derivative of {operation} is taken at its input where its output belongs"
    if mixup.kind == "another slope":
        return "other function", f"the slope of {operation} is taken as {mixup.other} of its value y"
    if mixup.kind == "own element":
        return (
            "missing term",
            f"of the sum in {mixup.source} only the element itself is derived: only the diagonal of its Jacobian",
        )
    if mixup.kind == "cotangent transposed":
        return "transposed", f"in the derivative of {where} the incoming cotangent is transposed"
    if mixup.kind == "new state":
        return (
            "shifted",
            f"in the derivative of {where} the new state stands where the previous one belongs (h_t for h_(t-1))",
        )
    return (
        "as if",
        f"in the derivative of {where} the value of {mixup.other_source} stands where the other operand belongs",
    )
