"""Hydra's and OmegaConf's messages of several lines → one line that names the key and what would be valid."""

import difflib
import re

from omegaconf import OmegaConf

from mace_tp.config import Config


def one_line(error: Exception) -> str:
    """What the user got wrong in the configuration, with the full name of the key."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = "\n".join(str(cause) for cause in causes)
    key = re.search(r"full_key: (\S+)", text)
    unknown = re.search(r"Key '([^']+)' (?:is not in struct|not in ')", text)
    if key and unknown:
        return _unknown_key(key.group(1))
    value = re.search(r"(Value .+|Cannot .+)", text)
    if key and value:
        return f"{key.group(1)}: {value.group(1)}"
    group = re.search(r"Could not find '([^']+)'\n+Available options in '[^']+':\n((?:\t.+\n?)+)", text)
    if group:
        folder, name = group.group(1).rsplit("/", 1)
        return f"{folder}={name}: no such configuration; valid: {', '.join(group.group(2).split())}"
    override = re.search(r"Could not override '([^']+)'", text)
    if override:
        return _unknown_key(override.group(1))
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _unknown_key(key: str) -> str:
    valid = _keys(OmegaConf.to_container(OmegaConf.structured(Config)))
    groups = sorted({name.split(".")[0] for name in valid})
    close = difflib.get_close_matches(key, valid, n=1)
    if close:
        return f"{key}: no such configuration key; did you mean {close[0]}?"
    parent = key.rsplit(".", 1)[0]
    siblings = [name for name in valid if name.startswith(f"{parent}.")]
    return f"{key}: no such configuration key; valid: {', '.join(siblings or groups)}"


def _keys(values: dict, prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in values.items():
        names += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return names
