"""The numbers that a model takes from its training set."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DatasetStatistics:
    """Computed once from the training set, handed to the model's constructor, saved with the model."""

    atomic_numbers: tuple[int, ...]  # ascending Z; a species is an index into this tuple
    atomic_energies: tuple[float, ...]  # E0 of each species, eV
    avg_num_neighbors: float  # mean number of neighbors within the cutoff, over atoms that have any
    scale: float  # root mean square of the force components, eV/Å
    shift: float  # mean of (E - sum of E0) per atom, eV

    def to_dict(self) -> dict:
        return {field: list(value) if isinstance(value, tuple) else value for field, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "DatasetStatistics":
        return cls(**{field: tuple(value) if isinstance(value, list) else value for field, value in values.items()})
