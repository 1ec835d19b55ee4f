"""A model as one compiled function in a file."""
