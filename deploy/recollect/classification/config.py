"""What a deployment decides about classification, in one frozen piece that travels to its replicas."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from retrieval.images import ImageLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationConfig:
    """Which encoder answers, where its files are, and how much it takes on."""

    encoder: str
    """Name of a shipped encoder, directory of a checkpoint, or name of a model on the Hugging Face hub."""
    runtime: Literal["auto", "torch", "onnx"] = "auto"
    """What runs the encoder."""
    sets: Path
    """Directory of the stored descriptor sets."""
    text_cache: Path
    """Directory in which embedded texts are kept."""
    image_limits: ImageLimits = field(default_factory=ImageLimits)
    """What is decoded; an image beyond is refused, the others of its call are not."""
    decode_threads: int = 2
    """Threads that decode and resize images."""
    embedding_threads: int = 1
    """Threads that one batch of images, or of texts, is computed with."""
    largest_batch: int = 16
    """Images that are embedded at one time. None waits for others: what comes meanwhile is the next batch."""
    most_waiting: int = 256
    """Images that are decoded, wait or are embedded at one time; a call that would pass it is refused."""
    text_batch: int = 32
    """Texts that are embedded at one time; between two batches another set gets its turn."""
    concurrent_sets: int = 8
    """Sets whose texts are embedded in turn; further ones wait."""
    look_s: float = 1.0
    """How often the store is looked through for revisions that nobody prepares, seconds."""
    texts_in_memory: int = 200_000
    """Embedded texts of sets that are kept ready to answer; the set used least recently goes first, and comes back from
    the text cache."""

    def __post_init__(self) -> None:
        for name in (
            "decode_threads",
            "embedding_threads",
            "largest_batch",
            "most_waiting",
            "text_batch",
            "concurrent_sets",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.look_s <= 0:
            raise ValueError(f"look_s must be more than 0, got {self.look_s}")
