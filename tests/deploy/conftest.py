"""Gateways over a ranker and an encoder whose answers are known in advance, a real Redis, and one real Ray for all."""

import asyncio
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from recollect.classification.config import ClassificationConfig
from recollect.classification.service import ClassificationService
from recollect.errors import ArtifactError
from recollect.gateway.models import ModelSlot, ServedModel
from recollect.gateway.server import Gateway, GatewayConfig
from recollect_api import AsyncRecollectClient, RecollectClient
from recsys.data.catalogue import Catalogue
from recsys.history import HistoryConfig, HistoryStore
from recsys.ranking import Ranking
from retrieval.encoders.preprocessing import Preprocessing

T = TypeVar("T")

FAILING_ITEM = 100_001
"""Ranking it raises an error whose text must never reach a caller."""
WAITING_ITEM = 100_002
"""Ranking it waits until the file `release` appears."""
PID_ITEM = 100_003
"""Its score is the id of the process that ranked it."""
FIRST_UNKNOWN_ITEM = 200_000
SECRET = "the text that nobody may see"
DEADLINE_S = 30.0
"""How long a test waits for something that should happen."""


@dataclass
class CountingRanker:
    """Scores `scale · (1 + occurrences of the candidate in the history) / (1 + length of the history)`."""

    scale: float
    directory: Path
    ranked: list[int] = field(default_factory=list)
    together: list[int] = field(default_factory=list)

    def rank(self, history_item_ids, candidate_item_ids, *, explain=False):
        history, candidates = np.asarray(history_item_ids), np.asarray(candidate_item_ids)
        self.ranked += candidates.tolist()
        if FAILING_ITEM in candidates:
            raise RuntimeError(SECRET)
        if WAITING_ITEM in candidates:
            (self.directory / f"waiting.{os.getpid()}").touch()
            deadline = time.monotonic() + DEADLINE_S
            while not (self.directory / "release").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
        found = candidates[:, None] == history[None, :]  # [T, L]
        scores = self.scale * (1 + found.sum(1)) / (1 + len(history))
        scores[candidates == PID_ITEM] = os.getpid()
        # Weights rise with the position and the order is that of the history: sorting is left to the gateway.
        positions = np.where(found, np.arange(len(history)), -1)
        return Ranking(
            scores=scores.astype(np.float32),
            known=candidates < FIRST_UNKNOWN_ITEM,
            found_positions=positions if explain else None,
            found_weights=np.where(found, positions + 1, 0).astype(np.float32) if explain else None,
        )

    def rank_together(self, calls):
        self.together.append(len(calls))
        return [self.rank(call.history_item_ids, call.candidate_item_ids, explain=call.explain) for call in calls]


@dataclass(frozen=True)
class CountingModels:
    """`counting/<n>` is a CountingRanker of scale n; `counting/broken` exists and cannot be loaded.

    `counting@<label>` is what the file `<label>` of the directory says.
    """

    directory: Path
    items: int = 0
    """Those that its vocabulary has, 0, 1, …; only these are recommended."""

    def pin(self, reference):
        if not reference.startswith("counting/"):
            raise ArtifactError(f"no model {reference}")
        return reference

    def current(self, reference):
        if "@" not in reference:
            return reference
        return "counting/" + (self.directory / reference.removeprefix("counting@")).read_text()

    def load(self, reference):
        version = reference.removeprefix("counting/")
        if version == "broken":
            raise ArtifactError("this version is torn")
        ids = np.arange(-1, self.items)
        catalogue = Catalogue(item_ids=ids, category_rows=np.zeros(len(ids), np.int32), category_ids=np.array([-1]))
        ranker = CountingRanker(scale=float(version), directory=self.directory)
        return ServedModel(name="counting", version=version, ranker=ranker, catalogue=catalogue)


COLOURS = ("red", "green", "blue")


