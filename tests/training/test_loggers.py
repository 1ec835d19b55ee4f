"""Loggers: whole lines in the file, wandb that cannot harm, and what a terminal and a pipe are shown."""

import io
import json
import logging
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from mace_tp.runtime.compilation import compiling
from mace_tp.training.loggers import JsonlLogger, Loggers, TrainingProgress, WandbLogger, setup_logging

RECORD = {
    "epoch": 1, "step": 90, "learning_rate": 0.01, "train_loss": 1.5, "valid_loss": 2.5, "energy_rmse": 12.345, "force_rmse": 67.891,
    "epoch_seconds": 4.0, "total_seconds": 75.0,
}  # fmt: skip
HARMLESS = 2.5  # s: the two that a training may wait for wandb, and half for a busy machine


@pytest.fixture
def log():
    """Messages of the logger `mace_tp` [(level, text)]; the logger is left as it was found."""
    logger = logging.getLogger("mace_tp")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    records: list[tuple[int, str]] = []
    collect = logging.Handler()
    collect.emit = lambda record: records.append((record.levelno, record.getMessage()))
    logger.addHandler(collect)
    logger.setLevel(logging.INFO)
    yield records
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def warnings_of(log, seconds: float = 0) -> list[str]:
    """The warnings so far, or as soon as there is one within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = [text for level, text in log if level >= logging.WARNING]
        if found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def pipe() -> Console:
    # With colors: a console that was made in a terminal keeps them when the output is redirected later.
    return Console(file=io.StringIO(), width=40, color_system="standard")


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={"TERM": "xterm"})


# JSON lines


def test_jsonl_holds_what_was_logged(tmp_path):
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.log(90, {"epoch": 1, "train_loss": np.float32(0.5), "count": np.int64(3)})
    logger.log(180, {"epoch": 2, "train_loss": float("nan"), "valid_loss": float("inf")})
    logger.finish()

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

    assert [json.loads(line) for line in lines] == [
        {"epoch": 1, "train_loss": 0.5, "count": 3, "step": 90},
        {"epoch": 2, "train_loss": None, "valid_loss": None, "step": 180},
    ]
    assert '"count": 3,' in lines[0], "an integer stays one"


def test_jsonl_is_whole_lines_while_the_run_lives(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logger = JsonlLogger(path)
    for step in range(3):
        logger.log(step, {"loss": 1.0})
        assert path.read_text().count("\n") == step + 1
    logger.finish()


def test_jsonl_survives_a_kill(tmp_path):
    path = tmp_path / "metrics.jsonl"
    program = """
import pathlib, sys
from mace_tp.runtime.compilation import compiling
from mace_tp.training.loggers import JsonlLogger
logger = JsonlLogger(pathlib.Path(sys.argv[1]))
for step in range(10**9):
    logger.log(step, {"loss": 1.0})
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    while not (path.exists() and path.stat().st_size > 10_000):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    content = path.read_text()

    assert content.endswith("}\n")
    assert [json.loads(line)["step"] for line in content.splitlines()] == list(range(content.count("\n")))


def test_jsonl_forgets_epochs_that_come_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"epoch": {epoch}, "step": {epoch}}}\n' for epoch in (1, 2, 3)))

    logger = JsonlLogger(path, last_epoch=2)
    logger.log(30, {"epoch": 3})
    logger.finish()

    assert [(line["epoch"], line["step"]) for line in map(json.loads, path.read_text().splitlines())] == [(1, 1), (2, 2), (3, 30)]


def test_jsonl_removes_a_torn_line_before_it_appends(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "step": 1}\n{"epoch": 2, "st')

    logger = JsonlLogger(path)
    logger.log(2, {"epoch": 2})
    logger.finish()

    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"epoch": 1, "step": 1}, {"epoch": 2, "step": 2}]


# Several loggers


