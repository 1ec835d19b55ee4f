"""One compiled kernel for sparse polynomials over channels, on a CPU."""
