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
