"""Tensor products, one module each: `mace_tp.tensor_products.<name>` defines one dataclass of options that makes plans."""
