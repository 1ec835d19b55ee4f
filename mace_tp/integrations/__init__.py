"""Models and simulations of other programs."""
