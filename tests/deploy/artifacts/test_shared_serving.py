"""Replicas take what other machines publish, follow their labels, and go on without the place where it is shared."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import INDEXES, following, open_store, shared
from recollect.errors import ArtifactError
from recollect.gateway.models import ArtifactModels
from recollect.indexes.building import IndexBuilder
from recollect.indexes.serving import FollowedIndex, IndexSource
from recsys.errors import StoreError
from retrieval.index.building import BuildPlan
from retrieval.index.quality import Thresholds
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec

PLAN = BuildPlan(choose=lambda _count, _dimension: IndexSpec())
THRESHOLDS = Thresholds(overlap=0, coverage=0)
Build = Callable[[int], str]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask at every look, and try what failed again at the next."""
    monkeypatch.setattr(shared, "REFRESH_S", 0.0)
    monkeypatch.setattr(following, "RETRY_S", 0.0)


def builder_at(url: str, root: Path) -> Build:
    """Builds versions of `items` from items 0, 10, 20, … on a circle, on a machine whose `var` is `root`."""
    builder = IndexBuilder(root=root, shared=url, thresholds=THRESHOLDS, label="stable")

    def build(count: int) -> str:
        angles = 2 * np.pi * np.arange(count) / count
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        source = ArrayVectors(pl.Series("id", np.arange(count) * 10), vectors, {"count": count})
        return builder.rebuild("items", source, PLAN).artifact.version

    return build


@pytest.mark.parametrize("place", ["directory", "s3"])
def test_an_index_that_another_machine_builds_answers(url_of: Callable[[str], str], tmp_path: Path, place: str) -> None:
    url = url_of(place)
    build = builder_at(url, tmp_path / "builder")
    first = build(12)
    source = IndexSource(root=tmp_path / "replica", reference="items@stable", shared=url)
    source.check()
    followed = source.open()
    assert followed.current.version == first
    second = build(18)
    asyncio.run(followed.look())
    assert followed.current.version == second
    assert set(followed.current.neighbours.nearest(np.array([0]), 2)[0][0].tolist()) == {10, 170}
    # The builder's machine goes back; so do its replicas.
    open_store(tmp_path / "builder", shared=url, kind=INDEXES).roll_back("items", "stable")
    asyncio.run(followed.look())
    assert followed.current.version == first
    followed.close()


@pytest.mark.slow
def test_an_index_that_cannot_be_fetched_is_tried_again(
    url_of: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="recollect")
    url = url_of("directory")
    build = builder_at(url, tmp_path / "builder")
    first = build(12)
    followed = FollowedIndex(tmp_path / "replica", "items@stable", shared=url)
    second = build(18)
    file = Path(url.removeprefix("file://")) / "items" / second / "index" / "index.faiss"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    asyncio.run(followed.look())
    assert followed.current.version == first
    assert f"index items/{second} cannot be opened, {first} answers on" in caplog.messages
    file.write_bytes(whole)
    asyncio.run(followed.look())
    assert followed.current.version == second
    followed.close()