class ColourEncoder:
    """An image is its mean colour, a text the colours that it names; their cosines can be worked out by hand.

    Texts with the word "slow" wait for `texts_may_go`, images for `images_may_go`.
    """

    name, fingerprint, dimension, logit_scale = "colours", "c0104" * 8, 3, 10.0
    preprocessing = Preprocessing(height=4, width=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self):
        self.embedded_texts, self.batches = [], []
        self.texts_may_go, self.texts_wait = threading.Event(), threading.Event()
        self.images_may_go, self.images_wait = threading.Event(), threading.Event()
        self.images_may_go.set()
        self.failing = False

    def embed_pixels(self, pixels):
        self.batches.append(len(pixels))
        self.images_wait.set()
        assert self.images_may_go.wait(DEADLINE_S)
        if self.failing:
            raise RuntimeError(SECRET)
        return self._unit(pixels.mean((2, 3)))

    def embed_texts(self, texts):
        if any("slow" in text for text in texts):
            self.texts_wait.set()
            assert self.texts_may_go.wait(DEADLINE_S)
        self.embedded_texts += texts
        named = np.array([[colour in text for colour in COLOURS] for text in texts], dtype=np.float32)
        return self._unit(named.reshape(len(texts), len(COLOURS)))

    def _unit(self, vectors):
        # What has no colour is grey.
        vectors = np.where(vectors.any(1, keepdims=True), vectors, 1.0)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class LocalGateway:
    """A gateway of this process, its event loop in a thread."""

    def __init__(
        self, redis_url: str, directory: Path, config: GatewayConfig, *, recommender: bool, **options: Any
    ) -> None:
        self.directory = directory
        self.ranker = CountingRanker(scale=1.0, directory=directory)
        self.slot = ModelSlot(ServedModel(name="counting", version="1", ranker=self.ranker))
        self.recommender = recommender
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stopped = False
        self.port = self.run(self._start(redis_url, config, options))
        self.address = f"127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def begin(self, work: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self, redis_url, config, options):
        history_config = HistoryConfig(timeout_s=options.pop("history_timeout_s", 2.0))
        self.store = HistoryStore(redis_url, config=history_config, source=options.pop("source", None))
        self.classification, self.composed = options.get("classification"), options.get("composed")
        if self.classification is not None:
            self.classification.start()
        if self.composed is not None:
            await self.composed.start()
        slot = self.slot if self.recommender else None
        self.gateway = Gateway(config, slot=slot, histories=self.store, **options)
        return await self.gateway.start()

    def release(self) -> None:
        (self.directory / "release").touch()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.release()
            if self.classification is not None and isinstance(self.classification._encoder, ColourEncoder):
                self.classification._encoder.images_may_go.set()
            self.run(self.gateway.stop(DEADLINE_S))
            self.run(self.store.close())
            for backend in (self.classification, self.composed):
                if backend is not None:
                    self.run(backend.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(DEADLINE_S)
            self._loop.close()


def _eventually(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"did not happen within {DEADLINE_S} s"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def eventually():
    """Wait for a condition; fails when it does not come true in time."""
    return _eventually


@pytest.fixture(scope="session")
def history_redis_url(redis_server: Any) -> str:
    return str(redis_server.url)


@pytest.fixture
def full_gateway(start_gateway: Callable[..., LocalGateway], monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    """A gateway that works on as many calls as it lets in."""
    monkeypatch.setattr("recollect.gateway.workers.MOST_AT_ONCE_S", 0.0)  # its loop is to go on meanwhile
    gateway = start_gateway(ranking_threads=1, most_wait_s=1e-6)

    async def call(items: Sequence[int]) -> None:
        async with AsyncRecollectClient(gateway.address, timeout_s=DEADLINE_S) as client:
            await asyncio.gather(*(client.score("nobody", [item]) for item in items), return_exceptions=True)

    asyncio.run(call(range(5)))  # it learns how long a call takes
    inside = threading.Thread(target=lambda: asyncio.run(call([WAITING_ITEM, WAITING_ITEM])))
    inside.start()
    _eventually(lambda: gateway.gateway._admission.inside == 2)
    yield gateway
    gateway.release()
    inside.join(DEADLINE_S)


@pytest.fixture
def start_gateway(history_redis_url: str, tmp_path: Path) -> Iterator[Callable[..., LocalGateway]]:
    """Start a gateway: `start_gateway(redis_url=…, classification=…, max_candidates=…)`."""
    with ExitStack() as stack:

        def start(
            *,
            redis_url: str | None = None,
            recommender=True,
            classification=None,
            composed=None,
            index=None,
            catalogue=None,
            canary=None,
            source=None,
            serving_log=None,
            history_timeout_s=2.0,
            **config: Any,
        ) -> LocalGateway:
            started = LocalGateway(
                redis_url or history_redis_url,
                tmp_path,
                GatewayConfig(**config),
                recommender=recommender,
                classification=classification,
                composed=composed,
                index=index,
                catalogue=catalogue,
                canary=canary,
                source=source,
                serving_log=serving_log,
                history_timeout_s=history_timeout_s,
            )
            stack.callback(started.stop)
            return started

        yield start


@pytest.fixture
def gateway(start_gateway: Callable[..., LocalGateway]) -> LocalGateway:
    return start_gateway()


@pytest.fixture
def client(gateway: LocalGateway) -> Iterator[RecollectClient]:
    with RecollectClient(gateway.address, timeout_s=DEADLINE_S) as client:
        yield client


@pytest.fixture
def encoder() -> Iterator[ColourEncoder]:
    encoder = ColourEncoder()
    yield encoder
    encoder.texts_may_go.set()
    encoder.images_may_go.set()


@pytest.fixture
def classification_config(tmp_path: Path) -> Callable[..., ClassificationConfig]:
    """A configuration whose files are in `tmp_path`: `classification_config(text_batch=…)`."""

    def make(**fields: Any) -> ClassificationConfig:
        directories = {"sets": tmp_path / "descriptor-sets", "text_cache": tmp_path / "texts"}
        return ClassificationConfig(**{"encoder": "colours", "look_s": 0.05, **directories, **fields})

    return make


@pytest.fixture
def start_classifying(
    start_gateway: Callable[..., LocalGateway],
    classification_config: Callable[..., ClassificationConfig],
    encoder: ColourEncoder,
) -> Callable[..., LocalGateway]:
    """Start a gateway that classifies by colours: `start_classifying(max_images=…, config={"text_batch": …})`."""

    def start(
        *, config: dict[str, Any] | None = None, encoder: ColourEncoder = encoder, **gateway: Any
    ) -> LocalGateway:
        from retrieval.encoders.text_cache import CachedTexts

        settings = classification_config(**(config or {}))
        service = ClassificationService(settings, encoder, CachedTexts(encoder, settings.text_cache))
        return start_gateway(classification=service, **gateway)

    return start


@pytest.fixture
def classifying(start_classifying: Callable[..., LocalGateway]) -> LocalGateway:
    return start_classifying()


@pytest.fixture
def classifier(classifying: LocalGateway) -> Iterator[RecollectClient]:
    with RecollectClient(classifying.address, timeout_s=DEADLINE_S, classify_timeout_s=DEADLINE_S) as client:
        yield client


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A PNG of one colour: `picture((255, 0, 0))`."""

    def draw(colour: tuple[int, int, int], *, size: tuple[int, int] = (16, 16), format: str = "PNG") -> bytes:
        data = io.BytesIO()
        Image.new("RGB", size, colour).save(data, format)
        return data.getvalue()

    return draw


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user of the test's own: all tests share one Redis."""
    return request.node.nodeid[-200:]


@pytest.fixture(scope="session")
def ray_node() -> Iterator[None]:
    """One private Ray node for all tests that need one."""
    from recollect.embedded.ray import ray_cluster
    from recollect.settings import Settings

    with ray_cluster(Settings(), serving=True):
        with warnings.catch_warnings():
            # Ray Serve's own models use what pydantic has deprecated; importing it says so once.
            warnings.simplefilter("ignore", DeprecationWarning)
            from ray import cloudpickle, serve  # noqa: F401

        # Workers cannot import this file: it travels with what refers to it.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield


@pytest.fixture(scope="session")
def counting_models() -> Callable[..., CountingModels]:
    return CountingModels


@pytest.fixture(scope="session")
def publish_tiny_dare(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int], str]:
    """Publish a tiny model `dare` of a seed, of items 10, 20 and 30, in the store at a path; returns its version."""
    import torch

    from recollect.artifacts import ArtifactStore
    from recsys.data.catalogue import Catalogue
    from recsys.models.dare import Dare, DareConfig
    from recsys.models.directory import save_model

    def publish(root: Path, seed: int) -> str:
        catalogue = Catalogue(
            item_ids=np.array([-1, 10, 20, 30], dtype=np.int64),
            category_rows=np.array([0, 1, 1, 2], dtype=np.int32),
            category_ids=np.array([-1, 1, 2], dtype=np.int64),
        )
        config = DareConfig(n_items=3, n_categories=2, attention_dim=2, representation_dim=3)
        generator = torch.Generator().manual_seed(seed)
        model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=generator)
        directory = tmp_path_factory.mktemp(f"model-{seed}")
        save_model(directory, model, catalogue, training={}, data={}, metrics={"test": {"auc": 0.5 + seed / 100}})
        parents = {"store": "/elsewhere/shop", "run": f"run-{seed}"}
        return ArtifactStore(root).publish("dare", directory, parents=parents).version

    return publish
