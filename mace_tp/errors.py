"""Exceptions that the command line prints as one line, without a traceback."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what is wrong, where (file, frame, field or key), and what would be valid.

    Any exception that is not of this module is a bug and keeps its traceback.
    """


class TrainingError(RuntimeError):
    """A training or simulation that cannot go on. The message is one line: what happened, when, what is kept, and what might help."""
