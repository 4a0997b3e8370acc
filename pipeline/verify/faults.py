"""Whose fault an exception is: that of the rule which is checked, or that of the verifier itself.

The innermost frame that is not of JAX, NumPy or the standard library decides. Frames are identified by the
names of their modules, so that files may move and the package may be installed under another name.
"""

import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax

from .. import compiler
from . import foreign, make_rule, rule
from .programs import derivatives, jaxprs

VERIFIER = __name__.rpartition(".")[0]
"""The name of this package, which is not the same in a checkout and where it is installed."""

CALLERS = {module.__name__ for module in (rule, make_rule, foreign, derivatives, jaxprs)} | {__name__}
"""The verifier's modules that call the author's code: what is raised right there, such as an error of JAX about what a
rule returns, is the rule's. They are imported, not named, so that none of them can move without notice."""

STANDARD_LIBRARY = sysconfig.get_path("stdlib")

MACHINERY = {"jax", "jaxlib", "numpy", "jaxtyping", "beartype", *sys.stdlib_module_names} - {"__main__"}
"""Packages that raise errors on behalf of whoever calls them."""


UNTRACEABLE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)
"""What is raised where a rule computes with NumPy, or asks for numbers, while it is traced."""


def run(program: Callable[..., Any], *arguments: Any) -> Any:
    """``program(*arguments)``, for a program that contains the rule's code, such as one that is compiled.

    What JAX raises about the program, as where a kernel does not exist for a device, counts as raised by the rule.
    """
    return program(*arguments)


def is_own(error: BaseException) -> bool:
    """Whether the verifier is at fault, and not the rule that it checks.

    >>> try:
    ...     run(lambda: 1 / 0)
    ... except ZeroDivisionError as error:
    ...     is_own(error)
    False
    """
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = _module(frame)
        if _is_verifiers(module):
            return module not in CALLERS
        if module.partition(".")[0] not in MACHINERY and module != compiler.__name__:
            return False
    return False


def raise_if_own(error: BaseException) -> None:
    """Raises the error again where the verifier is at fault: for handlers of what a rule may raise."""
    if is_own(error):
        raise error


def describe_error(error: BaseException) -> str:
    """What was raised, and the line that is at fault: the author's last one, or the verifier's."""
    own = is_own(error)
    lines = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (_is_verifiers(_module(frame)) if own else _is_authors(frame))
    ]
    where = f" ({lines[-1][0].name}, line {lines[-1][1]})" if lines else ""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:500]}{where}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_verifiers(module: str) -> bool:
    return module == VERIFIER or module.startswith(f"{VERIFIER}.")


def _is_authors(frame: FrameType) -> bool:
    """Whether it is neither ours, nor of an installed package, nor of code without a file."""
    file = Path(frame.f_code.co_filename)
    is_installed = {"site-packages", "dist-packages"} & set(file.parts) or file.is_relative_to(STANDARD_LIBRARY)
    return not (is_installed or _is_verifiers(_module(frame)) or frame.f_code.co_filename.startswith("<"))
