"""The verifier's command line: ``python -m pipeline.verify --help``."""

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from pipeline.errors import UserError
from pipeline.layers.base import Layer, PyTree
from pipeline.verify.assertion import check_own_rule, report_on
from pipeline.verify.cases import Case
from pipeline.verify.check import check_custom_vjp, check_vjp, verify
from pipeline.verify.report import Report
from pipeline.verify.rule import describe, name_of
from pipeline.verify.targets import called, draw, resolve
from pipeline.verify.trial import account


def option(metavar: str, name: str | None = None) -> Any:
    return tyro.conf.arg(metavar=metavar, name=name)


def main(
    target: Annotated[str, tyro.conf.Positional, option("TARGET")],
    /,
    *,
    reference: Annotated[str | None, option("TARGET")] = None,
    forward: Annotated[str | None, option("TARGET")] = None,
    backward: Annotated[str | None, option("TARGET")] = None,
    arguments: Annotated[str | None, option("TARGET")] = None,
    shapes: Annotated[tuple[str, ...], option("SPEC ...")] = (),
    edges: Annotated[str | None, option("TARGET")] = None,
    html: Annotated[Path | None, option("FILE")] = None,
    json_file: Annotated[Path | None, option("FILE", "json")] = None,
    devices: Annotated[int, option("N")] = 2,
    seed: Annotated[int, option("N")] = 0,
) -> None:
    """Checks a hand-written backward pass against autodiff, leaf by leaf, and says what is wrong with it.

    A TARGET is written module:name or path/to/file.py:name. What it names decides what is checked: a jax.custom_vjp,
    its rule against its own primal function; a plain function with --forward and --backward, that pair; a plain
    function with --reference, the rule inside it; a layer, its own rule, in training; a function without arguments that
    returns a Report, what it checks.

    The exit code is 0 where everything holds, 1 where it does not, and 2 where something was asked for wrongly.

    Args:
        target: What is checked.
        reference: The same function in plain JAX, where it is not the target itself.
        forward: The forward pass by hand, (*arguments) -> (out, residuals).
        backward: The backward pass by hand, (residuals, cotangent) -> one cotangent an argument.
        arguments: The arguments to check at: a tuple, or a function that returns one. For a layer its input.
        shapes: Arguments to be drawn, one each: float32[3,4], 'int32[5]<7' (ids below 7), bool[2,5].
        edges: Further tuples of arguments at which the rule must hold: a list, or a function that returns one.
        html: Where to write the report as a page.
        json_file: Where to write it as data.
        devices: How many the CPU is split into; with several, sharded arguments are checked too.
        seed: Of drawn arguments, cotangents and probes.
    """
    for file in filter(None, (html, json_file)):
        _check_folder(file, "--html" if file is html else "--json")
    if devices < 1:
        raise UserError(f"--devices {devices}: at least one is needed")
    jax.config.update("jax_num_cpu_devices", devices)  # before anything asks for a device
    report = Request(target, reference, forward, backward, arguments, shapes, edges, seed).report()
    Console(width=None if sys.stdout.isatty() else 160).print(report)
    if html is not None:
        report.to_html(html)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if report.ok else 1)


def _check_folder(file: Path, option: str) -> None:
    if not file.parent.is_dir():
        raise UserError(f"{option} {file}: there is no folder {file.parent}; make it first")
    if file.is_dir():
        raise UserError(f"{option} {file}: this is a folder; name a file")


