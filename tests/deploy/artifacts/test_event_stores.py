"""Event stores at a URL: uploaded with their hashes, fetched once, checked, trained on as a directory is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recollect.artifacts.event_stores import FILES_FILE, fetched_store, is_url, upload_store
from recollect.artifacts.remote import Remote
from recollect.cli import app
from recollect.errors import RemoteError
from recsys.data.event_store import EventStore
from recsys.data.shop import ShopConfig, build_shop
from recsys.errors import StoreError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop") / "shop"
    build_shop(ShopConfig(users=60, items=200, categories=6, mean_events=60, days=60), directory)
    return directory


def test_what_is_uploaded_is_fetched_whole_and_once(store: Path, url: str, tmp_path: Path) -> None:
    size = upload_store(store, url)
    assert size == sum(path.stat().st_size for path in store.iterdir())
    copy = fetched_store(url, tmp_path / "data")
    assert copy.parent == tmp_path / "data"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in store.iterdir()
    }
    assert isinstance(EventStore(copy).items, np.memmap)
    (copy / "times.npy").touch()
    Remote(url).remove(["items.npy"])
    assert fetched_store(url, tmp_path / "data") == copy, "it is here already"


def test_a_store_that_changed_there_is_fetched_beside_the_old_one(
    store: Path, tmp_path: Path, url_of: Callable[[str], str]
) -> None:
    url = url_of("directory")
    upload_store(store, url)
    first = fetched_store(url, tmp_path / "data")
    build_shop(ShopConfig(users=61, items=200, categories=6, mean_events=60, days=60), tmp_path / "other")
    upload_store(tmp_path / "other", url)
    second = fetched_store(url, tmp_path / "data")
    assert (EventStore(first).n_users, EventStore(second).n_users) == (60, 61)


def test_a_fetch_that_was_killed_goes_on(store: Path, tmp_path: Path, url_of: Callable[[str], str]) -> None:
    url = url_of("directory")
    upload_store(store, url)
    whole = fetched_store(url, tmp_path / "elsewhere")
    partial = tmp_path / "data" / f".{whole.name}.partial"
    partial.mkdir(parents=True)
    (partial / "items.npy").write_bytes((store / "items.npy").read_bytes())
    (partial / "times.npy").write_bytes((store / "times.npy").read_bytes()[:100])
    inode = (partial / "items.npy").stat().st_ino
    copy = fetched_store(url, tmp_path / "data")
    assert (copy / "items.npy").stat().st_ino == inode, "what was whole is not fetched again"
    assert (copy / "times.npy").read_bytes() == (store / "times.npy").read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda d: (d / FILES_FILE).unlink(), "no event store at .* put one there with", id="nothing"),
        pytest.param(lambda d: (d / FILES_FILE).write_text("{"), f"{FILES_FILE} is torn", id="torn"),
        pytest.param(
            lambda d: (d / FILES_FILE).write_text('{"../x": {"sha256": "0", "bytes": 1}}'),
            "names '../x', which is not a file of an event store",
            id="outside",
        ),
        pytest.param(lambda d: (d / "times.npy").unlink(), "times.npy is missing", id="missing"),
        pytest.param(
            lambda d: (d / "times.npy").write_bytes(b"\0" * (d / "times.npy").stat().st_size),
            "times.npy is not what was uploaded",
            id="altered",
        ),
    ],
)
def test_what_is_wrong_there_is_named_and_nothing_is_left_that_could_be_taken_for_it(
    store: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    upload_store(store, f"file://{there}")
    damage(there)
    with pytest.raises(RemoteError, match=message):
        fetched_store(f"file://{there}", tmp_path / "data")
    assert [path for path in (tmp_path / "data").glob("[!.]*") if path.is_dir()] == []


def test_a_directory_without_a_store_is_not_uploaded(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no event store at"):
        upload_store(tmp_path, "memory://nowhere")
    assert Remote("memory://nowhere").list() == {}


@pytest.mark.parametrize(("source", "is_one"), [("s3://b/x", True), ("dir://x::s3://b", True), ("var/data", False)])
def test_urls_are_told_from_paths(source: str, is_one: bool) -> None:
    assert is_url(source) is is_one


@pytest.mark.slow
def test_train_takes_a_store_from_s3(store: Path, s3_url: str, ray_node: None, tmp_path: Path) -> None:
    environment = {**os.environ, "RECOLLECT_VAR": str(tmp_path / "var"), "TERM": "dumb"}

    def run(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(app, list(words), env=environment)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    assert run("data", "upload", str(store), s3_url, "--json")["url"] == s3_url
    options = ("--attention-dim", "4", "--representation-dim", "4", "--epochs", "1", "--json")
    there = run("train", s3_url, *options)
    here = run("train", str(store), *options)
    assert there["auc"] == here["auc"]
    (copy,) = (tmp_path / "var" / "data").glob("shop-*")
    assert EventStore(copy).n_users == 60


def test_a_log_at_a_url_is_refused_with_the_remedy(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["train", "--data", "taobao", "s3://bucket/log.csv"],
        env={"RECOLLECT_VAR": str(tmp_path), "COLUMNS": "300", "TERM": "dumb"},
    )
    assert done.exit_code != 0
    assert "imported from a file of this machine, got s3://bucket/log.csv" in done.stderr
