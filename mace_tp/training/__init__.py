"""Training: state, optimizer, compiled steps, loop, evaluation, checkpoints."""
