"""The exceptions that the command line prints as one line, without a traceback."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what, where (file, frame, field or key), what would be valid.

    Every exception other than those of this module is a bug and keeps its traceback.
    """


class TrainingError(RuntimeError):
    """A training, or a simulation, that cannot go on. The message is one line: what, when, what is kept, what might help."""
