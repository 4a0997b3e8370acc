"""The exception for a user's mistakes."""

from .display import visible

LONGEST_LINE = 5_000
"""Number of characters after which the middle of a message's line is left out."""


class UserError(Exception):
    r"""A mistake in the user's options, files or data.

    The message says what is wrong, where, and what to do. A command line prints it without a traceback and exits with
    2. It may quote the user's files: their control characters become visible, except for ends of lines.

    >>> print(UserError("a\x1b[2J.csv is empty"))
    a\x1b[2J.csv is empty
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(visible(line, LONGEST_LINE) for line in message.split("\n")))
