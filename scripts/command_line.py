"""How every script here is called from the command line."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from pipeline.errors import UserError


def run(main: Callable[..., Any]) -> None:
    """Runs ``main`` with the command line's arguments; what a user has to change is a message and exit code 2."""
    try:
        tyro.cli(main)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def run_command(*functions: Callable[..., int]) -> None:
    """Runs one of ``functions``, which the command line names, and exits with what it returns."""
    by_name = {function.__name__: function for function in functions}
    try:
        sys.exit(tyro.extras.subcommand_cli_from_dict(by_name))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