def test_a_replica_starts_and_answers_without_the_place(
    start_s3: Callable[..., Any],
    s3_environment: Callable[[int], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import s3fs

    server = start_s3()
    s3_environment(server.port)
    s3fs.S3FileSystem().mkdir("bucket")
    url = "s3://bucket/indexes"
    version = builder_at(url, tmp_path / "builder")(12)
    FollowedIndex(tmp_path / "replica", "items@stable", shared=url).close()
    server.kill()
    server.wait()
    caplog.set_level(logging.WARNING, logger="recollect")
    followed = FollowedIndex(tmp_path / "replica", "items@stable", shared=url)
    asyncio.run(followed.look())
    asyncio.run(followed.look())
    assert followed.current.version == version
    assert followed.current.neighbours.nearest(np.array([0]), 2)[0].shape == (1, 2)
    begins = ("items@stable is taken as last seen", "other machines are not told", "what is here answers on")
    assert [message.startswith(begin) for message, begin in zip(caplog.messages, begins, strict=True)] == [True] * 3
    followed.close()


def test_a_model_is_fetched_where_it_is_loaded(url_of: Callable[[str], str], tmp_path: Path) -> None:
    """The driver and a replica on another node, each with a `var` of its own."""
    import torch

    from recsys.data.catalogue import Catalogue
    from recsys.models.dare import Dare, DareConfig
    from recsys.models.directory import save_model

    catalogue = Catalogue(
        item_ids=np.arange(-1, 20, dtype=np.int64),
        category_rows=np.r_[0, np.ones(20)].astype(np.int32),
        category_ids=np.array([-1, 1]),
    )
    config = DareConfig(n_items=20, n_categories=1)
    model = Dare(config, torch.from_numpy(catalogue.category_rows), generator=torch.Generator().manual_seed(0))
    save_model(tmp_path / "model", model.eval(), catalogue, training={}, data={}, metrics={})
    url = url_of("directory")
    trainer = open_store(tmp_path / "trainer", shared=url)
    version = trainer.publish("dare", tmp_path / "model").version
    trainer.set_label("dare", "stable", version)
    driver, replica = (ArtifactModels(root=tmp_path / name, shared=url) for name in ("driver", "replica"))
    assert driver.pin("dare@stable") == f"dare/{version}"
    served = replica.load(f"dare/{version}")
    assert (served.name, served.version) == ("dare", version)
    assert served.hold is not None
    trainer.set_label("dare", "stable", trainer.publish("dare", other(tmp_path)).version)
    removed = trainer.remove_unneeded("dare", keep=0)
    assert version in removed.evicted
    assert trainer.where("dare", version) == ["shared"]
    served.hold.release()
    with pytest.raises(ArtifactError, match="no version 'none' of 'dare'"):
        replica.load("dare/none")


def test_a_model_that_cannot_be_loaded_is_not_held(tmp_path: Path) -> None:
    store = open_store(tmp_path / "models")
    artifact = store.publish("dare", other(tmp_path))
    with pytest.raises(StoreError, match="no model in"):
        ArtifactModels(root=store.root).load(artifact.reference)
    assert store.remove_unneeded("dare", keep=0).versions == (artifact.version,)


def other(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "file").write_text("x")
    return folder / "other"


@pytest.mark.slow
def test_replicas_follow_another_machine_under_load_and_outlive_the_server(
    history_redis_url: str,
    tmp_path: Path,
    ray_node: None,
    counting_models: Callable[[Path], object],
    start_ftp: Callable[[Path], Any],
    eventually: Any,
) -> None:
    """Real replicas on Ray Serve, a real server, labels moved by other processes; then the server dies."""
    from recollect import serve_app
    from recollect.settings import Settings
    from recollect_api import Event, RecollectClient

    (tmp_path / "ftp").mkdir()
    server = start_ftp(tmp_path / "ftp")
    # Workers have the environment that the node was started with, which knows no credentials: here the URL has them.
    url = f"ftp://me:secret@127.0.0.1:{server.port}"
    build = builder_at(f"{url}/indexes", tmp_path / "builder" / "indexes")
    versions = [build(count) for count in (12, 18)]
    settings = Settings(
        var=tmp_path / "node", port=0, classification=False, index="items@stable", artifacts=url, redis_timeout_s=5.0
    )
    moves = (
        "import sys; from pathlib import Path; from recollect.artifacts import INDEXES, open_store\n"
        "store = open_store(Path(sys.argv[1]), shared=sys.argv[2], kind=INDEXES)\n"
        "store.set_label('items', 'stable', sys.argv[3])"
    )
    with (
        serve_app.run(
            settings,
            "counting/1",
            redis_url=history_redis_url,
            models=counting_models(tmp_path),  # type: ignore[arg-type]
            application="shared",
        ) as gateway,
        RecollectClient(gateway.address, timeout_s=20) as client,
    ):
        client.append("shared", [Event(item_id=70, time=datetime(2024, 1, 1, tzinfo=UTC))])
        seen, errors, stop = [], [], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    seen.append(client.recommend("shared", 5).index_version)
                except Exception as error:
                    errors.append(repr(error))
                time.sleep(0.02)

        calling = threading.Thread(target=ask)
        calling.start()
        for version in (versions[0], versions[1], versions[0]):
            arguments = [sys.executable, "-c", moves, tmp_path / "other", f"{url}/indexes", version]
            subprocess.run([str(each) for each in arguments], check=True)
            eventually(lambda version=version: set(seen[-20:]) == {version})
        server.kill()
        server.wait()
        answered = len(seen)
        eventually(lambda: len(seen) > answered + 100)
        stop.set()
        calling.join()
        assert errors == []
        assert set(seen[answered:]) == {versions[0]}