class Recorder:
    def __init__(self, calls: list, fails: bool = False):
        self.calls, self.fails = calls, fails

    def log(self, step, metrics):
        self.calls.append((self, step, dict(metrics)))

    def finish(self):
        self.calls.append((self, "finish"))
        if self.fails:
            raise OSError("disk full")


def test_loggers_reach_every_one():
    calls: list = []
    first, second = Recorder(calls), Recorder(calls)

    Loggers([first, second]).log(3, {"loss": 1.0})

    assert calls == [(first, 3, {"loss": 1.0}), (second, 3, {"loss": 1.0})]


def test_loggers_finish_every_one_even_where_one_fails():
    calls: list = []
    loggers = Loggers([Recorder(calls, fails=True), Recorder(calls, fails=True)])

    with pytest.raises(OSError, match="disk full"):
        loggers.finish()

    assert len(calls) == 2


def test_no_loggers_do_nothing():
    Loggers().log(1, {"loss": 1.0})
    Loggers().finish()


# wandb. A module `wandb.py` on PYTHONPATH takes the place of the real one in the process that WandbLogger starts.


def fake_wandb(tmp_path, monkeypatch, source: str) -> None:
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "wandb.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def timed(function, *arguments) -> float:
    start = time.monotonic()
    function(*arguments)
    return time.monotonic() - start


RECORDING = """
import importlib.util, json, os, pathlib
class Settings:
    def __init__(self, **settings): self.sync_dir = "somewhere"
class Run:
    url, settings = "https://wandb.invalid/run", Settings()
    def __init__(self, dir): self.lines, self.path = [], pathlib.Path(dir) / "fake.json"
    def log(self, metrics, step): self.lines.append([step, metrics])
    def finish(self): self.path.write_text(json.dumps(self.lines))
def init(mode, project, dir, name, config, settings):
    assert (mode, project, name, config) == ("online", "project", "run", {"seed": 1})
    assert importlib.util.find_spec("loggers") is None, "modules of mace_tp would shadow others"
    assert os.getsid(0) == os.getpid(), "Ctrl-C would reach it"
    return Run(dir)
"""


def test_wandb_gets_settings_and_metrics_in_order(tmp_path, monkeypatch, log):
    fake_wandb(tmp_path, monkeypatch, RECORDING)
    logger = WandbLogger("online", "project", tmp_path / "run", {"seed": 1})
    for step in range(5):
        logger.log(step, {"loss": 0.5 * step})
    logger.finish()
    logger._worker.join(60)

    assert json.loads((tmp_path / "run" / "fake.json").read_text()) == [[step, {"loss": 0.5 * step}] for step in range(5)]
    assert (logging.INFO, "wandb: https://wandb.invalid/run") in log
    assert warnings_of(log) == []


FAILING = {
    "import": ("raise ImportError('libcuda.so not found')", "ImportError: libcuda.so not found"),
    "start": (RECORDING + "def init(**_): raise RuntimeError('no such project\\nand more')", "RuntimeError: no such project"),
    "log": (RECORDING + "def log(*_, **__): raise ValueError('bad step')\nRun.log = log", "ValueError: bad step"),
    "exit": ("import os; os._exit(3)", "exit status 3"),
    "pipe": ("import os, time; os.close(0); time.sleep(0.5); raise RuntimeError('gone')", "RuntimeError: gone"),
}


@pytest.mark.parametrize("source, reason", FAILING.values(), ids=FAILING.keys())
def test_wandb_failure_is_one_warning(tmp_path, monkeypatch, log, source, reason):
    fake_wandb(tmp_path, monkeypatch, source)
    logger = WandbLogger("online", "project", tmp_path / "run", {"seed": 1})
    end = time.monotonic() + 60
    while not warnings_of(log, seconds=0.05) and time.monotonic() < end:
        logger.log(0, {"loss": 1.0})
    seconds = timed(logger.log, 1, {"loss": 1.0}) + timed(logger.finish)

    assert seconds < HARMLESS
    assert len(warnings_of(log)) == 1
    assert f"wandb is off ({reason})" in warnings_of(log)[0]


def test_wandb_failure_is_told_while_nothing_is_logged(tmp_path, monkeypatch, log):
    fake_wandb(tmp_path, monkeypatch, FAILING["import"][0])
    logger = WandbLogger("offline", "project", tmp_path / "run", {})

    assert len(warnings_of(log, seconds=60)) == 1
    logger.finish()


def test_wandb_that_hangs_delays_nothing(tmp_path, monkeypatch, log):
    fake_wandb(tmp_path, monkeypatch, RECORDING + "def init(**_): import time; time.sleep(20)")
    start = time.monotonic()
    logger = WandbLogger("online", "project", tmp_path / "run", {"long": "x" * 1_000_000})
    for step in range(20_000):
        logger.log(step, {"loss": 1.0})
    logging_seconds = time.monotonic() - start

    assert logging_seconds < HARMLESS
    assert timed(logger.finish) < HARMLESS
    assert any("not done yet" in text for _, text in log)


def test_program_ends_while_wandb_hangs(tmp_path, monkeypatch):
    fake_wandb(tmp_path, monkeypatch, RECORDING + "def init(**_): import time; time.sleep(20)")
    program = """
import pathlib, sys
from mace_tp.runtime.compilation import compiling
from mace_tp.training.loggers import WandbLogger
logger = WandbLogger("online", "project", pathlib.Path(sys.argv[1]), {})
logger.log(1, {"loss": 1.0})
logger.finish()
"""
    seconds = timed(lambda: subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], check=True, timeout=18))

    assert seconds < 15, "the hanging process would take 20"


