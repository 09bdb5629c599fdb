"""Catalogues are replaced under load, in real replicas: no call fails, and no reply mixes two of them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import CATALOGUES, ArtifactStore
from recollect.catalogues.publishing import CatalogueGuard, publish_catalogue
from recollect.indexes.building import IndexBuilder
from recollect_api import RecollectClient
from recsys.data.catalogue import Catalogue
from recsys.metadata.importing import ImportOptions, import_catalogue
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec

ITEMS, VERSIONS, SWAPS = 2_000, 3, 8
CHEAP = 30
"""Items that the filter lets pass in each version: other ones each time."""


def publish(root: Path, folder: Path) -> dict[str, int]:
    """Catalogues in which other items are cheap each, and cost the number of the catalogue; version → number."""
    made = {}
    for number in range(1, VERSIONS + 1):
        items = np.arange(1, ITEMS + 1)
        cheap = items % VERSIONS == number - 1
        prices = np.where(cheap & (items <= VERSIONS * CHEAP), float(number), 100.0)
        pl.DataFrame({"item": items, "price": prices, "name": [f"{number}/{item}" for item in items]}).write_parquet(
            folder / "items.parquet"
        )
        imported = import_catalogue(folder / "items.parquet", ImportOptions(currency="EUR"))
        made[publish_catalogue(root, "shop", imported, CatalogueGuard(), label=None).artifact.version] = number
    return made


def save_model(directory: Path) -> None:
    import torch

    from recsys.models.dare import Dare, DareConfig
    from recsys.models.directory import save_model
    from recsys.models.popularity import POPULARITY_FILE

    catalogue = Catalogue(
        item_ids=np.r_[-1, np.arange(1, ITEMS + 1)],
        category_rows=np.r_[0, np.ones(ITEMS)].astype(np.int32),
        category_ids=np.array([-1, 1]),
    )
    config = DareConfig(n_items=ITEMS, n_categories=1, attention_dim=4, representation_dim=4)
    model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(0))
    save_model(directory, model.eval(), catalogue, training={}, data={}, metrics={})
    descending = np.arange(ITEMS, 0, -1)
    pl.DataFrame({"item_id": descending, "events": descending}).write_parquet(directory / POPULARITY_FILE)


class Caller:
    """Asks again and again; notes what came of it."""

    def __init__(self, address: str, versions: dict[str, int]) -> None:
        self.errors: list[str] = []
        self.mixed: list[str] = []
        self.versions: list[str] = []
        self.stop = threading.Event()
        self._address, self._numbers = address, versions

    def run(self) -> None:
        with RecollectClient(self._address, timeout_s=20) as client:
            while not self.stop.is_set():
                try:
                    found = client.recommend("nobody", CHEAP, max_price=50, display=["price", "name"])
                except Exception as error:
                    self.errors.append(repr(error))
                    continue
                number = self._numbers[found.catalogue_version]
                told = [
                    (item.metadata.price.amount, item.metadata.name)
                    for item in found.items
                    if item.metadata and item.metadata.price
                ]
                right = [(float(number), f"{number}/{item.item_id}") for item in found.items]
                if told != right or len(told) != CHEAP or found.matching_items != CHEAP:
                    self.mixed.append(found.catalogue_version)
                self.versions.append(found.catalogue_version)


@pytest.mark.slow
def test_swaps_fail_no_call_and_mix_no_reply(
    history_redis_url: str, tmp_path: Path, ray_node: None, eventually: Callable[..., object]
) -> None:
    from recollect import serve_app
    from recollect.settings import Settings

    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    builder = IndexBuilder(root=tmp_path / "indexes", thresholds=Thresholds(overlap=0), label="stable")
    plan = BuildPlan(choose=lambda _count, _dimension: IndexSpec())
    builder.rebuild("items", ArrayVectors(pl.Series("id", np.arange(1, ITEMS + 1)), vectors, {}), plan)
    versions = publish(tmp_path / "catalogues", tmp_path)
    store = ArtifactStore(tmp_path / "catalogues", kind=CATALOGUES)
    names = list(versions)
    store.set_label("shop", "stable", names[0])
    save_model(tmp_path / "model")
    settings = Settings(
        var=tmp_path,
        port=0,
        replicas=2,
        classification=False,
        index="items@stable",
        catalogue="shop@stable",
        redis_timeout_s=5.0,
    )
    with serve_app.run(
        settings, str(tmp_path / "model"), redis_url=history_redis_url, application="catalogues"
    ) as gateway:
        callers = [Caller(gateway.address, versions) for _ in range(2)]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        for swap in range(1, SWAPS + 1):
            wanted = names[swap % VERSIONS]
            store.set_label("shop", "stable", wanted)
            eventually(lambda wanted=wanted: all(caller.versions[-1:] == [wanted] for caller in callers))
            time.sleep(1.2)  # replicas look once a second
        for caller in callers:
            caller.stop.set()
        for thread in threads:
            thread.join(30)
    for caller in callers:
        assert caller.errors == caller.mixed == []
        assert set(caller.versions) == set(versions)
        assert len(caller.versions) > SWAPS
