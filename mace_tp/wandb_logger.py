"""Metrics to wandb, at arm's length. This file is also the program of the process that talks to wandb."""

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

_LOG = logging.getLogger("mace_tp")

_QUEUE = 10_000  # lines that wait while wandb starts or is slow
_PATIENCE = 5.0  # s that the end of a training waits for wandb
_CONNECT = 30.0  # s for the first answer of the server
_UPLOAD = 60.0  # s for the upload of what is left, once the training has ended


class WandbLogger:
    """Hands the metrics to wandb in a process of its own, which can neither stop nor delay the training.

    A thread would not do: wandb holds up the interpreter's exit for as long as its server does not answer, a minute and
    more. What it prints goes to `wandb/mace_tp.log` in the run directory. Where it fails there is one warning, and the
    metrics are dropped.
    """

    def __init__(self, mode: Literal["offline", "online"], project: str, run_dir: Path, config: dict[str, Any]) -> None:
        self._output = Path(run_dir) / "wandb" / "mace_tp.log"
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._lines: queue.Queue[str] = queue.Queue(_QUEUE)
        start = {"mode": mode, "project": project, "run_dir": str(Path(run_dir).absolute()), "config": config}
        self._lines.put(json.dumps(start, default=str))
        self._finishing = threading.Event()
        with open(self._output, "wb") as output:
            # A session of its own keeps Ctrl-C away; -P keeps the modules beside this file from being found as top-level ones.
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        self._feeder = threading.Thread(target=self._feed, name="wandb", daemon=True)
        self._feeder.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        with contextlib.suppress(queue.Full):  # metrics.jsonl has them all the same
            self._lines.put_nowait(json.dumps([step, {name: float(value) for name, value in metrics.items()}]))

    def finish(self) -> None:
        self._finishing.set()
        self._feeder.join(_PATIENCE)
        if self._feeder.is_alive():
            _LOG.warning("wandb is not done; it goes on in the background for a minute or two (details: %s)", self._output)

    def _feed(self) -> None:
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            while self._process.poll() is None:
                try:
                    line = self._lines.get(timeout=0.2)
                except queue.Empty:
                    if self._finishing.is_set():
                        break
                    continue
                pipe.write(line.encode() + b"\n")
                pipe.flush()
        if self._process.wait() != 0:
            _LOG.warning("wandb is off (%s); metrics.jsonl has every metric (details: %s)", self._reason(), self._output)

    def _reason(self) -> str:
        """The line of a traceback that names the exception; more lines of its message may follow."""
        _, _, trace = self._output.read_text(errors="replace").rpartition("Traceback (most recent call last):\n")
        return next((line for line in trace.splitlines() if line and line[0] != " "), f"exit status {self._process.returncode}")


def _child() -> None:
    """Body of the process that WandbLogger starts. Reads JSON lines: the settings, then metrics; ends where they end."""
    import wandb

    start = json.loads(sys.stdin.readline())
    run_dir = Path(start["run_dir"])
    settings = wandb.Settings(init_timeout=_CONNECT, silent=True, console="off", x_stats_pid=os.getppid())
    run = wandb.init(
        mode=start["mode"], project=start["project"], dir=run_dir, name=run_dir.name, config=start["config"], settings=settings
    )
    for line in sys.stdin:
        step, metrics = json.loads(line)
        run.log(metrics, step=step)
    limit = threading.Timer(_UPLOAD, os._exit, [1])
    limit.daemon = True
    limit.start()
    run.finish()


if __name__ == "__main__":
    _child()
