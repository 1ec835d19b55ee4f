"""Measurements in processes of their own, which other benchmarks of this folder print as one line of JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def measured(script: str, data: str, settings: Mapping[str, Any], *, target: str, huge_pages: int = 1) -> dict[str, Any]:
    """Run a script with `--worker` and return what it prints last.

    Args:
        script: path.
        data: its first argument.
        settings: its options, by name; a sequence has several values.
        target: instruction set, as MACE_TP_TARGET.
        huge_pages: glibc.malloc.hugetlb.
    """
    command = [sys.executable, script, data, "--worker"]
    for name, value in settings.items():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        command += [f"--{name.replace('_', '-')}", *map(str, values)]
    tunables = f"glibc.malloc.hugetlb={huge_pages}"
    environment = os.environ | {"GLIBC_TUNABLES": tunables, "TF_CPP_MIN_LOG_LEVEL": "3", "MACE_TP_TARGET": target}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])
