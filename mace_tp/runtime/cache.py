"""The cache directory, which keeps compiled programs and measured choices between runs."""

import hashlib
import os
import platform
from pathlib import Path


def cache_directory() -> Path:
    """Return `mace-tp` in the user's folder for caches; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mace-tp"


def processor() -> str:
    """Return a name for the processor's instruction set; compiled programs may not run on a processor with fewer instructions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
