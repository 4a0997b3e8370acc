"""Mistakes in the function's own program: a term of the chain rule lost or counted twice, an operand mixed up."""

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ... import compiler
from ...layers.base import PyTree
from ..programs import jaxprs
from ..programs.edits import Edited
from ..programs.mixups import Mixed, Mixup
from ..programs.terms import EVERY, FIRST, LAST, Gated, Term
from ..rule import Rule, autodiff
from ..trial import Observation
from .numbers import describe_number
from .suspect import Hypothesis, Suspect, close, factors_along, largest, orders


def stop_gradients(suspect: Suspect) -> Iterator[Hypothesis]:
    """The cotangent without ``stop_gradient``, or without one of several."""
    rule = suspect.rule
    program = jax.make_jaxpr(rule.define)(suspect.observation.probe.arrays).jaxpr
    places = [jaxprs.source_of(e) for e in jaxprs.equations(program) if e.primitive.name == "stop_gradient"]
    for which in [None, *(range(len(places)) if 1 < len(places) <= 6 else ())] if places else ():
        through = jaxprs.unstopped(rule.define, which)
        function = compiler.jit(lambda arrays, d_y, f=through: autodiff(f, rule.leaves, arrays, d_y)["d"][suspect.leaf])
        where = "" if which is None else f" in {places[which]}"
        text = f"stop_gradient{where} is ignored: a gradient flows where the function holds it back"
        yield Hypothesis(
            "stop_gradient",
            text,
            lambda observation, f=function: np.asarray(f(list(observation.probe.arrays), list(observation.probe.d_y))),
        )


_MOST = 3e7
"""The most numbers that all variants of the leaves may have: more would fill the memory, and are not tried."""


class _Variants:
    """Every leaf's cotangent under variations of the function's program, compiled once for all wrong leaves.

    Raises ValueError where there would be too many numbers.
    """

    def __init__(self, rule: Rule, varied: Callable[[Any, list[Any]], PyTree]) -> None:
        def cotangents(row: Any, arrays: list[Any], d_y: list[Any]) -> dict[str, Any]:
            return autodiff(lambda arrays: varied(row, arrays), rule.leaves, arrays, d_y)["d"]

        self._all = compiler.jit(lambda rows, arrays, d_y: jax.lax.map(lambda row: cotangents(row, arrays, d_y), rows))
        self._cotangents: dict[tuple[int, str], dict[str, np.ndarray]] = {}

    def __call__(self, observation: Observation, what: str, rows: PyTree, leaf: str) -> np.ndarray:
        """(rows, *shape): the leaf's cotangent at a probe under each variation; ``what`` names the set of rows."""
        if (id(observation), what) not in self._cotangents:
            if not self.affordable(len(jax.tree.leaves(rows)[0]), observation):
                raise ValueError(f"{what}: too many variations of arrays of this size")
            cotangents = self._all(rows, list(observation.probe.arrays), list(observation.probe.d_y))
            self._cotangents[id(observation), what] = {name: np.asarray(value) for name, value in cotangents.items()}
        return self._cotangents[id(observation), what][leaf]

    @staticmethod
    def affordable(count: int, observation: Observation) -> bool:
        return count * sum(leaf.size for leaf in observation.reference.values()) <= _MOST


def _shared(suspect: Suspect, name: str, make: Callable[[], Any]) -> Any:
    """Programs that all leaves of one judgement share, made once for the sizes of a probe."""
    key = name, *(np.shape(array) for array in suspect.observation.probe.arrays)
    if key not in suspect.judgement.cache:
        suspect.judgement.cache[key] = make()
    return suspect.judgement.cache[key]


def chain_rule_terms(suspect: Suspect) -> Iterator[Hypothesis]:
    """One term of the function's own chain rule lost, doubled or scaled; another constant in its program."""
    try:
        program = _Program(suspect)
        program.closed(suspect.observation)
    except Exception:  # a program that cannot be interpreted explains nothing
        return
    yield from program.hypotheses()