@dataclass(frozen=True)
class Request:
    """What was asked for; see ``main``."""

    target: str
    reference: str | None = None
    forward: str | None = None
    backward: str | None = None
    arguments: str | None = None
    shapes: tuple[str, ...] = ()
    edges: str | None = None
    seed: int = 0

    def report(self) -> Report:
        """Checks what the target names, after its kind."""
        subject = resolve(self.target)
        if isinstance(subject, Layer):
            return self._of_layer(subject)
        if isinstance(subject, type) and issubclass(subject, Layer):
            raise UserError(
                f"{self.target} is a class; name a layer of it, as layer in `layer = {subject.__name__}(...)`"
            )
        if not callable(subject):
            raise UserError(f"{self.target} is {_kind(subject)}; it must be a function, a jax.custom_vjp or a layer")
        if isinstance(subject, jax.custom_vjp):
            return self._of_custom_vjp(subject)
        if self.forward or self.backward:
            return self._of_pair(subject)
        if self.reference:
            return self._of_function(subject)
        if self.arguments or self.shapes or _needs_arguments(subject):
            raise UserError(
                f"{self.target} is a plain function, so there is nothing to compare yet: give its rule by --forward "
                "and --backward or, where the rule is inside it, the same function in plain JAX by --reference; and "
                "what to check it at by --arguments or --shapes"
            )
        return self._given(subject)

    def _of_layer(self, layer: Layer) -> Report:
        self._refuse(
            f"a layer, {describe(layer)}, which has its rule in it", "reference", "forward", "backward", "edges"
        )
        given = self._arguments()
        x = given[0] if len(given) == 1 else given
        # In training, where dropout and batch statistics are on; with drawn parameters: zeros hide what they multiply.
        case = Case(self.target, layer, x, train=True)
        try:
            params = case.params()
            jax.eval_shape(layer.apply, params, x, case.context())
        except Exception as error:
            raise self._rejected(describe(layer), given, error) from error
        return verify(layer, params, x, case.context(), seed=self.seed)

    def _of_custom_vjp(self, function: jax.custom_vjp) -> Report:
        self._refuse("a jax.custom_vjp, which has its rule in it", "forward", "backward")
        if function.fwd is None:  # said before arguments are asked for
            return report_on(function, ())
        reference = self._function("reference") if self.reference else None
        arguments = self._tried(reference or function.fun)
        return check_own_rule(function, arguments, reference, edges=self._edges(), seed=self.seed)

    def _of_pair(self, function: Callable) -> Report:
        self._refuse("checked with --forward and --backward, against itself", "reference")
        for name, other in (("forward", "backward"), ("backward", "forward")):
            if getattr(self, name) is None:
                raise UserError(f"--{other} {getattr(self, other)} needs --{name} beside it")
        forward, backward = self._function("forward"), self._function("backward")
        return check_vjp(function, forward, backward, self._tried(function), edges=self._edges(), seed=self.seed)

    def _of_function(self, function: Callable) -> Report:
        reference = self._function("reference")
        return check_custom_vjp(function, reference, self._tried(reference), edges=self._edges(), seed=self.seed)

    def _given(self, function: Callable) -> Report:
        self._refuse("called without arguments", "edges")
        report = called(self.target, function)
        if not isinstance(report, Report):
            raise UserError(
                f"{self.target} gives {_kind(report)}; a function that is called without arguments must return a Report"
            )
        return report

    def _refuse(self, what: str, *options: str) -> None:
        for option in options:
            if getattr(self, option):
                raise UserError(f"{self.target} is {what}: leave out --{option}")

    def _function(self, option: str) -> Callable:
        target = getattr(self, option)
        found = resolve(target)
        if not callable(found):
            raise UserError(f"--{option} {target} is {_kind(found)}; it must be a function")
        return found

    def _arguments(self) -> tuple:
        if bool(self.arguments) == bool(self.shapes):
            both = "either --arguments or --shapes, not both" if self.shapes else "--arguments or --shapes"
            raise UserError(f"{self.target}: give {both}, to say what to check it at")
        if self.arguments is None:
            return draw(self.shapes, self.seed)
        return self._sequence("arguments", self.arguments, "a tuple with one entry an argument")

    def _edges(self) -> tuple:
        if self.edges is None:
            return ()
        edges = self._sequence("edges", self.edges, "a list of tuples of arguments")
        for edge in edges:
            if not isinstance(edge, tuple | list):
                raise UserError(f"--edges {self.edges} holds {_kind(edge)}; it must be a list of tuples of arguments")
        return edges

    def _sequence(self, option: str, target: str, wanted: str) -> tuple:
        found = resolve(target)
        gives = "is"
        if callable(found):
            found, gives = called(target, found), "gives"
        if not isinstance(found, tuple | list):
            raise UserError(
                f"--{option} {target} {gives} {_kind(found)}; it must be {wanted}, or a function that returns it"
            )
        return tuple(found)

    def _tried(self, definition: Callable) -> tuple:
        """The arguments; the definition has been called with them once."""
        arguments = self._arguments()
        try:
            definition(
                *jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, arguments)
            )
        except Exception as error:
            raise self._rejected(name_of(definition), arguments, error) from error
        return arguments

    def _rejected(self, name: str, arguments: tuple, error: Exception) -> UserError:
        source = f"--arguments {self.arguments}" if self.arguments else "--shapes"
        return UserError(f"{name} does not take what {source} gives, {_kinds(arguments)}: it {account(error)}")


def _needs_arguments(function: Callable) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # no signature to read
        pass
    return False


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}" if value is not None else "None"


def _kinds(arguments: PyTree) -> str:
    """Of all arrays, as ``float32[3,4]``."""
    leaves = jax.tree.leaves(arguments)
    texts = [
        f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" if hasattr(leaf, "dtype") else repr(leaf) for leaf in leaves
    ]
    return f"({', '.join(texts)})"


def command_line() -> None:
    """Runs ``main`` with the command line's arguments; what a user did wrong is a message and exit code 2."""
    try:
        tyro.cli(main, prog="python -m pipeline.verify")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    command_line()
