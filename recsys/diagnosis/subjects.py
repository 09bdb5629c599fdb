"""The models that a diagnosis compares, and which of them are the same but for their seed."""

import copy
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from recsys.errors import ConfigError
from recsys.models.embeddings import ItemEmbeddings
from recsys.models.model import Model, Scorer
from recsys.training.config import TrainConfig


class Trained(NamedTuple):
    """A model as it was asked for and as it was trained."""

    name: str
    """What it was asked for by."""
    model: Model
    """In evaluation mode."""
    config: TrainConfig
    data: Mapping[str, Any]
    """What its directory says of the data that it was trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model of a comparison."""

    name: str
    """What it was asked for by; no two of a comparison share one."""
    variant: str
    """What models that differ in their seed alone have in common."""
    model: Model
    """In evaluation mode."""
    config: TrainConfig
    """How it was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variants:
    """Which models are the same but for their seed."""

    names: Mapping[str, tuple[str, ...]]
    """Variant → the names of its models, in the order given."""

    @classmethod
    def of(cls, subjects: Sequence[Subject]) -> "Variants":
        """Those of `subjects`, in their order."""
        names: dict[str, tuple[str, ...]] = {}
        for subject in subjects:
            names[subject.variant] = (*names.get(subject.variant, ()), subject.name)
        return cls(names=names)


def subjects_of(models: Sequence[Trained]) -> list[Subject]:
    """The models with their variants, in their order.

    Models are of one variant where only their seeds differ; two with one seed as well are two variants, such as a
    version and the one that is to follow it. ConfigError for no model, for one that is named twice, and for models that
    cannot be held against each other: trained on other samples than the first, or keeping another number of behaviours.
    """
    names = [trained.name for trained in models]
    if not models or len(set(names)) < len(names):
        raise ConfigError(f"name at least one model, and each once; got {', '.join(names) or 'none'}")
    first = models[0]
    for other in models[1:]:
        if (other.config.samples, other.config.search_k) != (first.config.samples, first.config.search_k):
            raise ConfigError(
                f"{other.name} was trained on other samples than {first.name}, or keeps another number of behaviours "
                f"({other.config.search_k} and {first.config.search_k}); compare models of one recipe"
            )
    groups: dict[tuple[str, int], list[int]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    for number, trained in enumerate(models):
        recipe, seed = dataclasses.replace(trained.config, seed=0).to_json(), trained.config.seed
        data = {key: value for key, value in trained.data.items() if key != "store"}
        identity = json.dumps([recipe, data], sort_keys=True, default=str)
        groups.setdefault((identity, seen[identity, seed]), []).append(number)
        seen[identity, seed] += 1
    titles = Counter(_title(models[members[0]].config) for members in groups.values())
    variants: dict[int, str] = {}
    for members in groups.values():
        title = _title(models[members[0]].config)
        unique = title if titles[title] == 1 else f"{title} ({names[members[0]]})"
        variants |= dict.fromkeys(members, unique)
    return [
        Subject(name=trained.name, variant=variants[number], model=trained.model, config=trained.config)
        for number, trained in enumerate(models)
    ]


def _title(config: TrainConfig) -> str:
    """Its kind, and the size of its attention where that is another than its representation's."""
    same = config.attention_dim == config.representation_dim
    return config.model if same else f"{config.model}, attention {config.attention_dim}"


def searching(subjects: Sequence[Subject]) -> tuple[list[Subject], list[str]]:
    """Those that search, and a line for each of the others. ConfigError where none is left."""
    found = [subject for subject in subjects if subject.model.searches]
    told = [
        f"{subject.name}: {subject.model.kind} pools the whole history and searches for nothing, so that there is no "
        "search to measure"
        for subject in subjects
        if not subject.model.searches
    ]
    if not found:
        raise ConfigError("; ".join([*told, "name at least one model that searches"]))
    return found, told


def by_category_alone(model: Model) -> Scorer:
    """`model` with the embeddings of items set to zero: what it finds by category and position, as the paper's own
    comparison with categories has it."""
    bare = copy.deepcopy(model)
    with torch.no_grad():
        for module in bare.modules():
            if isinstance(module, ItemEmbeddings):
                module.item.weight.zero_()
    return bare.serving()
