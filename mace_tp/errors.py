"""The one exception that means: what the user gave cannot be used."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: what, where (file, frame, field or key), what would be valid.

    The command line prints the message without a traceback; every other exception is a bug and keeps its traceback.
    """
