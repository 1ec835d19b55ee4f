"""The command `mace-tp`: parse, compose, build, run."""
