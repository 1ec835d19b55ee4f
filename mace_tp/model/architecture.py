"""The shape of a MACE model."""

import dataclasses
from typing import Any

import e3nn_jax as e3nn

SCALARS = e3nn.Irreps("0e")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Shape of a MACE model; `model` in the configuration. `radial_mlp` may be given as a list, as files have it."""

    cutoff: float = 5.0  # Å
    l_max: int = 3  # highest degree of the edge harmonics
    hidden_irreps: str = "0e+1o"  # degrees and parities of the features between layers; each has `num_channels` channels
    correlation: int = 3  # highest order of the product basis
    num_channels: int = 32
    num_interactions: int = 2  # layers
    radial_mlp: tuple[int, ...] = (64, 64, 64)  # sizes of the hidden layers
    num_bessel: int = 8
    cutoff_power: int = 5  # p of the polynomial envelope
    readout_mlp: int = 16  # hidden width of the last readout
    first_interaction: str = "nonresidual"  # or "residual": self-connection of the first layer
    other_interactions: str = "residual"  # or "nonresidual": self-connection of the layers after the first
    message_normalization: str = "average"  # divides messages by the mean number of neighbors; "density": by a learned one of each atom
    distance_transform: str = "none"  # of the lengths before the radial basis; "agnesi" or "soft": relative to covalent radii
    pair_repulsion: str = "none"  # or "zbl": adds the screened Coulomb repulsion of nuclei closer than their covalent radii
    forces: str = "gradient"  # of the energy, or "direct": read from vector features; faster, but they conserve no energy

    def __post_init__(self) -> None:
        object.__setattr__(self, "radial_mlp", tuple(self.radial_mlp))

    def irreps_in(self, layer: int) -> e3nn.Irreps:
        """Irreps of the node features that a layer receives."""
        return SCALARS if layer == 0 else e3nn.Irreps(self.hidden_irreps)

    def irreps_out(self, layer: int) -> e3nn.Irreps:
        """Irreps of the node features that a layer makes; the last layer makes scalars only."""
        return SCALARS if layer == self.num_interactions - 1 else e3nn.Irreps(self.hidden_irreps)

    @property
    def harmonics(self) -> e3nn.Irreps:
        """Irreps of the edge harmonics and of the A-basis."""
        return e3nn.s2_irreps(self.l_max)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON and YAML have them: lists instead of tuples."""
        return dataclasses.asdict(self) | {"radial_mlp": list(self.radial_mlp)}
