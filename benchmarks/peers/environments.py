"""The peers' virtual environments: made where they are missing, left alone where they are there."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# By name: the packages to install, one call of pip for each group. The version of the last one shows whether the environment is complete.
_PACKAGES = {
    "mace-torch": (["torch==2.13.0"], ["mace-torch==0.3.16"]),
    "mlip": (["mlip==0.2.2", "jax==0.10.1", "jaxlib==0.10.1"],),
}


def python_of(folder: Path, name: str) -> str:
    """The interpreter of the peer's environment `folder/name`, which is made first if it is missing or has another version."""
    python = folder / name / "bin" / "python"
    requirement = _PACKAGES[name][-1][0]
    if not _has(python, requirement):
        print(f"making {folder / name} for {requirement}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        for packages in _PACKAGES[name]:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def _has(python: Path, requirement: str) -> bool:
    name, version = requirement.split("==")
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    if not python.exists():
        return False
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout.strip() == version


def versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """Versions of the distributions in the environment of an interpreter."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{name: m.version(name) for name in {list(packages)!r}}}))"
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
