"""What a training run of composed retrieval does, as one frozen value that is saved beside its result."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from retrieval.composed.model import QFormerConfig
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.references import Reference
from retrieval.composed.vision import CompactVisionConfig
from retrieval.errors import ComposedError
from retrieval.runs.precision import Precision
from retrieval.runs.seeds import SEEDS


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedTrainConfig:
    """A training run of AdaFocal on queries; the defaults are the published recipe."""

    modulator: ModulatorConfig = field(default_factory=lambda: ModulatorConfig(inner=2048))
    """Where β comes from."""
    reference: Reference = Reference.WHOLE
    """What the model is shown of a reference picture."""
    epochs: int = 50
    """Passes over the queries."""
    batch_size: int = 256
    """Queries whose targets are told apart in one step, on each worker."""
    accumulation: int = 1
    """Parts that the batch is computed in, one after the other; the result is that of the whole batch, the memory
    that of a part."""
    hard_share: float = 0.0
    """Share of a batch that is filled with queries whose targets look like those of the others: look-alikes of other
    instances, as the model sees them at the start of the epoch. 0, as published, draws all at random."""
    learning_rate: float = 1e-5
    """Highest step size of AdamW, of what the starting model brings."""
    modulator_learning_rate: float = 1e-5
    """Highest step size of the modulator, which starts from nothing."""
    weight_decay: float = 0.05
    """AdamW's, on everything but biases, norms and the temperature."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's."""
    epsilon: float = 1e-7
    """AdamW's."""
    warmup_share: float = 0.03
    """Share of the steps over which the step size rises; it then falls along a cosine (one cycle)."""
    precision: Precision = Precision.AUTO
    """Numbers that the Q-Former is trained in; the weights themselves are fp32."""
    seed: int = 0
    """Seed of the modulator's initialisation, the order and dropout."""

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulation"):
            if getattr(self, name) < 1:
                raise ComposedError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2 or self.accumulation > self.batch_size:
            raise ComposedError(
                f"batch_size must be at least 2, since targets are told apart, and hold accumulation parts; got "
                f"{self.batch_size} and {self.accumulation}"
            )
        rates = self.learning_rate, self.modulator_learning_rate
        if not all(0 < rate < math.inf for rate in rates) or not 0 <= self.weight_decay < math.inf:
            raise ComposedError(
                "learning rates must be above 0 and weight_decay at least 0, all finite, got "
                f"{self.learning_rate}, {self.modulator_learning_rate} and {self.weight_decay}"
            )
        if not 0 <= self.warmup_share < 1 or not 0 <= self.hard_share < 1:
            raise ComposedError(
                f"warmup_share and hard_share must be in [0, 1), got {self.warmup_share} and {self.hard_share}"
            )
        if self.reference is not Reference.WHOLE and self.modulator.modulation is not Modulation.NONE:
            raise ComposedError(
                f"reference {self.reference} shows the box already, so modulation must be none, got "
                f"{self.modulator.modulation}"
            )
        _check_seed(self.seed)

    def to_json(self) -> str:
        """This configuration as JSON."""
        return _TRAIN.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "ComposedTrainConfig":
        """The configuration that `to_json` wrote. Raises ComposedError where it does not fit."""
        try:
            return _TRAIN.validate_json(text)
        except ValidationError as error:
            raise ComposedError(f"not a training configuration of composed retrieval: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """A run that makes a compact image encoder and Q-Former from captioned pictures of boxed objects, from nothing."""

    vision: CompactVisionConfig = field(default_factory=lambda: CompactVisionConfig(widths=(24, 48, 96)))
    """The image encoder."""
    qformer: QFormerConfig = field(
        default_factory=lambda: QFormerConfig(
            width=96, layers=2, heads=4, inner=288, dropout=0.0, query_tokens=8, dimension=64
        )
    )
    """The Q-Former; the size of its vocabulary follows from the captions and `texts`."""
    epochs: int = 6
    """Passes over the pictures in which all of the model is trained."""
    qformer_epochs: int = 8
    """Passes after these, in which the image encoder is frozen."""
    instances_a_step: int = 48
    """Instances that a step tells apart."""
    pictures_an_instance: int = 2
    """Pictures that each of them is seen on in a step."""
    instance_weight: float = 1.0
    """Of the losses that tell objects apart, beside that of pictures and captions."""
    learning_rate: float = 2e-3
    """Highest step size of AdamW."""
    weight_decay: float = 0.05
    """AdamW's, on everything but biases, norms and the temperature."""
    warmup_share: float = 0.1
    """Share of the steps over which the step size rises; it then falls along a cosine."""
    seed: int = 0
    """Seed of the initialisation and the order."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("qformer_epochs", 0), ("instances_a_step", 2), ("pictures_an_instance", 2)):
            if getattr(self, name) < least:
                raise ComposedError(f"{name} must be at least {least}, got {getattr(self, name)}")
        weights = self.weight_decay, self.instance_weight
        if not 0 < self.learning_rate < math.inf or not all(0 <= weight < math.inf for weight in weights):
            raise ComposedError(
                "learning_rate must be above 0, weight_decay and instance_weight at least 0, all finite; got "
                f"{self.learning_rate}, {self.weight_decay}, {self.instance_weight}"
            )
        if not 0 <= self.warmup_share < 1:
            raise ComposedError(f"warmup_share must be in [0, 1), got {self.warmup_share}")
        _check_seed(self.seed)

    def to_json(self) -> str:
        """This configuration as JSON."""
        return _PRETRAIN.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "PretrainConfig":
        """The configuration that `to_json` wrote. Raises ComposedError where it does not fit."""
        try:
            return _PRETRAIN.validate_json(text)
        except ValidationError as error:
            raise ComposedError(f"not a pre-training configuration of composed retrieval: {error}") from error


def _check_seed(seed: int) -> None:
    if not 0 <= seed < SEEDS:
        raise ComposedError(f"seed must be at least 0 and below 2**63, got {seed}")


_TRAIN, _PRETRAIN = TypeAdapter(ComposedTrainConfig), TypeAdapter(PretrainConfig)


def published() -> ComposedTrainConfig:
    """The recipe of the paper, for a BLIP-2 checkpoint and a GPU."""
    return ComposedTrainConfig()


def world() -> ComposedTrainConfig:
    """The rendered world and a compact model, minutes on one core."""
    return ComposedTrainConfig(
        modulator=ModulatorConfig(layers=2, heads=4, hidden=64),
        epochs=4,
        batch_size=128,
        hard_share=0.5,
        learning_rate=1e-3,
        modulator_learning_rate=1e-3,
        epsilon=1e-8,
        warmup_share=0.1,
    )


PRESETS: dict[str, Callable[[], ComposedTrainConfig]] = {"published": published, "world": world}


def preset(name: str) -> ComposedTrainConfig:
    """The configuration called `name`. Raises ComposedError with the names that exist."""
    if name not in PRESETS:
        raise ComposedError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()


Config = TypeVar("Config", ComposedTrainConfig, PretrainConfig)


def with_overrides(config: Config, **overrides: object) -> Config:
    """`config` with the fields that are not None replaced."""
    given = {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(config, **given)  # type: ignore[arg-type]


def with_modulation(config: ComposedTrainConfig, modulation: str | None, *, fixed: float | None) -> ComposedTrainConfig:
    """`config` with β from elsewhere, where told so. Raises ComposedError with the ways that exist."""
    if modulation is not None and modulation not in tuple(Modulation):
        raise ComposedError(f"no modulation {modulation!r}; there are {', '.join(Modulation)}")
    modulator = config.modulator
    if modulation is not None:
        modulator = dataclasses.replace(modulator, modulation=Modulation(modulation))
    if fixed is not None:
        if modulator.modulation is not Modulation.FIXED:
            raise ComposedError(f"beta is that of modulation fixed, got modulation {modulator.modulation}")
        modulator = dataclasses.replace(modulator, fixed=fixed)
    return dataclasses.replace(config, modulator=modulator)


def reference_named(name: str) -> Reference:
    """What is shown of a reference. Raises ComposedError with the names that exist."""
    if name not in tuple(Reference):
        raise ComposedError(f"no reference {name!r}; there are {', '.join(Reference)}")
    return Reference(name)


def precision_named(name: str) -> Precision:
    """Which numbers a run computes in. Raises ComposedError with the names that exist."""
    if name not in tuple(Precision):
        raise ComposedError(f"no precision {name!r}; there are {', '.join(Precision)}")
    return Precision(name)
