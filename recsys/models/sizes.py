"""What the configurations of all models have in common."""

import dataclasses
from dataclasses import dataclass

from recsys.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSizes:
    """Sizes of a model; those of one kind may add their own."""

    n_items: int
    """V, items in the catalogue, without row 0."""
    n_categories: int
    """C, categories in the catalogue, without row 0."""
    representation_dim: int = 16
    """Size of each representation embedding (item, category, position)."""
    n_positions: int = 200
    """N, position rows for behaviours; older behaviours share the last row."""
    search_k: int = 20
    """K, behaviours kept by the search."""
    hidden: tuple[int, ...] = (200, 80)
    """Widths of the head's hidden layers."""
    aux_hidden: tuple[int, ...] = (200,)
    """Widths of the auxiliary head's hidden layers; it exists in training only."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{field.name} must be at least 1, got {value}")
