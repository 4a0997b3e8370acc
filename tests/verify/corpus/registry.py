"""What the corpus consists of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, eq=False)
class Rule:
    """What ``check_vjp`` takes: a function, its rule by hand, and arguments."""

    function: Callable[..., Any]
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    arguments: tuple
    edges: tuple[tuple, ...] = ()


@dataclass(frozen=True, eq=False)
class Wrong:
    """A wrong rule, and what must be said of it.

    name: "family/mistake". mistake: its class in words.
    make: from a size (4 to 128, of the ordinary dimensions) and a seed to the rule.
    kinds: what a diagnosis may call it, the most natural first.
    leaf: the key path of what is wrong; "y" is the forward pass's value, "" the rule as a whole.
    also: leaves that are wrong with it, by the same mistake.
    says: words without which the diagnosis would be of no use, in lower case.
    """

    name: str
    mistake: str
    make: Callable[[int, int], Rule]
    kinds: tuple[str, ...]
    leaf: str
    also: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


class Mistake:
    """One way of writing a family's rule wrong: all of ``Wrong`` but the family's part. kinds, also: "a, b"."""

    def __init__(self, name: str, mistake: str, kinds: str, leaf: str, also: str = "", says: tuple[str, ...] = ()):
        self.name, self.mistake, self.leaf, self.says = name, mistake, leaf, says
        self.kinds = tuple(kinds.split(", "))
        self.also = tuple(also.split(", ")) if also else ()


@dataclass(frozen=True, eq=False)
class Family:
    """A right rule and the ways in which people write it wrong.

    build: ``(size, seed, mistake)`` gives the rule; a mistake of "" is none.
    """

    name: str
    build: Callable[..., Rule]
    mistakes: tuple[Mistake, ...]

    @property
    def right(self) -> tuple[str, Callable[[int, int], Rule]]:
        return self.name, partial(self.build, mistake="")

    def wrong(self) -> Iterator[Wrong]:
        for m in self.mistakes:
            make = partial(self.build, mistake=m.name)
            yield Wrong(f"{self.name}/{m.name}", m.mistake, make, m.kinds, m.leaf, m.also, m.says)
