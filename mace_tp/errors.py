"""The exceptions that the command line prints as one line, without a traceback."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what, where (file, frame, field or key), what would be valid.

    All other exceptions, except those of this module, are bugs and keep their traceback.
    """


class TrainingError(RuntimeError):
    """A training or a simulation that cannot continue. The message is one line: what, when, what is kept, what might help."""


def one_line(error: BaseException) -> str:
    """The message of an exception in one line of at most 200 characters; its type if it has no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