class _Program:
    """The leaf's cotangent with each term's gate closed in turn, at the suspect's observation and at others."""

    def __init__(self, suspect: Suspect) -> None:
        self.suspect, rule = suspect, suspect.rule

        def make() -> tuple[Gated, _Variants]:
            gated = Gated(rule.define, list(suspect.observation.probe.arrays))
            return gated, _Variants(rule, lambda row, arrays: gated.run_with(row[0], row[1], row[2], arrays))

        self.gated, self._variants = _shared(suspect, "terms", make)
        self.open = np.ones(len(self.gated.terms))
        self.numbers = np.array([constant.value for constant in self.gated.constants], np.float64)

    def gates(self, observation: Observation, gate: float, step: int = EVERY) -> np.ndarray:
        """(terms, *shape): the cotangent with one gate at another number than 1, at one step of a scan or all."""
        rows = 1 + (gate - 1) * np.eye(len(self.open))
        return self._varied(observation, f"gates at {gate}, {step}", rows, step)

    def _varied(self, observation: Observation, what: str, gates: np.ndarray, step: int = EVERY) -> np.ndarray:
        numbers, steps = np.tile(self.numbers, (len(gates), 1)), np.full(len(gates), step)
        return self._variants(observation, what, (gates, numbers, steps), self.suspect.leaf)

    def closed(self, observation: Observation) -> np.ndarray:
        """(terms, *shape): the cotangent with one gate closed."""
        return self.gates(observation, 0.0)

    def other_constants(self, observation: Observation) -> tuple[list[str], np.ndarray]:
        """The cotangent with one constant replaced by 0 or 1, or one by 0 and another by 1."""
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
        if not rows or not self._variants.affordable(len(rows), self.suspect.observation):
            return [], np.zeros((0, *self.suspect.reference.shape))
        varied = np.ones((len(rows), len(self.open))), np.array(rows), np.full(len(rows), EVERY)
        return texts, self._variants(observation, "constants", varied, self.suspect.leaf)

    def _changed(self, values: dict[int, float]) -> np.ndarray:
        numbers = self.numbers.copy()
        for i, value in values.items():
            numbers[i] = value
        return numbers

    def hypotheses(self) -> Iterator[Hypothesis]:
        suspect = self.suspect
        if len(self.open):
            yield from self._one_term()
            yield from self._every_step()
            yield from self._one_step()
            yield from self._two_terms(plainly=True)
        texts, predicted = self.other_constants(suspect.observation)
        for i, text in enumerate(texts):
            if suspect.same(predicted[i]):
                yield Hypothesis(
                    "other function", text, lambda observation, i=i: self.other_constants(observation)[1][i]
                )
        if len(self.open):
            yield from self._one_path()
            yield from self._two_terms(plainly=False)
            yield from self._by_row()

    def _shares(self, observation: Observation) -> np.ndarray:
        """(terms, *shape): each term's contribution."""
        return observation.reference[self.suspect.leaf] - self.closed(observation)

    def _one_term(self) -> Iterator[Hypothesis]:
        suspect, leaf = self.suspect, self.suspect.leaf
        error, shares = suspect.manual - suspect.reference, self._shares(suspect.observation)
        for i, share in enumerate(shares):
            norm = float(np.real(np.vdot(share, share)))
            if not norm > 1e-20 * float(np.real(np.vdot(suspect.reference, suspect.reference)) or 1.0):
                continue
            yield from self._turned(i, share)
            gain = float(np.real(np.vdot(share, error))) / norm
            if not suspect.same(suspect.reference + gain * share):
                continue
            kind, text = _describe_term(self.gated.terms[i], 1 + gain, suspect)
            yield Hypothesis(
                kind,
                text,
                lambda observation, i=i, gain=gain: observation.reference[leaf] + gain * self._shares(observation)[i],
            )

    def _every_step(self) -> Iterator[Hypothesis]:
        """A term that repeats, as from step to step of a scan: doubled or negated at each."""
        for gate in (2.0, -1.0) if any(len(term.key) > 2 for term in self.gated.terms) else ():
            for i, cotangent in enumerate(self.gates(self.suspect.observation, gate)):
                if self.suspect.same(cotangent):
                    kind, text = _describe_term(self.gated.terms[i], gate, self.suspect)
                    yield Hypothesis(kind, text, lambda observation, i=i, gate=gate: self.gates(observation, gate)[i])

    def _turned(self, i: int, share: np.ndarray) -> Iterator[Hypothesis]:
        """One term's contribution transposed or reversed."""
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
                text = f"a term is {words}: the gradient through {self.gated.terms[i]}"

                def predict(observation: Observation, turn: Callable = turn) -> np.ndarray:
                    share = self._shares(observation)[i]
                    return observation.reference[leaf] - share + turn(share)

                yield Hypothesis(kind, text, predict)

    def _one_step(self) -> Iterator[Hypothesis]:
        """A scan's first or last step left out: of one term, or of all."""
        inside = [i for i, term in enumerate(self.gated.terms) if self.gated.scan_of(term.key)]
        if not inside:
            return
        for step, words in ((FIRST, "first"), (LAST, "last")):
            for i in inside:
                predict = lambda observation, i=i, step=step: self.gates(observation, 0.0, step)[i]  # noqa: E731
                if self.suspect.same(predict(self.suspect.observation)):
                    text = f"the {words} step of the scan is left out: the gradient there through {self.gated.terms[i]}"
                    yield Hypothesis("missing term", f"{text} is lost", predict)
            every = np.ones((1, len(self.open)))
            every[0, inside] = 0.0
            predict = lambda at, every=every, step=step: self._varied(at, f"no step {step}", every, step)[0]  # noqa: E731
            yield Hypothesis(
                "missing term", f"the {words} step of the scan is left out: the gradient there is lost", predict
            )

    def _distinct(self, most: int) -> list[int]:
        """Terms that contribute: of those with equal contributions, the first."""
        distinct: list[int] = []
        shares = self._shares(self.suspect.observation)
        for i, share in enumerate(shares):
            if largest(share) > 1e-9 * largest(self.suspect.reference) and not any(
                close(share, shares[j], 1e-9) for j in distinct
            ):
                distinct.append(i)
        return distinct[:most]

    def _two_terms(self, plainly: bool) -> Iterator[Hypothesis]:
        """Two terms lost or scaled, such as those of the mean and the variance in a normalisation.

        plainly: both lost, doubled or negated, or scaled by one factor; otherwise, scaled by any factors.
        """
        suspect, leaf = self.suspect, self.suspect.leaf
        for _, i, j, gains in (fit for fit in self._pairs if fit[0] == plainly):
            one, other = (self.gated.terms[n] for n in (i, j))
            text = f"two terms of the chain rule are lost: through {one} and through {other}"
            if np.abs(gains + 1).max() > 1e-6:
                parts = [_describe_term(term, 1 + gain, suspect)[1] for term, gain in zip((one, other), gains)]
                text = "; and ".join(parts)
            yield Hypothesis(
                "missing term" if np.abs(gains + 1).min() <= 1e-6 else "doubled term",
                text,
                lambda observation, i=i, j=j, g=gains: (
                    observation.reference[leaf] + np.tensordot(g, self._shares(observation)[[i, j]], 1)
                ),
            )

    @cached_property
    def _pairs(self) -> list[tuple[bool, int, int, np.ndarray]]:
        """Pairs of terms that explain the error: whether plainly (see ``_two_terms``), which two, and their gains."""
        suspect, leaf, distinct = self.suspect, self.suspect.leaf, self._distinct(40)
        everywhere = [suspect.observation, *suspect.others]
        error = np.concatenate(
            [(observation.manual[leaf] - observation.reference[leaf]).reshape(-1) for observation in everywhere]
        )
        fits: list[tuple[bool, int, int, np.ndarray]] = []
        if len(distinct) < 2 or error.size < 4:
            return fits
        shares = np.concatenate(
            [self._shares(observation)[distinct].reshape(len(distinct), -1) for observation in everywhere], axis=1
        )
        for a, b in itertools.combinations(range(len(distinct)), 2):
            gains, *_ = np.linalg.lstsq(np.real(shares[[a, b]].T), np.real(error), rcond=1e-10)
            if np.abs(gains @ shares[[a, b]] - error).max() <= suspect.tolerance * largest(error) * 1e2:
                usual = [min(abs(gain - usual) for usual in (-1, 1, -2)) < 1e-6 for gain in gains]
                plain = all(usual) or abs(gains[0] - gains[1]) < 1e-6
                fits.append((bool(plain), distinct[a], distinct[b], gains))
        return fits

    def _by_row(self) -> Iterator[Hypothesis]:
        """A term with another wrong factor at every index of an axis: divided by another count, say, or masked."""
        suspect, leaf = self.suspect, self.suspect.leaf
        for i, axis in itertools.product(self._distinct(40), range(suspect.reference.ndim)):

            def fitted(observation: Observation, i: int = i, axis: int = axis, least: int = 1) -> np.ndarray | None:
                error = observation.manual[leaf] - observation.reference[leaf]
                return factors_along(error, self._shares(observation)[i], axis, suspect.tolerance, least)

            gains = fitted(suspect.observation, least=2)
            if gains is not None and suspect.reference.shape[axis] * 2 < suspect.reference.size:
                text = f"a term is off by a factor of its own at each index of axis {axis} ({1 + gains.min():.4g} to "
                text += f"{1 + gains.max():.4g}): the gradient through {self.gated.terms[i]}"

                def predict(observation: Observation, fitted: Callable = fitted) -> np.ndarray | None:
                    return None if fitted(observation) is None else observation.manual[leaf]

                yield Hypothesis("missing factor", text, predict)

    def _one_path(self) -> Iterator[Hypothesis]:
        """The gradient through two operations, one after the other, where others through each of them are right."""
        suspect, leaf, distinct = self.suspect, self.suspect.leaf, self._distinct(24)
        pairs = list(itertools.combinations(distinct, 2))
        if not pairs or not self._variants.affordable(len(pairs), suspect.observation):
            return
        rows = np.ones((len(pairs), len(self.open)))
        for row, pair in zip(rows, pairs):
            row[list(pair)] = 0.0

        def shared(observation: Observation) -> np.ndarray:
            """(pairs, *shape): the contributions that pass both."""
            one, other = (self._shares(observation)[[pair[k] for pair in pairs]] for k in (0, 1))
            return one + other - (observation.reference[leaf] - self._varied(observation, f"closed: {pairs}", rows))

        error = suspect.manual - suspect.reference
        for number, (pair, share) in enumerate(zip(pairs, shared(suspect.observation))):
            norm = float(np.real(np.vdot(share, share)))
            if largest(share) <= 1e-9 * largest(suspect.reference):
                continue
            gain = float(np.real(np.vdot(share, error))) / norm
            if suspect.same(suspect.reference + gain * share):
                _, text = _describe_term(self.gated.terms[pair[0]], 1 + gain, suspect)
                text += f", where it also passes {self.gated.terms[pair[1]]}"
                yield Hypothesis(
                    "missing term" if abs(gain + 1) < 1e-7 else "doubled term",
                    text,
                    lambda observation, number=number, gain=gain: (
                        observation.reference[leaf] + gain * shared(observation)[number]
                    ),
                )


