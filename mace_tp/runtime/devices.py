"""The dtype and the device of a computation, from their names in a configuration."""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from mace_tp.errors import InputError

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm] - a variable in jax, not a type


def set_dtype(name: str) -> jnp.dtype:
    """Return the dtype of this name and prepare jax for it. For float64, jax must not have computed anything before.

    Matrix products get the full precision of the dtype; by default jax lets a GPU round float32 to 10 bits (TF32).
    """
    jax.config.update("jax_default_matmul_precision", "highest")
    if name == "float64":
        jax.config.update("jax_enable_x64", True)
    return jnp.dtype(name)


def find_device(kind: str) -> Device:
    """Return the first device of a kind: `auto` (the default of jax), `cpu` or `gpu`.

    Raises:
        InputError: jax finds no such device.
    """
    if kind == "auto":
        return jax.devices()[0]
    try:
        return jax.devices(kind)[0]
    except RuntimeError as error:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise InputError(f"device={kind}: jax finds none; it finds {found}") from error
