"""Counts the kernel's floating-point operations in a program, which XLA does not count."""

import jax.extend.core


def kernel_flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    """Return the operations of all calls of the kernel in a jaxpr; each call states its number in its attributes."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "ffi_call":
            total += int(dict(equation.params["attributes"]).get("flops", 0))
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(kernel_flops, jax.extend.core.jaxprs_in_params(equation.params)))
    return total
