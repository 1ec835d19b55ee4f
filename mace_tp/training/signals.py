"""Signals that ask a training to stop: the running step ends, and the training is saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator

# The signals of a terminal, of a batch system before its time limit, and of a system that shuts down.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class TrainingStopped(KeyboardInterrupt):
    """A signal ended a training after a step; its state is saved. This is not an error, so `except Exception` does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class StopRequest:
    """The first signal that has come, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def raise_if_set(self) -> None:
        if self.number is not None:
            raise TrainingStopped(self.number)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first signal instead of ending the process; a second signal has its usual effect.

    Outside the main thread, where Python accepts no handlers, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # The command listens to this descriptor, and would end the process at the first signal.
    wakeup = signal.set_wakeup_fd(-1)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # Ignored signals stay ignored, as in background jobs of a shell; None is a handler that Python cannot set again.
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)

    def remember(number: int, _: object) -> None:
        request.number = number
        restore()

    for number in before:
        signal.signal(number, remember)
    try:
        yield request
    finally:
        restore()
