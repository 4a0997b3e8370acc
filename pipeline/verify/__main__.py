"""The verifier's command line: ``backhand verify``, or ``python -m pipeline.verify``; ``--help`` explains it."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..layers.base import Context, Layer, PyTree
from .assertion import check_own_rule, has_rule_inside, own_rule, report_on, without_rules
from .check import check_custom_vjp, check_vjp, verify
from .faults import describe_error
from .make_rule import describe, name_of
from .report.report import Report
from .rules_of_file import FoundRule, arguments_of, find_rules
from .targets import call, draw, draw_params, resolve, resolve_file


def option(metavar: str, name: str | None = None) -> Any:
    return tyro.conf.arg(metavar=metavar, name=name)


def verify_target(
    *targets: Annotated[str, tyro.conf.Positional, option("TARGET")],
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
    """Compares a manual gradient with autodiff, leaf by leaf, and explains what is wrong with it.

    A TARGET is written module:name or path/to/file.py:name. What is checked depends on the object it names:

    - a jax.custom_vjp or jax.custom_jvp, under jax.jit or not: its rule, against its own primal function (or
      --reference);
    - a function with such rules inside: against its operations without them;
    - a function with --forward and --backward: that pair, against autodiff of the function;
    - a function with --reference: the rule inside it, against autodiff of the reference;
    - a layer of this package: its rule, in training mode, with random parameters;
    - a function without arguments that returns a Report: that report.

    A file alone, my_rules.py, stands for every rule in it: those above, and every function f beside f_forward and
    f_backward (or f_fwd and f_bwd), or beside f_reference. Their arguments are f_arguments in the file, else those of
    the command line, else random ones that the function accepts. Several rules are shown as a table.

    The exit code is 0 if every check passes, 1 if one does not, and 2 for a mistake in the command line.

    Args:
        targets: The objects to check.
        reference: The same function in plain JAX, for autodiff to differentiate.
        forward: The manual forward pass, (*arguments) -> (out, residuals).
        backward: The manual backward pass, (residuals, cotangent) -> a tuple with one cotangent for each argument.
        arguments: Example arguments: a tuple, or a function that returns one. For a layer, its input.
        shapes: Shapes of random arguments, one for each: float32[3,4], 'int32[5]<7' (integers below 7), bool[2,5].
        edges: Further arguments at which the rule must hold: a list of tuples, or a function that returns one.
        html: The file to write the report to, as a web page.
        json_file: The file to write the report to, as JSON.
        devices: Number of devices to split the CPU into; with several, sharded arguments are checked, too.
        seed: Random seed of arguments, cotangents and further inputs.
    """
    for file in filter(None, (html, json_file)):
        _check_folder(file, "--html" if file is html else "--json")
    if devices < 1:
        raise UserError(f"--devices {devices}: there must be at least one")
    jax.config.update("jax_num_cpu_devices", devices)  # before anything asks for a device
    options = (reference, forward, backward, arguments, shapes, edges, seed)
    unjudged = 0
    if len(targets) == 1 and not targets[0].endswith(".py"):
        reports = [Request(targets[0], *options).report()]
        _console().print(reports[0])
    elif html is not None:
        raise UserError("--html: a page is about one rule; name one, as in my_rules.py:softplus")
    else:
        reports, unjudged = _judge_each(targets, options)
    if html is not None:
        reports[0].to_html(html)
    if json_file is not None:
        data = reports[0].to_json() if len(targets) == 1 and ":" in targets[0] else [r.to_json() for r in reports]
        json_file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if unjudged or not all(report.ok for report in reports) else 0)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def _judge_each(targets: Sequence[str], options: tuple) -> tuple[list[Report], int]:
    """The reports on several targets, and how many could not be judged.

    They are shown as a table, below the explanations of those that do not pass.
    """
    table = Table()
    for column in ("rule", "verdict", "what is wrong", "arguments", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    reports: list[Report] = []
    unjudged = 0
    for name, judge in _jobs(targets, options):
        try:
            report, arguments = judge()
        except UserError as error:
            table.add_row(name, "not judged", str(error))
            unjudged += 1
            continue
        reports.append(report)
        said = "; ".join(f"{d.leaf or 'the rule'}: {d.text}" for d in report.diagnoses[:2])
        table.add_row(name, report.verdict, said, arguments, f"{report.seconds:.1f}")
        if not report.ok:
            _console().print(report.explanation(), markup=False, highlight=False)
    _console().print(table)
    return reports, unjudged


def _jobs(targets: Sequence[str], options: tuple) -> Iterator[tuple[str, Callable[[], tuple[Report, str]]]]:
    """Every rule's name, and what judges it."""
    for target in targets:
        if not target.endswith(".py"):
            yield target, lambda target=target: (Request(target, *options).report(), "")
            continue
        module = resolve_file(target)
        request = Request(target, *options)
        rules = find_rules(module)
        if not rules:
            raise UserError(f"{target}: there is no rule in it; see --help for what is one")
        judge = partial(_judge_found, module, request.given_arguments(), seed=request.seed)
        yield from ((rule.name, partial(judge, rule)) for rule in rules)


