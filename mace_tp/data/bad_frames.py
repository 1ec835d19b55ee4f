"""Handling of frames that cannot be used: an error, or a line in the log if the user wants to skip them."""

import contextlib
import logging
from collections.abc import Iterator

from mace_tp.errors import InputError

_LOG = logging.getLogger("mace_tp")
_MAX_LISTED = 20


class BadFrames:
    """Collects the errors of single frames of a file, or raises the first one."""

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self._errors: list[InputError] = []

    @contextlib.contextmanager
    def of_one_frame(self) -> Iterator[None]:
        """Raise an InputError of this block, or keep it and continue after the block."""
        try:
            yield
        except InputError as error:
            if not self._skip:
                raise
            self._errors.append(error)

    def report(self, path: str, num_used: int) -> None:
        """Log the skipped frames.

        Raises:
            InputError: all frames were skipped.
        """
        if not self._errors:
            return
        if not num_used:
            raise InputError(f"{path}: no frame can be used; the first error: {self._errors[0]}")
        _LOG.warning("%s: %d frames skipped, %d used", path, len(self._errors), num_used)
        for error in self._errors[:_MAX_LISTED]:
            _LOG.warning("  skipped: %s", error)
        if len(self._errors) > _MAX_LISTED:
            _LOG.warning("  and %d more", len(self._errors) - _MAX_LISTED)
