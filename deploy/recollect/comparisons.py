"""What the reports that hold models against each other begin with, and where they leave what they found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recollect.evaluations import open_evaluated
from recollect.settings import Settings
from recsys.data.event_store import EventStore
from recsys.data.samples import SampleConfig
from recsys.diagnosis.subjects import Subject, Trained, subjects_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Models that were trained on the same samples, and the events that they are measured on."""

    subjects: Sequence[Subject]
    events: EventStore
    samples: SampleConfig
    search_k: int
    """Behaviours that each of them keeps."""


def open_compared(settings: Settings, references: Sequence[str], store: Path | None) -> Comparison:
    """The models that `references` name, and the events in `store` or those that the first was trained on.

    ArtifactError where there is no such model, StoreError where the events have another catalogue, ConfigError where
    the models cannot be held against each other.
    """
    opened = [open_evaluated(settings, references[0], store)]
    opened += [open_evaluated(settings, reference, opened[0].events.directory) for reference in references[1:]]
    subjects = subjects_of(
        [
            Trained(name, one.saved.model, one.config, one.saved.data)
            for name, one in zip(references, opened, strict=True)
        ]
    )
    return Comparison(
        subjects=subjects,
        events=opened[0].events,
        samples=opened[0].config.samples,
        search_k=opened[0].config.search_k,
    )


def report_folder(settings: Settings, output: Path | None, what: str, comparison: Comparison, split: str) -> Path:
    """The folder `output`, made, or one in var/evaluations that is named after the report and its first model."""
    first = comparison.subjects[0].name.strip("/").replace("/", "-").replace("@", "-")
    folder = output or settings.var / "evaluations" / f"{what}-{first}-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
