"""What a deployment decides about composed retrieval, in one frozen piece that travels to its replicas."""

from dataclasses import dataclass, field
from pathlib import Path

from recollect.artifacts import STABLE
from retrieval.images import ImageLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedConfig:
    """Which model answers, where its galleries are, and how much it takes on."""

    model: str
    """Directory of a model, or name of a BLIP-2 on the Hugging Face hub."""
    model_name: str
    """What callers are told that it is."""
    indexes: Path
    """Directory of the galleries' versions."""
    shared: str | None = None
    """URL where machines share them; None: they do not."""
    label: str = STABLE
    """The label whose version answers."""
    image_limits: ImageLimits = field(default_factory=ImageLimits)
    """What is decoded; an image beyond is refused."""
    decode_threads: int = 2
    """Threads that decode and resize images."""
    embedding_threads: int = 1
    """Threads that one batch of images, or one query, is computed with."""
    search_threads: int = 1
    """Queries that are searched for at one time."""
    largest_batch: int = 8
    """Images, or queries, that are embedded at one time. None waits for others: what comes meanwhile is the next
    batch."""
    most_waiting: int = 64
    """Searches that are worked on or wait; the next is refused."""
    references: int = 256
    """Reference pictures whose features are remembered; the one used least recently goes first."""
    look_s: float = 1.0
    """How often it is looked whether there is a new version of a gallery, seconds; every search looks as well."""

    def __post_init__(self) -> None:
        for name in (
            "decode_threads",
            "embedding_threads",
            "search_threads",
            "largest_batch",
            "most_waiting",
            "references",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.look_s <= 0:
            raise ValueError(f"look_s must be more than 0, got {self.look_s}")
