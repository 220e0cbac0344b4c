"""The one error that a user of the commands is expected to meet."""


class InputError(ValueError):
    """Something given by the user is wrong: a file, a line, an option.

    The message stands alone on one line and names the file, line or argument, what was expected and what came. Commands print it without
    a traceback and exit with code 1.
    """


class LostProcessError(InputError):
    """One of several processes that work together has ended; nothing that needs it can go on."""
