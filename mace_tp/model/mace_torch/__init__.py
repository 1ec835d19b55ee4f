"""Reading and writing models of ACEsuit's mace-torch."""
