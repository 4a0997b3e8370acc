"""The one exception a user may cause."""


class UserError(Exception):
    """A mistake in what the user gave us: options, files, data, shapes.

    The message says what is wrong, where, and what to do; a command line prints it without a
    traceback and exits with 2.
    """
