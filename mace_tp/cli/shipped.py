"""Where configurations and data lie: beside the package in a source tree, inside it when installed from a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def config_directory() -> Path:
    return _shipped("configs")


def shipped_data(name: str) -> str:
    """Path of a data file that ships, such as `ethanol/train_300K.xyz.xz`."""
    return str(_shipped("data") / name)


def _shipped(folder: str) -> Path:
    in_tree = _PACKAGE.parent / folder
    # Any folder may be called `data`; the source tree is the one that has the project file beside it.
    return in_tree if (_PACKAGE.parent / "pyproject.toml").exists() else _PACKAGE / "shipped" / folder
