"""The exception for a user's mistakes."""

import errno
import os

from .display import visible
from .extras import MissingExtra

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


REMEDIES = {
    errno.ENOSPC: "make some space there",
    errno.EDQUOT: "make some space there",
    errno.EFBIG: "choose a place where files may be larger",
    errno.EROFS: "choose a folder that can be written into",
    errno.EACCES: "change its permissions, or choose another",
    errno.EPERM: "change its permissions, or choose another",
    errno.ENAMETOOLONG: "give a shorter one",
    errno.ENOENT: "check its name",
    errno.ENOTDIR: "a file is where a folder must be: move it, or choose another",
    errno.EEXIST: "move it, or choose another",
    errno.EISDIR: "give a file",
    errno.EMFILE: "raise the number of files that may be open (ulimit -n)",
}
"""What a user can do about an error of the system."""


def explained(error: BaseException) -> str | None:
    """The one message that a user is shown for an error: what, where, what to do. None for the program's own errors.

    >>> explained(PermissionError(errno.EACCES, "Permission denied", "notes.csv"))
    'notes.csv: permission denied; change its permissions, or choose another'
    """
    if isinstance(error, UserError | MissingExtra):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "there is not enough memory for this; lower --batch-size or the sizes of the model, or give fewer data"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        what = (error.strerror or os.strerror(error.errno)).lower()
        return str(UserError(f"{where}{what}; {REMEDIES[error.errno]}"))
    return None
