"""`recollect evaluate served` as a person runs it, after the gateway has kept what it served."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np
import pytest
from typer.testing import CliRunner

from recollect.cli import app
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.server import Gateway, GatewayConfig
from recollect.pipeline import models
from recollect.settings import Settings
from recollect_api import AsyncRecollectClient, Event
from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.data.shop import ShopConfig, build_shop
from recsys.history import HistoryConfig, HistoryStore
from recsys.history.serving_log import ServingLog, ServingLogConfig
from recsys.models.popularity import NOTHING_POPULAR
from recsys.ranking import Ranker
from recsys.training.config import TrainConfig
from recsys.training.loop import train


def served(place: Path, redis_url: str) -> None:
    """Train, publish, append and score, with every call kept."""
    settings = Settings(var=place / "var")
    build_shop(ShopConfig(users=40, items=100, categories=5, mean_events=30, days=30), place / "shop")
    store = EventStore(place / "shop")
    protocol = LeaveLastOut(min_events=10, train_first=3, train_last=9, train_stride=2)
    config = TrainConfig(samples=SampleConfig(protocol=protocol), attention_dim=4, representation_dim=4, epochs=1)
    artifact = models(settings).publish("dare", train(store, config, place / "run"))
    models(settings).set_label("dare", "stable", artifact.version)
    ranker = Ranker.load(artifact.directory)
    model = ServedModel(
        name="dare", version=artifact.version, ranker=ranker, catalogue=ranker.catalogue, popularity=NOTHING_POPULAR
    )
    log = ServingLog(ServingLogConfig(directory=settings.serving_log, rate=1.0), random=Random(0))

    async def scenario() -> None:
        histories = HistoryStore(redis_url, config=HistoryConfig(timeout_s=10.0))
        gateway = Gateway(GatewayConfig(), slot=ModelSlot(model), histories=histories, serving_log=log)
        await gateway.start()
        items = ranker.catalogue.item_ids[1:]
        async with AsyncRecollectClient(f"127.0.0.1:{gateway.port}", timeout_s=30) as client:
            behaviours = np.random.default_rng(0).choice(items, 20)
            await client.append("ann", [Event(item_id=int(item), time=datetime.now(UTC)) for item in behaviours])
            await client.score("ann", [int(item) for item in items[:7]])
        await gateway.stop(1.0)
        await histories.close()

    asyncio.run(scenario())
    log.close()


def test_nothing_differs_where_nothing_changed(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served(tmp_path, redis_url)
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("COLUMNS", "120")
    export = str(tmp_path / "export")

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    run("history", "export", export, "--redis", redis_url)
    found = json.loads(run("evaluate", "served", export, "--json"))
    assert found["model"] == "dare"
    counts = {"calls": 1, "other_models": 0, "changed": 0, "candidates": 7, "other_behaviours": 0}
    assert {name: found[name] for name in counts} == counts
    assert found["largest_difference"] == 0
    assert "candidates with other behaviours" in run("evaluate", "served", export)
    missing = CliRunner().invoke(app, ["evaluate", "served", str(tmp_path)])
    assert missing.exit_code == 1
    assert "make it with `recollect history export`" in missing.output.replace("\n", " ")
