"""Which models there are, by the name that model directories and the command line use."""

import dataclasses
from collections.abc import Mapping

import torch

from recsys.data.catalogue import Catalogue
from recsys.errors import ConfigError
from recsys.models.dare import Dare
from recsys.models.din import Din
from recsys.models.eta import Eta
from recsys.models.model import Model
from recsys.models.sdim import Sdim
from recsys.models.sim_hard import SimHard
from recsys.models.sizes import ModelSizes
from recsys.models.twin import Twin
from recsys.models.twin_4e import Twin4E
from recsys.models.twin_projected import ProjectedTwin

MODELS: Mapping[str, type[Model]] = {
    model.kind: model for model in (Dare, Twin, Twin4E, ProjectedTwin, SimHard, Eta, Sdim, Din)
}
"""DARE first, then the baselines of arXiv 2410.02604."""


def model_kind(name: str) -> type[Model]:
    """The kind called `name`. Raises ConfigError with those that exist."""
    if name not in MODELS:
        raise ConfigError(f"no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def has_attention_size(kind: type[Model]) -> bool:
    """Whether attention may have another size than representation."""
    return any(field.name == "attention_dim" for field in dataclasses.fields(kind.sizes))


def build_model(kind: type[Model], sizes: ModelSizes, catalogue: Catalogue, *, seed: int) -> Model:
    """A freshly initialised model; the same for the same seed.

    The caller's generator is left as it is, though the layers draw from it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(
            sizes, torch.from_numpy(catalogue.category_rows.copy()), generator=torch.Generator().manual_seed(seed)
        )
