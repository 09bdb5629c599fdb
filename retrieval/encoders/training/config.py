"""What a training run of the compact encoder does, as one frozen value that is saved beside its result."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from retrieval.encoders.training.augmentation import Augmentation
from retrieval.errors import EncoderError
from retrieval.runs.precision import Precision
from retrieval.runs.seeds import SEEDS


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderTrainConfig:
    """A training run of the compact dual encoder."""

    image_size: int = 96
    """Side of the square that pictures are brought to, pixels."""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of each stage of the image tower."""
    word_dim: int = 128
    """Size of a word's vector."""
    dimension: int = 128
    """Size of the shared space."""
    epochs: int = 60
    """Passes over the pictures."""
    batch_size: int = 128
    """Pictures a step, over all workers."""
    captions_a_step: int = 2048
    """Captions that a step tells apart; where there are more, those of its pictures and others drawn at random."""
    learning_rate: float = 2e-3
    """Highest step size of AdamW; it rises over the first steps and falls to zero along a cosine."""
    weight_decay: float = 0.05
    """AdamW's, on everything but biases, norms and the logit scale."""
    warmup_share: float = 0.15
    """Share of the steps over which the step size rises."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How far training pictures stray from their photos."""
    validation_share: float = 0.05
    """Share of the pictures that is not trained on but measured after each epoch; 0 for none."""
    precision: Precision = Precision.AUTO
    """Numbers that the image tower is trained in."""
    seed: int = 0
    """Seed of the initialisation, the order, the augmentation and the share for validation."""

    def __post_init__(self) -> None:
        for name in ("epochs", "captions_a_step"):
            if getattr(self, name) < 1:
                raise EncoderError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise EncoderError(f"batch_size must be at least 2, since pictures are told apart, got {self.batch_size}")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise EncoderError(
                "learning_rate must be above 0 and weight_decay at least 0, both finite, got "
                f"{self.learning_rate} and {self.weight_decay}"
            )
        if not 0 <= self.seed < SEEDS:
            raise EncoderError(f"seed must be at least 0 and below 2**63, got {self.seed}")
        if not 0 <= self.warmup_share < 1 or not 0 <= self.validation_share < 1:
            raise EncoderError(
                f"warmup_share and validation_share must be in [0, 1), got {self.warmup_share} and "
                f"{self.validation_share}"
            )

    def to_json(self) -> str:
        """This configuration as JSON."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "EncoderTrainConfig":
        """The configuration that `to_json` wrote. Raises EncoderError where it does not fit."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise EncoderError(f"not a training configuration of an encoder: {error}") from error


_ADAPTER = TypeAdapter(EncoderTrainConfig)


def photos() -> EncoderTrainConfig:
    """Some thousands of photos with captions, about ten minutes on two cores."""
    return EncoderTrainConfig()


def demo_shop() -> EncoderTrainConfig:
    """The rendered pictures of the demo shop: fewer passes, since drawings are many and vary less than photos."""
    return EncoderTrainConfig(epochs=12)


PRESETS: dict[str, Callable[[], EncoderTrainConfig]] = {"photos": photos, "demo-shop": demo_shop}


def preset(name: str) -> EncoderTrainConfig:
    """The configuration called `name`. Raises EncoderError with the names that exist."""
    if name not in PRESETS:
        raise EncoderError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()


def with_overrides(config: EncoderTrainConfig, **overrides: object) -> EncoderTrainConfig:
    """`config` with the fields that are not None replaced."""
    given = {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(config, **given)  # type: ignore[arg-type]
