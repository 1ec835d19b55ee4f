"""Measurements of tensor products: cases, timings of several side by side, and what is written of them."""
