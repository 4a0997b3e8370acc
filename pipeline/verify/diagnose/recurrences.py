"""Mistakes inside a scan, whose error goes on from step to step: terms lost, doubled, or with another factor."""

from collections.abc import Callable, Iterator

import numpy as np

from ..programs.flow import Use, Value
from .evidence import At
from .sites import Finding, Sites


def recurrent(sites: Sites) -> Iterator[Finding]:
    """The gradient through one use at every step, at the first or the last; a product with another operand."""
    evidence = sites.evidence
    uses = [use for use in evidence.flow.uses if use.steps and use.value.active and use.operation]
    for value in (each for each in evidence.flow.values if each.entry == "carry" and each.active):
        gates = {use.number: np.zeros(use.shape) for use in uses if use.value is value}
        text = "the gradient is not carried from step to step of the scan: it is dropped between the steps"
        dropped = lambda at, g=gates: evidence.mutated(at, {}, g)  # noqa: E731
        yield from sites.finding("missing term", text, 0.9, dropped)
    for use in uses:
        for gate, kind, words, cost in (
            (0.0, "missing term", "a term is missing: the gradient through {} is lost at every step of the scan", 1.0),
            (2.0, "doubled term", "a term counts twice at every step of the scan: the gradient through {}", 1.5),
            (-1.0, "doubled term", "a term has the wrong sign at every step: the gradient through {}", 1.5),
        ):
            gates = lambda at, u=use, g=gate: np.full(u.shape, g)  # noqa: E731
            yield from _gated(sites, use, gates, kind, words.format(use.operation), cost)
        for step, words in ((0, "first"), (-1, "last")):

            def without(at: At, use: Use = use, step: int = step) -> np.ndarray:
                gates = np.ones(use.shape)
                gates[step] = 0.0
                return gates

            text = f"the {words} step of the scan is left out: the gradient there through {use.operation} is lost"
            yield from _gated(sites, use, without, "missing term", text, 1.1)
    for step, words in ((0, "first"), (-1, "last")):

        def none(at: At, step: int = step) -> np.ndarray:
            gates = {use.number: np.ones(use.shape) for use in uses}
            for gate in gates.values():
                gate[step] = 0.0
            return evidence.mutated(at, {}, gates)

        text = f"the {words} step of the scan is left out: the gradient there is lost"
        yield from sites.finding("missing term", text, 1.3, none)
    for use in uses:
        yield from _other_operand(sites, use)


def _gated(
    sites: Sites, use: Use, gates: Callable[[At], np.ndarray], kind: str, text: str, cost: float
) -> Iterator[Finding]:
    predict = lambda at: sites.evidence.mutated(at, {}, {use.number: gates(at)})  # noqa: E731
    yield from sites.finding(kind, text, cost, predict)


def _other_operand(sites: Sites, use: Use) -> Iterator[Finding]:
    """A product or a slope inside the scan with another value of its body, or with none."""
    operation = use.operation
    assert operation is not None
    if len(operation.results) != 1 or operation.results[0].shape != use.shape or operation.primitive in ("add", "sub"):
        return
    (result,) = operation.results
    own = lambda at: _quotient(at.through[use.number], at.total[result.number])  # noqa: E731
    name = "the other operand" if len(operation.uses) > 1 else "the slope"
    text = f"in the derivative of {operation} {name} is missing as a factor, at every step of the scan"
    gates = lambda at: _quotient(np.ones(use.shape), own(at))  # noqa: E731
    yield from _gated(sites, use, gates, "missing factor", text, 1.75)
    if operation.primitive == "neg":
        return
    for value in sites.evidence.flow.values:
        if value.shape != use.shape or not value.is_float or value.number not in sites.first.values:
            continue
        new = any(value in body.results for body in sites.evidence.flow.operations) and _is_new_state(sites, value)
        state = "the new state instead of the previous one (h_t for h_(t-1))"
        text = f"in the derivative of {operation} {state if new else f'the value of {value.name}'} is used"
        kind, cost = ("shifted", 2.0) if new else ("as if", 2.3)
        of_value = lambda at, v=value: _quotient(at.values[v.number], own(at))  # noqa: E731
        yield from _gated(sites, use, of_value, kind, text, cost)


def _is_new_state(sites: Sites, value: Value) -> bool:
    """Whether the value is what the next step reads as its state."""
    one = sites.first.values[value.number]
    for state in sites.evidence.flow.values:
        if state.entry == "carry" and state.shape == value.shape and len(one) > 1:
            read = sites.first.values[state.number]
            if np.array_equal(read[1:], one[:-1]) or np.array_equal(read[:-1], one[1:]):
                return True
    return False


def _quotient(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """one / other, and 0 where the other is 0."""
    return np.divide(one, other, out=np.zeros(np.broadcast_shapes(np.shape(one), np.shape(other))), where=other != 0)
