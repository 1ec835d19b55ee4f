"""Whole epochs by the programs' own commands: reading, batches, updates, validation. 64 channels, 0e+1o, batches of 5."""

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

# "2026-11-24 14:50:01.123 INFO: Epoch 3: head: Default, loss=..."
_EPOCH_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) INFO: Epoch (\d+): ")


def mace_tp_epochs(data: str, epochs: int, folder: Path, environment: dict[str, str], products: tuple[str, str]) -> dict:
    """`mace-tp train`: median over the epochs after the first of the seconds for updates and validation."""
    interaction, product_basis = products
    arguments = [
        f"data.train={data}", "data.atomic_energies=least_squares", "data.valid_fraction=0.1", "data.batch_size=5",
        "data.valid_batch_size=10", "model.num_channels=64", "model.hidden_irreps=0e+1o", f"tensor_product.interaction={interaction}",
        f"tensor_product.product_basis={product_basis}", "loss=acesuit", "optimizer=acesuit", "optimizer.ema_decay=0.99", "device=cpu",
        f"trainer.max_epochs={epochs}", f"run_dir={folder / 'run'}",
    ]  # fmt: skip
    memory = _run([sys.executable, "-m", "mace_tp", "train", *arguments], folder, environment)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["epoch_seconds"] + line["valid_seconds"] for line in lines]
    results = json.loads((folder / "run" / "results.json").read_text())
    return _summary(seconds[1:]) | {
        "peak_memory_mb": memory,
        "compile_seconds": results["compile_seconds"],
        "num_parameters": results["num_parameters"],
    }


def mace_torch_epochs(data: str, epochs: int, folder: Path, environment: dict[str, str], python: str) -> dict:
    """`mace_run_train`: median of the seconds between the lines about two epochs in its log, so without the first epoch."""
    arguments = [
        f"--train_file={data}", "--energy_key=energy", "--forces_key=forces", "--E0s=average", "--valid_fraction=0.1", "--batch_size=5",
        "--valid_batch_size=10", "--model=ScaleShiftMACE", "--interaction_first=RealAgnosticInteractionBlock", "--r_max=5.0",
        "--hidden_irreps=64x0e + 64x1o", "--num_radial_basis=8", "--num_cutoff_basis=5", "--max_ell=3", "--correlation=3",
        "--num_interactions=2", "--loss=weighted", "--energy_weight=1", "--forces_weight=100", "--amsgrad", "--lr=0.01",
        "--weight_decay=5e-7", "--ema", "--ema_decay=0.99", "--default_dtype=float32", "--device=cpu", "--seed=0",
        f"--max_num_epochs={epochs}", "--name=peer", "--plot=False", f"--work_dir={folder}",
    ]  # fmt: skip
    memory = _run([str(Path(python).parent / "mace_run_train"), *arguments], folder, environment)
    (log,) = (path for path in (folder / "logs").glob("*.log") if not path.stem.endswith("_debug"))
    stamps = [datetime.datetime.fromisoformat(match[1]) for line in log.read_text().splitlines() if (match := _EPOCH_LINE.match(line))]
    return _summary([(later - earlier).total_seconds() for earlier, later in zip(stamps, stamps[1:])]) | {"peak_memory_mb": memory}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run the command in the new folder; its peak memory, MB."""
    folder.mkdir(parents=True)
    output = folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=output.read_text())
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _summary(seconds: list[float]) -> dict:
    return {"epoch_seconds": float(np.median(seconds)), "epoch_seconds_min": min(seconds), "epoch_seconds_max": max(seconds)}
