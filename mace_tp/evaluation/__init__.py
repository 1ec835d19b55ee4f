"""Errors of models and comparisons of runs, as numbers and plots."""
