"""Measurements of tensor products: cases, timings side by side, expressivity, reports and plots."""
