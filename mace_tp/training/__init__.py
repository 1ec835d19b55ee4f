"""Training: `train` is the page to read first, `fit` its loop, `step` the update."""
