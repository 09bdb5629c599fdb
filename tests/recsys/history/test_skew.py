"""What was served comes out again of the exported histories; where it does not, the skew says so."""

import asyncio
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest
import torch

from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.errors import DataError
from recsys.history import EventBatch, HistoryConfig, HistoryStore
from recsys.history.serving_log import ServedCall, ServingLog, ServingLogConfig, export_served
from recsys.history.skew import Skew, measure_skew
from recsys.models.directory import save_model
from recsys.ranking import Ranker
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model

NOW = 1_700_000_000_000
CANDIDATES = np.array([100, 2_500, 77])
"""Two of the model's items, and one that it does not know."""


def make_ranker(store: EventStore, directory: Path, *, seed: int) -> Ranker:
    config = TrainConfig(samples=SampleConfig(protocol=LeaveLastOut(), max_history=10), search_k=4)
    model = new_model(store, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.3)
    save_model(directory, model.eval(), store.catalogue, training={}, data={}, metrics={})
    return Ranker.load(directory)


@pytest.fixture
def ranker(shop_store: EventStore, tmp_path: Path) -> Ranker:
    return make_ranker(shop_store, tmp_path / "model", seed=1)


async def serve(store: HistoryStore, log: ServingLog, ranker: Ranker, user: str, before_ms: int | None) -> None:
    """As the gateway does it: read, rank, keep."""
    history = await store.read(user, limit=50_000, before_ms=before_ms)
    ranking = ranker.rank(history.item_ids, CANDIDATES, explain=True)
    assert ranking.found_positions is not None
    assert ranking.found_weights is not None
    log.add(
        ServedCall(
            time_ms=NOW,
            call="score",
            request_id="r",
            user_id=user,
            as_of_ms=before_ms,
            model="dare/1",
            index=None,
            history_version=history.version,
            history_item_ids=history.item_ids,
            history_times_ms=history.times_ms,
            history_types=history.types,
            item_ids=CANDIDATES,
            scores=ranking.scores,
            found_positions=ranking.found_positions,
            found_weights=ranking.found_weights,
        )
    )


@pytest.fixture
def exported(redis_url: str, ranker: Ranker, tmp_path: Path) -> Path:
    """Two users of 30 behaviours, of whom one got a late event after he was served, and one of none; four calls."""
    random = np.random.default_rng(0)
    log = ServingLog(ServingLogConfig(directory=tmp_path / "log", rate=1.0), random=Random(0))

    async def scenario() -> None:
        config = HistoryConfig(timeout_s=10.0)
        async with HistoryStore(redis_url, config=config, clock=lambda: NOW) as store:
            for user in ("whole", "late"):
                items = 100 * random.integers(1, 51, 30)
                await store.append(user, EventBatch.of(items, NOW - 1_000 * np.arange(30, 0, -1)))
            for user, before_ms in (("whole", None), ("whole", NOW - 10_000), ("late", None), ("nobody", None)):
                await serve(store, log, ranker, user, before_ms)
            await store.append("late", EventBatch.of([100], [NOW - 15_500]))
            await store.export(tmp_path / "histories.parquet", catalogue=None)

    asyncio.run(scenario())
    log.close()
    export_served(tmp_path / "log", tmp_path / "served.parquet")
    return tmp_path


def skew_of(directory: Path, ranker: Ranker, model: str = "dare/1") -> Skew:
    return measure_skew(directory / "histories.parquet", directory / "served.parquet", ranker, model)


def test_what_was_served_is_computed_again(exported: Path, ranker: Ranker) -> None:
    heard: list[tuple[int, int]] = []
    skew = measure_skew(
        exported / "histories.parquet",
        exported / "served.parquet",
        ranker,
        "dare/1",
        progress=lambda done, total: heard.append((done, total)),
    )
    assert skew == Skew(calls=4, other_models=0, changed=1, candidates=9, largest_difference=0.0, other_behaviours=0)
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_another_model_scores_and_retrieves_otherwise(exported: Path, shop_store: EventStore, tmp_path: Path) -> None:
    skew = skew_of(exported, make_ranker(shop_store, tmp_path / "other", seed=2))
    assert skew.largest_difference > 1e-3
    assert 1 <= skew.other_behaviours <= 6
    assert skew.candidates == 9


def test_calls_of_other_models_are_left_out(exported: Path, ranker: Ranker) -> None:
    skew = skew_of(exported, ranker, "dare/2")
    assert (skew.calls, skew.other_models, skew.candidates) == (0, 4, 0)


def test_a_history_of_other_items_is_told_by_its_behaviours(exported: Path, ranker: Ranker) -> None:
    """As if the export had mixed up items: the length is the same, what is found is not."""
    path = exported / "histories.parquet"
    rows = pl.read_parquet(path)
    rows.with_columns(pl.col("item_id").reverse()).write_parquet(path)
    assert skew_of(exported, ranker).other_behaviours > 0


def test_files_that_are_missing_or_of_something_else_are_refused(exported: Path, ranker: Ranker) -> None:
    with pytest.raises(DataError, match=r"none\.parquet cannot be read.*recollect history export"):
        measure_skew(exported / "none.parquet", exported / "served.parquet", ranker, "dare/1")
    rows = pl.read_parquet(exported / "served.parquet")
    rows.with_columns(pl.col("score").cast(pl.Float64)).write_parquet(exported / "served.parquet")
    with pytest.raises(DataError, match="has columns"):
        skew_of(exported, ranker)
