"""Array operations, and the plans made of them that several tensor products share."""
