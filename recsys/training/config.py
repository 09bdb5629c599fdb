"""What a training run does, as one frozen value that is saved beside its result; presets are functions."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from recsys.data.event_store import EventType
from recsys.data.protocols import LeaveLastOut, TimeSplit
from recsys.data.samples import SampleConfig
from recsys.errors import ConfigError
from recsys.models.kinds import has_attention_size, model_kind
from recsys.training.step import OPTIMIZERS, PRECISIONS, OptimizerName, PrecisionName


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A training run of DARE or of a baseline."""

    samples: SampleConfig
    """Targets, histories and negatives."""
    model: str = "dare"
    """Which of `recsys.models.kinds.MODELS` is trained."""
    attention_dim: int = 16
    """Size of each attention embedding; that of each representation embedding where the model has one set for both."""
    representation_dim: int = 16
    """Size of each representation embedding."""
    search_k: int = 20
    """Behaviours kept by the search."""
    batch_size: int = 2048
    """Samples (targets, negatives included) a step, over all workers."""
    epochs: int = 2
    """Passes over the training targets."""
    learning_rate: float = 0.01
    """Adam's step size."""
    optimizer: OptimizerName = "adam"
    """`adam`, as published; `rowwise-adam` takes the same steps, those of a row when a batch holds it, for large
    catalogues."""
    precision: PrecisionName = "fp32"
    """Of the heads' matrix products: `bf16` is faster on a GPU. Tables, search, pooling, BatchNorm and loss stay in
    fp32."""
    l2: float = 1e-6
    """Factor of Σw² over the weights that are neither bias nor embedding."""
    validate_every: int = 150
    """Steps from one validation, and checkpoint, to the next; the end of training validates as well."""
    seed: int = 0
    """Seed of the initialisation and of the order of samples."""

    def __post_init__(self) -> None:
        for name in ("attention_dim", "representation_dim", "search_k", "epochs", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not has_attention_size(model_kind(self.model)) and self.attention_dim != self.representation_dim:
            raise ConfigError(
                f"attention_dim must equal representation_dim for {self.model!r}, whose embeddings do both; "
                f"got {self.attention_dim} and {self.representation_dim}"
            )
        if self.batch_size < 2 * (1 + self.samples.negatives):
            raise ConfigError(
                f"batch_size must hold at least two positives with their {self.samples.negatives} negatives each, "
                f"got {self.batch_size}"
            )
        for name, known in (("optimizer", OPTIMIZERS), ("precision", tuple(PRECISIONS))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.l2 < math.inf:
            raise ConfigError(
                f"learning_rate must be above 0 and l2 at least 0, both finite, got {self.learning_rate} and {self.l2}"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be at least 0 and below 2**63, got {self.seed}")

    def to_json(self) -> str:
        """This configuration as JSON."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "TrainConfig":
        """The configuration that `to_json` wrote. Raises ConfigError where it does not fit."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"not a training configuration: {error}") from error


_ADAPTER = TypeAdapter(TrainConfig)


def taobao_dare() -> TrainConfig:
    """The published recipe on Taobao UserBehavior: clicks only, d = 16 (arXiv 2410.02604, section 4.1)."""
    return TrainConfig(samples=SampleConfig(protocol=LeaveLastOut(), same_time="order"))


def tmall_dare() -> TrainConfig:
    """The published recipe on the Tmall logs, the same as Taobao's."""
    return taobao_dare()


def online_retail_dare() -> TrainConfig:
    """The recipe on UCI Online Retail: train before November 2011, validate until the 15th, test on the rest."""
    protocol = _online_retail_split(min_events=30, min_history=20, train_stride=3)
    return TrainConfig(samples=SampleConfig(protocol=protocol, same_time="order"), epochs=3)


def online_retail_recommend() -> TrainConfig:
    """To recommend from all of UCI Online Retail: the same dates, every event of a customer a target, what came at the
    same time unseen as when a service is asked, and negatives of all items."""
    protocol = _online_retail_split(min_events=5, min_history=1, train_stride=1)
    samples = SampleConfig(protocol=protocol, negatives=4, negatives_of="all")
    return TrainConfig(samples=samples, batch_size=5_120)


def recommend_dare() -> TrainConfig:
    """To recommend from the whole catalogue of any shop: as `default_dare`, with every one of a user's latest events a
    target, and negatives of all items."""
    protocol = LeaveLastOut(min_events=30, train_first=3, train_last=29, train_stride=1)
    return TrainConfig(samples=SampleConfig(protocol=protocol, negatives=4, negatives_of="all"), batch_size=5_120)


def demo_dare() -> TrainConfig:
    """A small model of the demo shop, trained in about a minute on two cores."""
    protocol = LeaveLastOut(min_events=60, train_first=3, train_last=53, train_stride=5)
    return TrainConfig(samples=SampleConfig(protocol=protocol), epochs=4, validate_every=20)


def default_dare() -> TrainConfig:
    """Any shop: users with at least 30 events, the last one tests, the one before validates."""
    protocol = LeaveLastOut(min_events=30, train_first=3, train_last=23)
    return TrainConfig(samples=SampleConfig(protocol=protocol))


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "default": default_dare,
    "demo": demo_dare,
    "online-retail": online_retail_dare,
    "online-retail-recommend": online_retail_recommend,
    "recommend": recommend_dare,
    "taobao": taobao_dare,
    "tmall": tmall_dare,
}


def preset(name: str) -> TrainConfig:
    """The configuration called `name`. Raises ConfigError with the names that exist."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()


def event_types_of(preset_name: str) -> tuple[EventType, ...] | None:
    """The event types that a published recipe keeps of a log; None for all of them."""
    return (EventType.CLICK,) if preset_name in ("taobao", "tmall") else None


def with_overrides(config: TrainConfig, **overrides: object) -> TrainConfig:
    """`config` with the fields that are not None replaced; for a model with one embedding set, an attention size that
    is not given follows the representation's."""
    given = {name: value for name, value in overrides.items() if value is not None}
    if not has_attention_size(model_kind(str(given.get("model", config.model)))):
        given.setdefault("attention_dim", given.get("representation_dim", config.representation_dim))
    return dataclasses.replace(config, **given)  # type: ignore[arg-type]


def _online_retail_split(*, min_events: int, min_history: int, train_stride: int) -> TimeSplit:
    return TimeSplit(
        validation_from_ms=_utc_ms(2011, 11, 1),
        test_from_ms=_utc_ms(2011, 11, 16),
        min_events=min_events,
        min_history=min_history,
        train_stride=train_stride,
    )


def _utc_ms(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)
