"""ASE calculator, molecular dynamics, jax-md."""
