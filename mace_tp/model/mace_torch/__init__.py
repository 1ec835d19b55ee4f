"""Models of ACEsuit's mace-torch, read and written."""
