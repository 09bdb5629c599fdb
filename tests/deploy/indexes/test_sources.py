"""What an index is built of says enough of itself that a build goes on with the same vectors and no others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recollect.artifacts import ArtifactStore
from recollect.indexes.merging import maker_of
from recollect.indexes.sources import model_items
from recollect.settings import Settings
from recsys.data.catalogue import Catalogue
from recsys.models.dare import Dare, DareConfig
from recsys.models.directory import save_model


def save(directory: Path, *, seed: int) -> None:
    catalogue = Catalogue(
        item_ids=np.array([-1, 10, 20, 30], dtype=np.int64),
        category_rows=np.array([0, 1, 1, 2], dtype=np.int32),
        category_ids=np.array([-1, 1, 2], dtype=np.int64),
    )
    config = DareConfig(n_items=3, n_categories=2, attention_dim=2, representation_dim=3)
    model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(seed))
    save_model(directory, model, catalogue, training={}, data={}, metrics={"test": {"auc": 0.75}})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var")


def test_a_directory_that_was_trained_anew_is_another_source_of_another_maker(
    tmp_path: Path, settings: Settings
) -> None:
    directory = tmp_path / "run" / "model"
    found = []
    for seed in (1, 1, 2):
        shutil.rmtree(directory, ignore_errors=True)
        save(directory, seed=seed)
        found.append(model_items(settings, str(directory)).facts)
    first, again, other = found
    assert first == again
    assert first["model"] == other["model"] == str(directory)
    assert first != other
    assert maker_of(first) != maker_of(other)


def test_a_version_is_known_by_its_name(tmp_path: Path, settings: Settings) -> None:
    save(tmp_path / "model", seed=1)
    artifact = ArtifactStore(settings.var / "models").publish("dare", tmp_path / "model")
    assert model_items(settings, artifact.reference).facts == {"kind": "model", "model": artifact.reference}
