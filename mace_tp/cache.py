"""Where things are kept between runs that can be made again: compiled programs, choices by measurement."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """`mace-tp` under the user's folder for caches; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mace-tp"
