"""Tensor products: `plans.py` and `base.py` are their interface, `registry.py` their names; every product has a file of its own."""
