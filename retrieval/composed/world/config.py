"""How large a rendered world is."""

from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """Families of look-alikes a split, and the pictures of each object that is asked for."""

    train_families: int
    """Families to train on, three objects to ask for and two doubles each; no family is in two splits."""
    val_families: int
    test_families: int
    places_an_instance: int = 3
    """Places that each object is seen at, each of another kind; at each it is seen twice, the second time with the
    light or the company changed."""
    double_share: float = 1.0
    """Share of these pictures that are drawn again with a double in the object's stead."""
    exchange_share: float = 0.5
    """Share of the places where, the second time, something else has taken the place of one thing beside the object,
    and that thing stands beside the double instead: of all that the first picture shows, each of the two has lost one
    thing, and only a box says which of them must not be lost."""
    size: int = 128
    """Side of a picture, pixels."""
    seed: int = 0
    """Equal seeds give equal bytes."""

    def __post_init__(self) -> None:
        for name in ("train_families", "val_families", "test_families"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, since objects need company, got {getattr(self, name)}")
        if not 2 <= self.places_an_instance <= 10:
            raise ValueError(f"places_an_instance must be 2 to 10, got {self.places_an_instance}")
        for name in ("double_share", "exchange_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if not 64 <= self.size <= 512:
            raise ValueError(f"size must be 64 to 512 pixels, got {self.size}; marks vanish in smaller pictures")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    def families(self, split: str) -> int:
        """Families of a split."""
        count: int = getattr(self, f"{split}_families")
        return count


def standard(seed: int = 0) -> WorldConfig:
    """1,200 objects to train on and 300 to test: large enough for differences between models to show."""
    return WorldConfig(train_families=400, val_families=34, test_families=100, seed=seed)


def tiny(seed: int = 0) -> WorldConfig:
    """For tests: seconds."""
    return WorldConfig(train_families=3, val_families=2, test_families=3, places_an_instance=2, seed=seed)
