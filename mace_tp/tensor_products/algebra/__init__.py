"""Numpy float64 algebra of irreps: couplings, symmetric powers, and functions on the sphere."""
