"""Signals from the first line of a command on: 128 + their number, at once, and nothing to read but one line at most."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from run_directories import make_run

# A command without jax, of which a test says what it does.
_DRIVER = """
import os, signal, sys, threading, time, types
from mace_tp.cli import main, signals

def command(_):
    print("said", end="")
{body}
    print("not reached")

sys.modules["mace_tp.cli.inspect"] = types.SimpleNamespace(main=command)
sys.argv = ["mace-tp", "inspect"]
main.main()
"""
# Where a signal may come: in ordinary code, where no exception gets out, and where no handler runs.
_ORDINARY = """
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
_GARBAGE = """
    import gc
    gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT))
    gc.collect()
    time.sleep(60)
"""
_FINALIZER = """
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
    Finalized()
    time.sleep(60)
"""
_COMPILED = """
    import hashlib
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
_IMPORT = """
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except BaseException:
        raise ImportError("of a module that was interrupted")
"""
# Ways in which an exception gets lost.
_CAUGHT = """
    signals._ON_THE_WAY_OUT = 0.3
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    except BaseException:
        time.sleep(60)
"""
_TWICE = """
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except BaseException:
            pass
    time.sleep(60)
"""


def test_little_is_imported_before_signals_are_heard():
    """An import takes its time, in which a signal would end in a traceback."""
    program = "import sys, mace_tp.cli.main; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"importlib.metadata", "email", "hashlib", "zipfile", "numpy", "jax"} & set(imported)


_ALARM = """
    signal.signal(signal.SIGALRM, lambda *_: print(" alarm", end=""))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    time.sleep(0.5)
"""


def _run(body: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # so that the command does not restart itself
    code = _DRIVER.format(body=_indented(body))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, preexec_fn=_usual, env=environment)


def _indented(body: str) -> str:
    return textwrap.indent(textwrap.dedent(body), " " * 4)


def _usual() -> None:
    """Start a process as a terminal does: a background job of a shell, which a test may be, ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _within_raising(body: str) -> str:
    return "with signals.raising():\n" + _indented(body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(_ORDINARY, 130, id="ordinary"),
        pytest.param(_GARBAGE, 130, id="garbage"),
        pytest.param(_FINALIZER, 143, id="finalizer"),
        pytest.param(_COMPILED, 130, id="compiled"),
        pytest.param(_IMPORT, 143, id="import"),
        pytest.param(_within_raising(_GARBAGE), 130, id="raising-garbage"),
        pytest.param(_within_raising(_COMPILED), 130, id="raising-compiled"),
        pytest.param(_within_raising(_CAUGHT), 143, id="raising-caught"),
        pytest.param(_within_raising(_TWICE), 130, id="raising-twice"),
    ],
)
def test_a_signal_ends_the_process_wherever_it_comes(body, code):
    started = time.monotonic()
    done = _run(body)

    assert done.returncode == code
    assert done.stdout == "said" and done.stderr == f"mace-tp: stopped by {signal.Signals(code - 128).name}\n"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("within", [str, _within_raising], ids=["ordinary", "raising"])
def test_a_signal_that_a_library_handles_ends_nothing(within):
    done = _run(within(_ALARM + _ORDINARY))

    assert (done.returncode, done.stdout) == (130, "said alarm")


@pytest.mark.parametrize("body", [_ORDINARY, _IMPORT], ids=["ordinary", "import"])
def test_what_must_be_tidied_up_is(body):
    done = _run(_within_raising(f"try:\n{_indented(body)}\nfinally:\n    print(', tidied', end='')"))

    assert done.returncode in (130, 143) and (done.stdout, done.stderr) == ("said, tidied", "")


def test_a_process_that_is_timed_ends_with_the_command(tmp_path):
    run = make_run(tmp_path / "run")
    slow, pid = tmp_path / "python", tmp_path / "pid"
    slow.write_text(f"#!/bin/sh\necho $$ > {pid}.part\nmv {pid}.part {pid}\nexec sleep 60\n")
    slow.chmod(0o755)

    done = _run(f"""
        from mace_tp.cli import compare
        sys.executable = {str(slow)!r}
        def stop():
            while not os.path.exists({str(pid)!r}):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=stop, daemon=True).start()
        compare.main(["--retime", {str(run)!r}])
    """)

    assert done.returncode == 143, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_training_has_last_words_of_its_own():
    done = _run(f"with signals.last_words(lambda text: print(',', text)):\n{_indented(_ORDINARY)}")

    assert (done.returncode, done.stdout, done.stderr) == (130, "said, stopped by SIGINT\n", "")


def test_a_forked_child_dies_alone():
    done = _run("""
        child = os.fork()
        if child == 0:
            time.sleep(60)
        time.sleep(0.3)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        time.sleep(0.3)
    """)

    assert (done.returncode, done.stdout) == (0, "said-15\nnot reached\n"), done.stderr


def test_signals_wait_where_the_process_replaces_itself():
    done = _run(f"""
        signals.hold_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        sys.stdout.flush()
        os.execv({sys.executable!r}, [{sys.executable!r}, "-m", "mace_tp", "train"])
    """)

    assert (done.returncode, done.stderr) == (143, "mace-tp: stopped by SIGTERM\n")


_COMMAND = "import sys; from mace_tp.cli.main import main; print('begins', file=sys.stderr, flush=True); main()"


def _signalled(command: list[str], number: int, seconds: float, folder: Path) -> tuple[int, str]:
    """Return exit code and errors of a command that gets a signal some seconds after its first line."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *command], env=environment, cwd=folder, preexec_fn=_usual, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr.readline() == "begins\n"
    time.sleep(seconds)
    process.send_signal(number)
    try:
        return process.wait(timeout=30), process.stderr.read()
    finally:
        process.kill()


def _assert_ends(command: list[str], folder: Path, times: list[float]) -> None:
    for index, seconds in enumerate(times):
        number = (signal.SIGINT, signal.SIGTERM)[index % 2]
        code, errors = _signalled(command, number, seconds, folder)
        assert code == 128 + number and errors in ("", f"mace-tp: stopped by {number.name}\n"), f"after {seconds} s: {code}, {errors}"


def _train(folder: Path, on_molecules: tuple[str, ...]) -> list[str]:
    return [*on_molecules, f"run_dir={folder}/run", "trainer.resume=auto", "trainer.max_epochs=1000000"]


def test_a_command_ends_with_the_number_of_the_signal(on_molecules, toys, tmp_path):
    _assert_ends(_train(tmp_path, on_molecules), tmp_path, [0.02, 0.4, 2.5])
    _assert_ends(["evaluate", f"{tmp_path}/none", f"{toys}/test.xyz"], tmp_path, [0.2])


@pytest.mark.slow
def test_a_training_ends_with_the_number_of_the_signal_whenever_it_comes(on_molecules, tmp_path):
    rng = random.Random(0)
    _assert_ends(_train(tmp_path, on_molecules), tmp_path, [rng.uniform(0.01, 8.0) for _ in range(40)])
