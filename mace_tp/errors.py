"""Exceptions that the command line prints as one line, without a traceback."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what is wrong, where (file, frame, field or key), and what would be valid.

    Any exception that is not of this module is a bug and keeps its traceback.
    """


class TrainingError(RuntimeError):
    """A training or simulation that cannot go on. The message is one line: what happened, when, what is kept, and what might help."""


def one_line(error: BaseException) -> str:
    """Return the message of an exception in one line of at most 200 characters; its type if it has no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
