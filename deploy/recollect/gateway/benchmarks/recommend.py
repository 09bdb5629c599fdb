"""Measure Recommend over gRPC, and what each of its stages takes: a real Redis, a real model in serving form, an index.

The model has random weights. Its items are indexed as `recollect index build` does it. Users have histories of
`--history` behaviours, drawn by popularity as 1 / rank. One gateway answers one caller at a time, in this process; the
stages are then timed one by one, in turns, for the same users. It has a catalogue of which nine in ten are in stock and
one in a hundred costs 1 or less, which the first call makes no use of.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recollect.catalogues.publishing import CatalogueGuard, publish_catalogue
from recollect.catalogues.serving import FollowedCatalogue
from recollect.embedded.redis import EmbeddedRedis
from recollect.gateway.benchmarks.running import (
    Row,
    Run,
    append_history,
    print_rows,
    random_model,
    row,
    running_gateway,
)
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.server import Gateway, GatewayConfig
from recollect.gateway.workers import use_one_torch_thread
from recollect.indexes.building import IndexBuilder
from recollect.indexes.serving import FollowedIndex
from recollect_api import RecollectClient
from recsys.history import HistoryStore
from recsys.metadata.importing import ImportOptions, import_catalogue
from recsys.models.item_vectors import item_vectors
from recsys.recommending.candidates import CandidateConfig, find_candidates, latest_distinct, most_attended
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import choose_spec


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What is measured."""

    items: int = 100_000
    history: int = 10_000
    candidates: int = 500
    users: int = 20
    calls: int = 400
    count: int = 20
    """Items that are asked for."""


def measure(sizes: Sizes) -> list[Row]:
    """The whole call, then its stages."""
    use_one_torch_thread()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis(place / "redis"))
        model = random_model(place / "model", sizes.items)
        index = _index(place, place / "model")
        stack.callback(index.close)
        catalogue = _catalogue(place, sizes)
        stack.callback(catalogue.close)
        config = CandidateConfig(candidates=sizes.candidates)
        gateway, store, run = stack.enter_context(
            running_gateway(
                redis.url,
                lambda store: Gateway(
                    GatewayConfig(recommend_candidates=sizes.candidates),
                    slot=ModelSlot(model),
                    histories=store,
                    index=index,
                    catalogue=catalogue,
                ),
            )
        )
        random = np.random.default_rng(4)
        for user in range(sizes.users):
            run(append_history(store, f"user-{user}", sizes.history, model.popularity.item_ids, random))
        displayed: dict[str, Any] = {"in_stock": True, "display": ["name", "price"]}
        return [
            _called("call over gRPC", gateway.port, sizes),
            _called("only in stock, names and prices displayed", gateway.port, sizes, **displayed),
            _called("and of a price that one in a hundred has", gateway.port, sizes, max_price=1.0, **displayed),
            *_stages(sizes, config, model, index, store, run),
        ]


def _called(name: str, port: int, sizes: Sizes, **asked: Any) -> Row:
    with RecollectClient(f"127.0.0.1:{port}", timeout_s=30, connections=1) as client:
        for user in range(sizes.users):
            found = client.recommend(f"user-{user}", sizes.count, **asked)
            assert found.candidates == sizes.candidates or asked, found.candidates
            assert found.history_length == sizes.history
        taken = []
        for call in range(sizes.calls):
            began = time.perf_counter()
            client.recommend(f"user-{call % sizes.users}", sizes.count, **asked)
            taken.append(time.perf_counter() - began)
    return row(name, taken)


def _stages(
    sizes: Sizes, config: CandidateConfig, model: ServedModel, index: FollowedIndex, store: HistoryStore, run: Run
) -> list[Row]:
    neighbours, rank = index.current.neighbours, model.ranker.rank
    names = (
        "history from Redis",
        "neighbours of the latest items",
        "ranking to learn what the model looks at",
        "neighbours of those items",
        "all candidates, the three before among them",
        "ranking the candidates",
    )
    taken: dict[str, list[float]] = {name: [] for name in names}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        taken[name].append(time.perf_counter() - began)
        return result

    async def read(user: str) -> Any:
        return await store.read(user, limit=sizes.history)

    for call in range(sizes.calls // 4):
        user = f"user-{call % sizes.users}"
        history = timed(names[0], lambda user=user: run(read(user))).item_ids  # type: ignore[misc]
        recent = latest_distinct(history, config.recent)
        ids, _ = timed(names[1], lambda recent=recent: neighbours.nearest(recent, config.neighbours))  # type: ignore[misc]
        asked = np.unique(ids[ids >= 0])[: config.asked]
        ranking = timed(names[2], lambda h=history, a=asked: rank(h, a, explain=True))  # type: ignore[misc]
        attended = most_attended(history, ranking, config.attended, but=recent)
        timed(names[3], lambda a=attended: neighbours.nearest(a, config.neighbours))  # type: ignore[misc]
        found = timed(
            names[4],
            lambda h=history: find_candidates(h, neighbours, rank, model.popularity.item_ids, config, excluded=h),  # type: ignore[misc]
        )
        timed(names[5], lambda h=history, f=found: rank(h, f.item_ids))  # type: ignore[misc]
    return [row(name, taken[name]) for name in names]


def _index(place: Path, model: Path) -> FollowedIndex:
    ids, vectors = item_vectors(model)
    source = ArrayVectors(pl.Series("id", ids), vectors)
    builder = IndexBuilder(root=place / "indexes", thresholds=Thresholds(), label="stable")
    builder.rebuild("items", source, BuildPlan(choose=choose_spec))
    return FollowedIndex(place / "indexes", "items@stable")


def _catalogue(place: Path, sizes: Sizes) -> FollowedCatalogue:
    random = np.random.default_rng(5)
    columns = {
        "item": np.arange(sizes.items),
        "name": [f"item no. {item}" for item in range(sizes.items)],
        "price": np.where(random.random(sizes.items) < 0.01, 1.0, 20.0),
        "availability": np.where(random.random(sizes.items) < 0.9, "in_stock", "out_of_stock"),
    }
    pl.DataFrame(columns).write_parquet(place / "items.parquet")
    imported = import_catalogue(place / "items.parquet", ImportOptions(currency="EUR", only_in_stock=False))
    publish_catalogue(place / "catalogues", "shop", imported, CatalogueGuard(), label="stable")
    return FollowedCatalogue(place / "catalogues", "shop@stable")


def main(arguments: list[str] | None = None) -> None:
    """Print a JSON line a row."""
    print_rows(measure, Sizes, __doc__, arguments)


if __name__ == "__main__":
    main()