def _describe_term(term: Term, gate: float, suspect: Suspect) -> tuple[str, str]:
    """Kind and words of a term of the chain rule that counts with the factor ``gate``."""
    if abs(gate) < 1e-7:
        return "missing term", f"a term is missing: the gradient through {term} is lost"
    if abs(gate - 2) < 1e-7:
        return "doubled term", f"a term counts twice: the gradient through {term}"
    if abs(gate + 1) < 1e-7:
        return "doubled term", f"a term has the wrong sign: the gradient through {term}"
    words = describe_number(gate, suspect.rule, suspect.observation)
    return "doubled term", f"a term is off by the factor {words}: the gradient through {term}"


def mixups(suspect: Suspect) -> Iterator[Hypothesis]:
    """A product's derivative with another value in place of its other operand; a Jacobian's diagonal alone."""
    yield from _each_alone(suspect, Mixed, lambda mixed: [_describe_mixup(mixup) for mixup in mixed.mixups])


def edits(suspect: Suspect) -> Iterator[Hypothesis]:
    """The derivative of the function with one of its decisions changed: a mask, a comparison, an integer."""
    yield from _each_alone(suspect, Edited, lambda edited: [(edit.kind, edit.text) for edit in edited.edits])


def _each_alone(
    suspect: Suspect, kind: type[Mixed] | type[Edited], describe: Callable[[Any], list[tuple[str, str]]]
) -> Iterator[Hypothesis]:
    """The cotangent with one change to the function's program at a time.

    describe: kind and words of each change, in the order of the program.
    """
    rule = suspect.rule

    def make() -> tuple[Mixed | Edited, _Variants]:
        program = kind(rule.define, list(suspect.observation.probe.arrays))
        return program, _Variants(rule, program.run_with)

    try:
        program, variants = _shared(suspect, kind.__name__, make)
        words = describe(program)
        rows = np.eye(len(words))
        predict = lambda observation, i: variants(observation, "each alone", rows, suspect.leaf)[i]  # noqa: E731
        if not words or not predict(suspect.observation, 0).size:
            return
    except Exception:  # a program that cannot be interpreted explains nothing
        return
    for i, (name, text) in enumerate(words):
        if suspect.same(predict(suspect.observation, i)):
            yield Hypothesis(name, text, lambda observation, i=i: predict(observation, i))