def test_wandb_process_ends_when_the_training_is_killed(tmp_path, monkeypatch):
    fake_wandb(tmp_path, monkeypatch, RECORDING)
    program = """
import os, pathlib, sys, time
from mace_tp.runtime.compilation import compiling
from mace_tp.training.loggers import WandbLogger
logger = WandbLogger("online", "project", pathlib.Path(sys.argv[1]), {"seed": 1})
logger.log(1, {"loss": 1.0})
while not logger._lines.empty(): time.sleep(0.01)
time.sleep(0.3)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], timeout=60)
    end = time.monotonic() + 60
    while not (tmp_path / "run" / "fake.json").exists() and time.monotonic() < end:
        time.sleep(0.05)

    assert json.loads((tmp_path / "run" / "fake.json").read_text()) == [[1, {"loss": 1.0}]]


def test_real_wandb_offline_writes_a_run(tmp_path, log):
    pytest.importorskip("wandb", reason="wandb is not installed")
    logger = WandbLogger("offline", "project", tmp_path, {"seed": 1})
    for step in range(3):
        logger.log(step, {"loss": 1.0, "never": float("nan")})
    seconds = timed(logger.finish)
    logger._worker.join(60)

    assert seconds < HARMLESS
    assert [path.stat().st_size > 0 for path in tmp_path.glob("wandb/offline-run-*/*.wandb")] == [True]
    assert warnings_of(log) == []
    assert any(text.startswith("wandb: offline") for _, text in log)


@pytest.mark.slow
def test_real_wandb_online_without_a_server_is_one_warning(tmp_path, monkeypatch, log):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    logger = WandbLogger("online", "project", tmp_path, {})
    logger.log(0, {"loss": 1.0})

    assert timed(logger.finish) < HARMLESS
    assert len(warnings_of(log, seconds=100)) == 1


# Progress


def test_pipe_gets_plain_aligned_lines():
    console = pipe()
    with TrainingProgress(True, 3, console) as progress:
        for epoch in (1, 2, 3):
            progress.start_epoch(epoch, 10)
            progress.update(epoch / 3, 0.5, 10)
            progress.epoch_line(RECORD | {"epoch": epoch, "is_best": epoch != 2})

    header, *lines = console.file.getvalue().splitlines()

    assert "\x1b" not in console.file.getvalue() and "\r" not in console.file.getvalue()
    assert " ".join(header.split()) == "epoch lr train loss valid loss E RMSE meV/atom F RMSE meV/Å s/epoch elapsed"
    assert [" ".join(line.split()) for line in lines] == [
        "1 1.0e-02 1.500e+00 2.500e+00 12.35 67.89 4.0 01:15 *",
        "2 1.0e-02 1.500e+00 2.500e+00 12.35 67.89 4.0 01:15",
        "3 1.0e-02 1.500e+00 2.500e+00 12.35 67.89 4.0 01:15 *",
    ]
    for title, value in (("E RMSE meV/atom", "12.35"), ("F RMSE meV/Å", "67.89"), ("elapsed", "01:15")):
        assert header.index(title) + len(title) == lines[0].index(value) + len(value), "right edges agree"


def test_pipe_gets_each_line_at_once():
    class Pipe(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    console = Console(file=Pipe())
    with TrainingProgress(True, 3, console) as progress:
        progress.epoch_line(RECORD)
        assert "67.89" in console.file.flushed


def test_header_comes_again_after_25_lines():
    console = pipe()
    with TrainingProgress(False, 60, console) as progress:
        for epoch in range(1, 61):
            progress.epoch_line(RECORD | {"epoch": epoch})

    lines = console.file.getvalue().splitlines()

    assert [index for index, line in enumerate(lines) if "RMSE" in line] == [0, 26, 52]


def test_absent_numbers_are_dashes_and_stress_has_a_column_where_there_is_stress():
    console = pipe()
    with TrainingProgress(False, 2, console) as progress:
        progress.epoch_line({"epoch": 1, "total_seconds": 36_000.0, "train_loss": None, "stress_mae": 1.23456})

    header, line = console.file.getvalue().splitlines()

    assert "S MAE meV/Å³" in header
    assert line.split() == ["1", "-", "-", "-", "-", "-", "1.235", "-", "10:00:00"]


@pytest.mark.parametrize("width", [1, 10, 30, 40, 60, 80, 100, 200])
def test_bar_is_one_line_within_the_terminal(width):
    console = terminal(width)
    progress = TrainingProgress(True, 100, terminal(width))
    progress.epoch_line(RECORD)
    progress.start_epoch(2, 90)
    progress.update(0.02, 0.123, 45)

    console.print(progress._bar.get_renderable(), end="")
    [line] = console.file.getvalue().splitlines()

    bar = Text.from_ansi(line).plain
    assert len(bar) <= max(width - 1, 1)
    assert ("epoch 2/100" in bar) == (width > 11)
    assert ("2%" in bar) == (width >= 30)
    assert ("--:-- left" in bar) == (width >= 40)
    assert ("loss 0.123" in bar) == (width >= 60)
    assert ("E 12.3 meV/atom F 67.9 meV/Å" in bar) == (width >= 100)
    assert ("batch 45/90" in bar) == (width >= 100)
    assert ("━━━━" in bar) == (width >= 30)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120])
def test_epoch_line_keeps_the_columns_that_fit(width):
    console = terminal(width)
    TrainingProgress(False, 100, console).epoch_line(RECORD | {"is_best": True})

    header, line = console.file.getvalue().splitlines()

    assert len(header) <= width and len(line) <= width
    assert ("67.89" in line) == (width >= 40), "the force error goes last"
    assert ("12.35" in line) == ("2.5" in line) == (width >= 60)


def test_terminal_shows_bar_and_lines():
    console = terminal(160)
    with TrainingProgress(True, 10, console) as progress:
        progress.start_epoch(3, 90)
        progress.update(0.25, 0.5, 45)
        time.sleep(1)  # four times the interval between bars
        progress.epoch_line(RECORD)

    shown = console.file.getvalue()

    assert "epoch 3/10" in shown and "batch 45/90" in shown and "25%" in shown and "loss 0.5" in shown
    assert "67.89" in shown


def test_a_line_below_the_bar_shows_how_long_a_compilation_takes_already():
    console = terminal(160)
    with TrainingProgress(True, 10, console) as progress:
        progress.start_epoch(3, 90)
        progress.update(0.25, 0.5, 45)
        with compiling("the evaluation"):
            time.sleep(1.5)
        assert len(progress._bar.tasks) == 1

    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", console.file.getvalue())
    assert re.search(r"compiling .* 0:00:01", shown) and "epoch 3/10" in shown


def test_terminal_shows_no_bar_where_it_is_not_wanted():
    console = terminal(160)
    with TrainingProgress(False, 10, console) as progress:
        progress.update(0.25, 0.5)
        time.sleep(0.5)

    assert console.file.getvalue() == ""


def test_time_left_is_what_the_rest_takes_at_the_same_speed():
    """Also in a training that is resumed, whose bar begins in the middle after a compilation."""
    progress = TrainingProgress(False, 10, pipe())
    [task] = progress._bar.tasks
    now = [1000.0]
    progress._bar.get_time = lambda: now[0]
    now[0] += 500
    progress.update(0.5)
    assert task.time_remaining is None
    for fraction in (0.55, 0.6):
        now[0] += 30
        progress.update(fraction)

    assert task.time_remaining == pytest.approx(240, abs=1)


def test_update_costs_microseconds():
    with TrainingProgress(True, 10, terminal(100)) as progress:
        start = time.perf_counter()
        for step in range(10_000):
            progress.update(step / 10_000, 0.5, step)
        seconds = (time.perf_counter() - start) / 10_000

    assert seconds < 20e-6, "measured: 1 µs"


def test_console_that_cannot_encode_gets_question_marks():
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"))
    TrainingProgress(False, 10, console).epoch_line(RECORD)

    assert b"F RMSE meV/?" in raw.getvalue()


# train.log


def test_messages_go_to_terminal_and_file(tmp_path, log):
    console = pipe()
    setup_logging(tmp_path / "train.log", console)
    logger = logging.getLogger("mace_tp")
    logger.info("cutoff 5 Å [red]as it is[/red] :smile: %s", "x" * 100)
    logger.warning("careful")
    TrainingProgress(True, 10, console).epoch_line(RECORD)

    printed = console.file.getvalue().splitlines()
    written = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()

    assert printed[:2] == ["cutoff 5 Å [red]as it is[/red] :smile: " + "x" * 100, "warning: careful"]
    assert len(printed) == 4, "an epoch line is printed once"
    for line, level, text in zip(written, ("INFO", "WARNING", "INFO", "INFO"), [printed[0], "careful", *printed[2:]], strict=True):
        date, clock, rest = line.split(" ", 2)
        assert len(date) == 10 and len(clock) == 8
        assert rest == f"{level:7s} {text}"


def test_next_run_of_a_sweep_has_its_own_file(tmp_path, log):
    console = pipe()
    setup_logging(tmp_path / "first.log", console)
    logging.getLogger("mace_tp").info("one")
    setup_logging(tmp_path / "second.log", console)
    logging.getLogger("mace_tp").info("two")

    assert console.file.getvalue().splitlines() == ["one", "two"]
    assert [(tmp_path / name).read_text().split()[-1] for name in ("first.log", "second.log")] == ["one", "two"]


def test_handler_that_a_library_put_on_the_root_doubles_nothing(tmp_path, log, capsys):
    root = logging.StreamHandler()
    logging.getLogger().addHandler(root)
    setup_logging(tmp_path / "train.log", pipe())
    logging.getLogger("mace_tp").warning("once")
    logging.getLogger().removeHandler(root)

    assert capsys.readouterr().err == ""
