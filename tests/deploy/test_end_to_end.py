"""The point of truth: what is served over gRPC equals what the model says offline."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from recollect.artifacts import Artifact, ArtifactStore
from recollect.pipeline import run_directory, train_and_publish
from recollect.serve_app import RunningGateway, run
from recollect.settings import Settings
from recollect_api import DegradedReason, Event, EventType, RecollectClient
from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.data.shop import ShopConfig, build_shop
from recsys.history import HistoryStore
from recsys.models.batch import Batch
from recsys.models.dare import Dare
from recsys.models.directory import load_model
from recsys.training.config import TrainConfig

CONFIG = TrainConfig(
    samples=SampleConfig(
        protocol=LeaveLastOut(min_events=30, train_first=3, train_last=23, train_stride=5), max_history=40
    ),
    attention_dim=4,
    representation_dim=8,
    batch_size=120,
    epochs=12,
    validate_every=20,
)


@dataclass(frozen=True)
class World:
    """A trained model that is served, with everything it came from."""

    store: EventStore
    artifact: Artifact
    settings: Settings
    gateway: RunningGateway


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    directory = tmp_path_factory.mktemp("shop") / "store"
    build_shop(ShopConfig(users=80, items=300, categories=12, mean_events=90, days=120), directory)
    return EventStore(directory)


@pytest.fixture(scope="module")
def world(
    shop: EventStore, ray_node: None, history_redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    settings = Settings(
        var=tmp_path_factory.mktemp("var"), port=0, replicas=1, redis_timeout_s=5.0, classification=False
    )
    directory = run_directory(settings, shop.directory, CONFIG)
    artifact = train_and_publish(settings, shop.directory, CONFIG, directory, label="stable")

    async def load() -> None:
        async with HistoryStore(history_redis_url) as histories:
            await histories.load(shop)

    asyncio.run(load())
    with run(settings, "dare@stable", redis_url=history_redis_url, application="truth") as gateway:
        yield World(shop, artifact, settings, gateway)


@pytest.fixture
def client(world: World) -> Iterator[RecollectClient]:
    with RecollectClient(world.gateway.address, timeout_s=30.0) as client:
        yield client


def offline(world: World, item_rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The training form in evaluation mode, straight from the model directory."""
    model: Dare = load_model(world.artifact.directory).model
    batch = Batch(
        torch.from_numpy(item_rows.astype(np.int32)),
        torch.tensor([0, len(item_rows)]),
        torch.from_numpy(candidates.astype(np.int32)).unsqueeze(0),
        torch.zeros(1, len(candidates), dtype=torch.uint8),
        len(item_rows),
    )
    with torch.no_grad():
        return model(batch)[0].softmax(-1)[0, :, 1].numpy()


def moment(store: EventStore, user: int, position: int) -> tuple[datetime, slice]:
    """The time of a user's event at `position`, and the history strictly before it."""
    time_ms = int(store.times[store.offsets[user] + position])
    return datetime.fromtimestamp(time_ms / 1000, UTC), store.history(user, before_ms=time_ms)


def test_served_scores_equal_the_offline_model(world: World, client: RecollectClient) -> None:
    generator = np.random.default_rng(0)
    store, ids = world.store, world.store.catalogue.item_ids
    checked = []
    for user in generator.choice(store.n_users, 25, replace=False).tolist():
        length = int(np.diff(store.offsets)[user])
        as_of, history = moment(store, user, int(generator.integers(1, length)))
        candidates = generator.integers(1, store.catalogue.n_items + 1, 30)
        scores = client.score(str(store.user_ids[user]), ids[candidates].tolist(), as_of=as_of)
        served = np.array([item.score for item in scores.items])
        np.testing.assert_allclose(served, offline(world, store.items[history], candidates), atol=1e-5, rtol=0)
        assert scores.history_length == history.stop - history.start
        assert (scores.model_name, scores.model_version) == ("dare", world.artifact.version)
        checked.append(served)
    assert np.concatenate(checked).std() > 0.01, "scores that are all alike would prove nothing"


def test_explanation_is_what_the_search_found(world: World, client: RecollectClient) -> None:
    store = world.store
    user = int(np.argmax(np.diff(store.offsets)))
    as_of, history = moment(store, user, int(np.diff(store.offsets)[user]) - 1)
    target = int(store.items[history.stop])
    scores = client.score(str(store.user_ids[user]), [int(store.catalogue.item_ids[target])], as_of=as_of, explain=True)
    found = scores.items[0].found
    serving = load_model(world.artifact.directory).model.serving()
    rows = torch.from_numpy(np.array(store.items[history]))
    _, expected = serving.score(rows, torch.tensor([0, len(rows)]), torch.tensor([[target]]))
    positions = expected.positions[0, 0].numpy() + history.start
    served = {
        round(behaviour.time.timestamp() * 1000): (behaviour.item_id, pytest.approx(behaviour.weight, abs=1e-5))
        for behaviour in found
    }
    ids, weights = store.catalogue.item_ids[store.items[positions]].tolist(), expected.weights[0, 0].tolist()
    assert served == dict(zip(store.times[positions].tolist(), zip(ids, weights, strict=True), strict=True))
    assert [each.weight for each in found] == sorted((each.weight for each in found), reverse=True)
    assert sum(each.weight for each in found) == pytest.approx(1.0, abs=1e-5)


def test_an_appended_behaviour_counts_at_once(world: World, client: RecollectClient) -> None:
    catalogue = world.store.catalogue
    rows, candidates = np.array([5, 9, 5]), np.array([5, 9, 77])
    start = datetime(2025, 1, 1, tzinfo=UTC)
    events = [
        Event(item_id=int(catalogue.item_ids[row]), time=start + timedelta(minutes=at), type=EventType.CLICK)
        for at, row in enumerate(rows)
    ]
    before = client.score("newcomer", catalogue.item_ids[candidates].tolist())
    assert before.degraded == (DegradedReason.HISTORY_EMPTY,)
    appended = client.append("newcomer", events)
    after = client.score("newcomer", catalogue.item_ids[candidates].tolist())
    assert after.history_version == appended.history_version > before.history_version
    assert after.degraded == ()
    served = [item.score for item in after.items]
    np.testing.assert_allclose(served, offline(world, rows, candidates), atol=1e-5, rtol=0)
    np.testing.assert_allclose(
        [item.score for item in before.items], offline(world, np.array([]), candidates), atol=1e-5, rtol=0
    )


def test_unknown_items_are_scored_and_flagged(world: World, client: RecollectClient) -> None:
    known = int(world.store.catalogue.item_ids[3])
    scores = client.score(str(world.store.user_ids[0]), [known, 987_654_321])
    assert [item.known for item in scores.items] == [True, False]
    assert scores.degraded == (DegradedReason.ITEM_UNKNOWN,)


def test_a_published_model_is_found_again(world: World) -> None:
    again = train_and_publish(
        world.settings,
        world.store.directory,
        CONFIG,
        run_directory(world.settings, world.store.directory, CONFIG),
    )
    assert again == world.artifact, "neither trained nor published twice"
    assert ArtifactStore(world.settings.var / "models").labels("dare") == {"stable": world.artifact.version}
