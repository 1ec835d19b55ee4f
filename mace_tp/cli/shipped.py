"""Finds the configurations and data that ship: beside the package in a source tree, inside the package after installation from a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def config_directory() -> Path:
    return _shipped("configs")


def shipped_data(name: str) -> str:
    """Return the path of a data file that ships, such as `ethanol/train_300K.xyz.xz`."""
    return str(_shipped("data") / name)


def _shipped(folder: str) -> Path:
    in_tree = _PACKAGE.parent / folder
    # Many folders are called `data`; that of the source tree has the project file beside it.
    return in_tree if (_PACKAGE.parent / "pyproject.toml").exists() else _PACKAGE / "shipped" / folder
