"""Layers of MACE: they hold parameters and call pure functions and tensor-product plans."""
