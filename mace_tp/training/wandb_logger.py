"""Logger to wandb in a separate process. This file is also the program of that process."""

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
from typing import IO, Any, Literal

_LOG = logging.getLogger("mace_tp")

_QUEUE = 10_000  # lines buffered while wandb starts or is slow
_POLL = 0.2  # s between checks whether the training or wandb has ended
_PATIENCE = 2.0  # s that the training waits for wandb at its end
_CONNECT = 30.0  # s for the first answer of the server
_UPLOAD = 60.0  # s for the remaining upload after the training has ended


class WandbLogger:
    """Hands the metrics to wandb in a process of its own, which can neither stop nor delay the training.

    A thread would not do: wandb delays the interpreter's exit while its server does not answer, by a minute and more. Output
    of wandb goes to `wandb/mace_tp.log` in the run directory. If wandb fails, there is one warning, and wandb gets no further
    metrics.
    """

    def __init__(self, mode: Literal["offline", "online"], project: str, run_dir: Path, config: dict[str, Any]) -> None:
        self._output = Path(run_dir) / "wandb" / "mace_tp.log"
        self._lines: queue.Queue[str] = queue.Queue(_QUEUE)
        start = {"mode": mode, "project": project, "run_dir": str(Path(run_dir).absolute()), "config": config}
        self._lines.put(json.dumps(start, default=str))
        self._finishing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._worker.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        with contextlib.suppress(queue.Full):  # metrics.jsonl still has them
            self._lines.put_nowait(json.dumps([step, {name: float(value) for name, value in metrics.items()}]))

    def finish(self) -> None:
        self._finishing.set()
        self._worker.join(_PATIENCE)
        if self._worker.is_alive():
            _LOG.info("wandb: not done yet; it continues in the background for at most two minutes (details: %s)", self._output)

    def _work(self) -> None:
        """Start the process, send it the metrics, and wait for its end."""
        try:
            process = self._start()
            threading.Thread(target=_announce, args=[process.stdout], name="wandb announcement", daemon=True).start()
            self._feed(process)
            reason = self._reason(process.returncode) if process.wait() else None
        except OSError as error:  # no more processes, a full disk
            reason = str(error)
        if reason is not None:
            _LOG.warning("wandb is off (%s); metrics.jsonl has every metric (details: %s)", reason, self._output)

    def _start(self) -> subprocess.Popen[bytes]:
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with open(self._output, "wb") as output:
            # A session of its own shields it from Ctrl-C. With -P, modules beside this file are not importable as top-level ones.
            return subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, start_new_session=True
            )

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on the lines until the training or the process has ended."""
        assert process.stdin is not None, "it was opened as a pipe"
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            while process.poll() is None:
                try:
                    line = self._lines.get(timeout=_POLL)
                except queue.Empty:
                    if self._finishing.is_set():
                        break
                    continue
                pipe.write(line.encode() + b"\n")
                pipe.flush()

    def _reason(self, status: int) -> str:
        """The line of a traceback that names the exception; more lines of its message may follow."""
        _, _, trace = self._output.read_text(errors="replace").rpartition("Traceback (most recent call last):\n")
        return next((line for line in trace.splitlines() if line and line[0] != " "), f"exit status {status}")


def _announce(output: IO[bytes]) -> None:
    """Log where the run can be seen, once the process knows it."""
    with output:
        for line in output:
            _LOG.info("wandb: %s", line.decode(errors="replace").rstrip())


def _child() -> None:
    """Body of the process that WandbLogger starts. It reads JSON lines, first the settings, then metrics, and ends with them."""
    import wandb

    start = json.loads(sys.stdin.readline())
    run_dir = Path(start["run_dir"])
    settings = wandb.Settings(init_timeout=_CONNECT, silent=True, console="off", x_stats_pid=os.getppid())
    run = wandb.init(
        mode=start["mode"], project=start["project"], dir=run_dir, name=run_dir.name, config=start["config"], settings=settings
    )
    print(run.url if start["mode"] == "online" else f"offline; `wandb sync {run.settings.sync_dir}` uploads the run", flush=True)
    for line in sys.stdin:
        step, metrics = json.loads(line)
        run.log(metrics, step=step)
    limit = threading.Timer(_UPLOAD, os._exit, [1])
    limit.daemon = True
    limit.start()
    run.finish()


if __name__ == "__main__":
    _child()
