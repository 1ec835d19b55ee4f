"""Run directories as a training leaves them, for tests of what is made of them."""

import json
from pathlib import Path
from typing import Any

import yaml

ENVIRONMENT = {
    "mace_tp": "0.1.0",
    "commit": "abc",
    "jax": "0.10.1",
    "jaxlib": "0.10.1",
    "device": "cpu: cpu",
    "dtype": "float32",
    "threads": 2,
}


def make_run(
    folder: Path, product: Any = "cg", *, seed: int = 0, force_rmse: float = 40.0, step_seconds: float = 0.02, finished: bool = True,
    data: str = "aa", num_channels: int = 32, init_from: str | None = None, cpu_per_wall: float = 1.8, **environment: Any,
) -> Path:  # fmt: skip
    """One run with three epochs; the interaction is `cg` where the product is not."""
    (folder / "checkpoints").mkdir(parents=True)
    sites = {"interaction": {"name": "cg"}, "product_basis": product if isinstance(product, dict) else {"name": product}}
    config = {
        "data": {"train": f"{folder}.xyz", "batch_size": 5},
        "model": {"num_channels": num_channels, "init_from": init_from},
        "tensor_product": sites,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed, "run_dir": str(folder)}), encoding="utf-8")
    records = [
        {
            "epoch": i,
            "force_rmse": force_rmse + 9 / i,
            "energy_rmse": 1 + 1 / i,
            "epoch_seconds": 90 * step_seconds,
            "valid_seconds": 0.1,
            "total_seconds": 30 + 20 * i,
            "step_seconds": step_seconds,
            "cpu_per_wall": cpu_per_wall,
        }
        for i in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    if finished:
        errors = {"force_rmse": force_rmse, "energy_rmse_per_config": 20.0, "num_configs": 50}
        part = {"configurations": 500, "sha256": data * 32}
        results = {
            "tensor_product": sites, "num_parameters": 90_000, "flops_per_step": 1.5e9, "epoch_seconds": 90 * step_seconds,
            "step_seconds": step_seconds, "step_seconds_q1": 0.98 * step_seconds, "step_seconds_q3": 1.02 * step_seconds,
            "step_seconds_min": 0.9 * step_seconds, "cpu_per_wall": cpu_per_wall, "compile_seconds": 7.0, "total_seconds": 90.0,
            "peak_memory_mb": 800.0,
            "data": {"train_and_valid": part, "valid": part, "test": {f"{folder}.xyz": part}, "atomic_energies": {"H": -1.0}},
            "environment": ENVIRONMENT | environment, "valid": errors, "test": {"far/hot.xyz": errors | {"force_rmse": 2 * force_rmse}},
        }  # fmt: skip
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder
