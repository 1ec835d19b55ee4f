"""The model: MACE, its forces, the potential that can be called, files, export, and models of mace-torch."""
