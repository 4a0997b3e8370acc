"""The exception for a user's mistakes."""


class UserError(Exception):
    """A mistake in the user's options, files or data.

    The message says what is wrong, where, and what to do. A command line prints it without a traceback and exits with
    2.
    """