def _describe_mixup(mixup: Mixup) -> tuple[str, str]:
    where, operation = f"the product in {mixup.source}", f"the operation in {mixup.source}"
    if mixup.kind == "transposed":
        return "transposed", f"in the derivative of {where} the other operand is transposed"
    if mixup.kind == "ones":
        return "missing factor", f"in the derivative of {where} the other operand is missing as a factor"
    if mixup.kind == "identity":
        return "missing factor", f"the derivative of {operation} is missing, as if the operation were the identity"
    if mixup.kind == "slope from input":
        return "as if", f"the derivative of {operation} is taken at its input instead of its output"
    if mixup.kind == "another slope":
        return "other function", f"the slope of {operation} is taken as {mixup.other} of its value y"
    if mixup.kind == "own element":
        return (
            "missing term",
            f"of the Jacobian of the sum in {mixup.source} only the diagonal is used: each element's own derivative",
        )
    if mixup.kind == "cotangent transposed":
        return "transposed", f"in the derivative of {where} the incoming cotangent is transposed"
    if mixup.kind == "new state":
        return (
            "shifted",
            f"in the derivative of {where} the new state is used instead of the previous one (h_t for h_(t-1))",
        )
    return (
        "as if",
        f"in the derivative of {where} the value of {mixup.other_source} is used instead of the other operand",
    )
