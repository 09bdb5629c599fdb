"""Indexes are replaced under load, in real replicas: no call fails, and no reply mixes two of them.

Run as a script it prints what calls took with and without swaps: `python tests/deploy/test_index_swaps.py`.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import INDEXES, ArtifactStore
from recollect.indexes.building import IndexBuilder
from recollect.indexes.serving import IndexNeighbours
from recollect_api import Event, RecollectClient
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import choose_spec

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
RATE = 50
"""Calls a second."""
SWAPS = 20
ITEMS, DIMENSION = 20_001, 32
"""Just too many to be compared one by one, so that lists are trained and searched."""
SEED = 7
"""The one item of the history."""
Neighbours = frozenset[int]


@dataclass
class Load:
    """Calls at a steady rate, and what came of them."""

    address: str
    user: str
    expected: dict[str, Neighbours]
    taken: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    def run(self, seconds: float | None, stop: threading.Event) -> None:
        """Call until `stop`, or for some seconds."""
        with RecollectClient(self.address, timeout_s=20) as client, ThreadPoolExecutor(16) as pool:
            began = time.perf_counter()
            number = 0
            while not stop.is_set() and (seconds is None or number < seconds * RATE):
                pause = began + number / RATE - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
                pool.submit(self._call, client)
                number += 1

    def _call(self, client: RecollectClient) -> None:
        began = time.perf_counter()
        try:
            found = client.recommend(self.user, 60)
        except Exception as error:
            self.errors.append(repr(error))
            return
        self.taken.append(time.perf_counter() - began)
        self.versions.append(found.index_version)
        nearest = {item.item_id for item in found.items if item.because_item_id == SEED}
        if nearest != self.expected[found.index_version]:
            self.mixed.append(found.index_version)


def build_versions(root: Path, count: int) -> dict[str, Neighbours]:
    """Indexes in which the item SEED has other neighbours each; version → its 50 nearest."""
    builder = IndexBuilder(root=root, thresholds=Thresholds(overlap=0, coverage=0), label=None)
    random = np.random.default_rng(1)
    expected = {}
    for number in range(count):
        vectors = random.normal(size=(ITEMS, DIMENSION)).astype(np.float32)
        source = ArrayVectors(pl.Series("id", np.arange(ITEMS)), vectors, {"number": number})
        built = builder.rebuild("items", source, BuildPlan(choose=choose_spec))
        ids, _ = IndexNeighbours(built.index).nearest(np.array([SEED]), 50)
        expected[built.artifact.version] = frozenset(ids[0].tolist())
    return expected


def swap_under_load(var: Path, address: str, expected: dict[str, Neighbours], quiet_s: float) -> tuple[Load, Load]:
    """Calls without and then with swaps."""
    store, user = ArtifactStore(var / "indexes", kind=INDEXES), f"swaps-{time.time_ns()}"
    with RecollectClient(address, timeout_s=20) as client:
        client.append(user, [Event(item_id=SEED, time=BEGIN + timedelta(seconds=1))])
        client.recommend(user, 60)
    never = threading.Event()
    without, during = Load(address, user, expected), Load(address, user, expected)
    without.run(quiet_s, never)
    stop = threading.Event()
    calling = threading.Thread(target=during.run, args=(None, stop))
    calling.start()
    versions = list(expected)
    for number in range(SWAPS):
        store.set_label("items", "stable", versions[(number + 1) % len(versions)])
        time.sleep(1.5)  # replicas look once a second
    stop.set()
    calling.join()
    return without, during


@pytest.mark.slow
def test_twenty_swaps_fail_no_call_and_mix_no_reply(
    history_redis_url: str, tmp_path: Path, ray_node: None, counting_models: Callable[..., object]
) -> None:
    from recollect import serve_app
    from recollect.settings import Settings

    expected = build_versions(tmp_path / "indexes", 4)
    ArtifactStore(tmp_path / "indexes", kind=INDEXES).set_label("items", "stable", next(iter(expected)))
    # What calls wait for is not tried here, and a machine that stands still for a moment is no reason to refuse them.
    patient = {"redis_timeout_s": 5.0, "max_wait_s": 20.0}
    settings = Settings(var=tmp_path, port=0, classification=False, index="items@stable", **patient)
    with serve_app.run(
        settings,
        "counting/1",
        redis_url=history_redis_url,
        models=counting_models(tmp_path, items=ITEMS),  # type: ignore[arg-type]
        application="swaps",
    ) as gateway:
        without, during = swap_under_load(tmp_path, gateway.address, expected, quiet_s=4)
    assert without.errors == during.errors == []
    assert without.mixed == during.mixed == []
    assert set(during.versions) == set(expected)
    changes = sum(before != after for before, after in zip(during.versions, during.versions[1:], strict=False))
    assert changes >= SWAPS - 2  # a swap may fall between two looks of a replica
    assert len(during.taken) > SWAPS * RATE


def main() -> None:
    """Print a JSON line: percentiles with and without swaps, from a gateway with a trained model's ranking."""
    import torch

    from recollect import serve_app
    from recollect.embedded.ray import ray_cluster
    from recollect.embedded.redis import EmbeddedRedis
    from recollect.settings import Settings
    from recsys.data.catalogue import Catalogue
    from recsys.models.dare import Dare, DareConfig
    from recsys.models.directory import save_model

    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        expected = build_versions(var / "indexes", 4)
        ArtifactStore(var / "indexes", kind=INDEXES).set_label("items", "stable", next(iter(expected)))
        catalogue = Catalogue(
            item_ids=np.arange(-1, ITEMS, dtype=np.int64),
            category_rows=np.r_[0, np.ones(ITEMS)].astype(np.int32),
            category_ids=np.array([-1, 1]),
        )
        config = DareConfig(n_items=ITEMS, n_categories=1)
        model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(0))
        save_model(var / "model", model.eval(), catalogue, training={}, data={}, metrics={})
        settings = Settings(var=var, port=0, classification=False, index="items@stable")
        with (
            EmbeddedRedis(var / "redis") as redis,
            ray_cluster(settings, serving=True),
            serve_app.run(settings, str(var / "model"), redis_url=redis.url) as gateway,
        ):
            without, during = swap_under_load(var, gateway.address, expected, quiet_s=20)
    figures = {
        name: {
            "calls": len(load.taken),
            "errors": len(load.errors),
            "mixed": len(load.mixed),
            **{f"p{p}_ms": round(float(np.percentile(load.taken, p)) * 1e3, 2) for p in (50, 99)},
        }
        for name, load in (("without", without), ("during", during))
    }
    ratio = round(figures["during"]["p99_ms"] / figures["without"]["p99_ms"], 2)
    sys.stdout.write(json.dumps({**figures, "ratio_p99": ratio}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
