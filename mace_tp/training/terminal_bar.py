"""The live bar of a training, of rich, which fits itself to the width of the terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.measure import measure_renderables
from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

_MIN_BAR, _MAX_BAR = 8, 30  # characters
_REFRESH = 4  # per second
_SPEED_PERIOD = 600.0  # s over which the speed is averaged, so that validations and checkpoints count in the time left


class TerminalBar(Progress):
    """A line for each task: description, batch, bar, percent, time, loss, errors.

    A narrow terminal loses columns of text, the least important first. The bar shrinks before any of them goes, and is left out where
    there is no room for its least length. A task has the fields `batch`, `loss` and `errors`, texts that may be empty.
    """

    def __init__(self, console: Console) -> None:
        epoch, percent, times = TextColumn("{task.description}"), TaskProgressColumn(), _Times(compact=True)
        batch, loss, errors = (TextColumn(f"{{task.fields[{field}]}}") for field in ("batch", "loss", "errors"))
        self._terminal = console  # rich asks for a first table before its own `console` is there
        self._length = BarColumn()
        self._most_important_first = epoch, percent, times, loss, errors, batch
        self._in_order = epoch, batch, self._length, percent, times, loss, errors
        super().__init__(*self._in_order, console=console, transient=True, refresh_per_second=_REFRESH, speed_estimate_period=_SPEED_PERIOD)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        tasks = list(tasks)
        width = max(self._terminal.width - 1, 1)  # a full line makes some terminals wrap
        room, kept = width - _MIN_BAR, []
        for column in self._most_important_first:
            needed = measure_renderables(self._terminal, self._terminal.options, [column(task) for task in tasks]).maximum
            if kept and needed + 1 > room:
                break
            room -= needed + 1 if needed else 0
            kept += [column] if needed else []
        if room >= 0:
            self._length.bar_width = min(_MIN_BAR + room, _MAX_BAR)
            kept.append(self._length)
        shown = [column for column in self._in_order if column in kept]
        table = Table.grid(*(Column(no_wrap=True, overflow="crop", max_width=width) for _ in shown), padding=(0, 1))
        for task in tasks:
            table.add_row(*(column(task) for column in shown))
        return table


class _Times(TimeRemainingColumn):
    """The time that the rest takes; for a task whose end is unknown, the time that it has taken so far."""

    def render(self, task: Task) -> Text:
        return TimeElapsedColumn().render(task) if task.total is None else super().render(task).append(" left")