def _judge_found(module: Any, given: tuple | None, rule: FoundRule, seed: int) -> tuple[Report, str]:
    """The report on a rule of a module, and what is to be said of its arguments."""
    arguments, said = arguments_of(rule, module, given, seed)
    return report_on(*rule.parts, *arguments, seed=seed), said


def _check_folder(file: Path, option: str) -> None:
    if not file.parent.is_dir():
        raise UserError(f"{option} {file}: there is no folder {file.parent}; create it first")
    if file.is_dir():
        raise UserError(f"{option} {file}: this is a folder; name a file")


@dataclass(frozen=True)
class Request:
    """The options of ``verify_target``."""

    target: str
    reference: str | None = None
    forward: str | None = None
    backward: str | None = None
    arguments: str | None = None
    shapes: tuple[str, ...] = ()
    edges: str | None = None
    seed: int = 0

    def report(self) -> Report:
        """Checks the target in the way that its kind needs. Raises UserError where options are missing or wrong."""
        subject = resolve(self.target)
        if isinstance(subject, Layer):
            return self._of_layer(subject)
        if isinstance(subject, type) and issubclass(subject, Layer):
            raise UserError(
                f"{self.target} is a class; name an instance of it, such as layer in `layer = {subject.__name__}(...)`"
            )
        if not callable(subject):
            raise UserError(f"{self.target} is {_kind(subject)}; it must be a function, a jax.custom_vjp or a layer")
        if own_rule(subject) is not None:
            return self._of_own_rule(subject)
        if self.forward or self.backward:
            return self._of_pair(subject)
        if self.reference:
            return self._of_function(subject)
        if (self.arguments or self.shapes) and has_rule_inside(subject, arguments := self._tried(subject)):
            return check_custom_vjp(subject, without_rules(subject), arguments, edges=self._edges(), seed=self.seed)
        if self.arguments or self.shapes or _needs_arguments(subject):
            raise UserError(
                f"{self.target} is a plain function, so there is nothing to compare it with: give its rule by "
                "--forward and --backward or, if the rule is inside it, the same function in plain JAX by --reference; "
                "and example arguments by --arguments or --shapes"
            )
        return self._returned_by(subject)

    def _of_layer(self, layer: Layer) -> Report:
        self._refuse(f"a layer, {describe(layer)}, which has its own rule", "reference", "forward", "backward", "edges")
        arguments = self._arguments()
        x = arguments[0] if len(arguments) == 1 else arguments
        context = Context(train=True, key=jax.random.key(2))  # in training, where dropout and batch statistics are on
        try:
            params = draw_params(layer, x)
            jax.eval_shape(layer.apply, params, x, context)
        except Exception as error:
            raise self._rejected(describe(layer), arguments, error) from error
        return verify(layer, params, x, context, seed=self.seed)

    def _of_own_rule(self, function: Callable) -> Report:
        own = own_rule(function)
        assert own is not None
        self._refuse(f"a {type(own).__name__}, which has its own rule", "forward", "backward")
        if (own.jvp if isinstance(own, jax.custom_jvp) else own.fwd) is None:
            return report_on(function, ())  # raises UserError, before arguments are asked for
        reference = self._function("reference") if self.reference else None
        arguments = self._tried(reference or own.fun)
        return check_own_rule(function, arguments, reference, edges=self._edges(), seed=self.seed)

    def _of_pair(self, function: Callable) -> Report:
        self._refuse("checked with --forward and --backward, and is itself the reference", "reference")
        for name, other in (("forward", "backward"), ("backward", "forward")):
            if getattr(self, name) is None:
                raise UserError(f"--{other} {getattr(self, other)} needs --{name} beside it")
        forward, backward = self._function("forward"), self._function("backward")
        return check_vjp(function, forward, backward, self._tried(function), edges=self._edges(), seed=self.seed)

    def _of_function(self, function: Callable) -> Report:
        reference = self._function("reference")
        return check_custom_vjp(function, reference, self._tried(reference), edges=self._edges(), seed=self.seed)

    def _returned_by(self, function: Callable) -> Report:
        self._refuse("called without arguments", "edges")
        report = call(self.target, function)
        if not isinstance(report, Report):
            raise UserError(f"{self.target} returns {_kind(report)}; a function without arguments must return a Report")
        return report

    def _refuse(self, what: str, *options: str) -> None:
        for option in options:
            if getattr(self, option):
                raise UserError(f"{self.target} is {what}: leave out --{option}")

    def _function(self, option: str) -> Callable:
        target = getattr(self, option)
        function = resolve(target)
        if not callable(function):
            raise UserError(f"--{option} {target} is {_kind(function)}; it must be a function")
        return function

    def _arguments(self) -> tuple:
        if bool(self.arguments) == bool(self.shapes):
            both = "either --arguments or --shapes, not both" if self.shapes else "--arguments or --shapes"
            raise UserError(f"{self.target}: give {both}, for the arguments to check it at")
        if self.arguments is None:
            return draw(self.shapes, self.seed)
        return self._sequence("arguments", self.arguments, "a tuple with one entry for each argument")

    def given_arguments(self) -> tuple | None:
        """The arguments of the command line; None where it has none."""
        return self._arguments() if self.arguments or self.shapes else None

    def _edges(self) -> tuple:
        if self.edges is None:
            return ()
        edges = self._sequence("edges", self.edges, "a list of tuples of arguments")
        for edge in edges:
            if not isinstance(edge, tuple | list):
                raise UserError(
                    f"--edges {self.edges} contains {_kind(edge)}; it must be a list of tuples of arguments"
                )
        return edges

    def _sequence(self, option: str, target: str, wanted: str) -> tuple:
        value, verb = resolve(target), "is"
        if callable(value):
            value, verb = call(target, value), "returns"
        if not isinstance(value, tuple | list):
            raise UserError(
                f"--{option} {target} {verb} {_kind(value)}; it must be {wanted}, or a function that returns it"
            )
        return tuple(value)

    def _tried(self, definition: Callable) -> tuple:
        """The arguments. Raises UserError where the definition does not accept them."""
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
        return UserError(
            f"{name} does not accept the arguments of {source}, {_kinds(arguments)}: it {describe_error(error)}"
        )


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
    """All arrays as text, each as ``float32[3,4]``."""
    leaves = jax.tree.leaves(arguments)
    texts = [
        f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" if hasattr(leaf, "dtype") else repr(leaf) for leaf in leaves
    ]
    return f"({', '.join(texts)})"


def main(arguments: Sequence[str] | None = None, program: str = f"python -m {__package__}") -> None:
    """Runs ``verify_target`` with the command line's arguments; a user's mistake is a message and exit code 2.

    arguments: those of the process by default. program: the command's name in the help.
    """
    try:
        tyro.cli(verify_target, prog=program, args=arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
