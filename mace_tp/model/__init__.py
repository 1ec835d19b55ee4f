"""The model: MACE, its forces, compiled programs, files, export, and models of mace-torch."""
