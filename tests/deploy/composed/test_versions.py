"""A new version of a gallery takes over without a restart; one that cannot be used leaves the old one in its place."""

import threading

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import GALLERIES, ArtifactStore, shared
from recollect_api import NotFound, NotPossible, RecollectClient
from retrieval.composed.encoder import load_composed

TEXT = "at night on a beach"


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "indexes", kind=GALLERIES)


@pytest.fixture
def ask(start_searching):
    """Ask a gateway that runs, started at the first call."""
    clients = []

    def search(gallery="shop", **options):
        if not clients:
            clients.append(RecollectClient(start_searching().address, classify_timeout_s=30))
        return clients[0].search_composed(TEXT, gallery=gallery, **{"image_id": "0.png", "k": 100, **options})

    def listed():
        return {each.name: each for each in clients[0].list_galleries().galleries}

    search.listed = listed
    yield search
    for client in clients:
        client.close()


def some_of(pictures, directory, numbers):
    directory.mkdir()
    for number in numbers:
        (directory / f"{number}.png").write_bytes((pictures / f"{number}.png").read_bytes())
    return directory


def ids(answer):
    return {hit.image_id for hit in answer.hits}


def test_an_index_is_no_gallery_whoever_asks(make_gallery, ask, tmp_path, caplog):
    from recollect.indexes.building import IndexBuilder
    from retrieval.index.building import BuildPlan
    from retrieval.index.quality import Thresholds
    from retrieval.index.sources import ArrayVectors
    from retrieval.index.spec import IndexSpec

    make_gallery()
    source = ArrayVectors(pl.Series("id", [1, 2]), np.eye(2, dtype=np.float32), {})
    builder = IndexBuilder(root=tmp_path / "indexes", thresholds=Thresholds(overlap=0), label="stable")
    builder.rebuild("items", source, BuildPlan(choose=lambda _count, _dimension: IndexSpec()))
    with pytest.raises(NotFound, match="no gallery 'items'; there is 'shop'"):
        ask("items")
    assert ask().hits
    assert "cannot be opened" not in caplog.text


def test_a_label_that_moves_is_followed_without_a_restart(
    make_gallery, ask, store, shop_pictures, tmp_path, eventually
):
    old = make_gallery()
    assert ask().gallery_version == old.version
    new = make_gallery(source=some_of(shop_pictures, tmp_path / "few", [0, 1, 2]))
    eventually(lambda: ask().gallery_version == new.version)
    assert ids(ask()) == {"1.png", "2.png"}
    store.set_label("shop", "stable", old.version)
    eventually(lambda: ask().gallery_version == old.version)
    assert len(ask().hits) == 9


def test_a_gallery_that_is_made_while_the_service_runs_is_found(make_gallery, ask):
    make_gallery()
    ask()
    make_gallery("other")
    assert len(ask("other").hits) == 9


def test_no_answer_mixes_two_versions(make_gallery, start_searching, store, shop_pictures, tmp_path):
    few = make_gallery(source=some_of(shop_pictures, tmp_path / "few", [0, 1, 2]))
    many = make_gallery()
    expected = {few.version: {"1.png", "2.png"}, many.version: {f"{number}.png" for number in range(1, 10)}}
    address, done = start_searching().address, threading.Event()
    answers, errors = [], []

    def keep_asking():
        with RecollectClient(address, classify_timeout_s=30) as client:
            while not done.is_set():
                try:
                    answers.append(client.search_composed(TEXT, gallery="shop", image_id="0.png", k=100))
                except Exception as error:
                    errors.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    with RecollectClient(address, classify_timeout_s=30) as client:
        for turn in range(6):
            version = (few, many)[turn % 2].version
            store.set_label("shop", "stable", version)
            while client.search_composed(TEXT, gallery="shop", image_id="0.png").gallery_version != version:
                pass
    done.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert {answer.gallery_version for answer in answers} == expected.keys()
    assert all(ids(answer) == expected[answer.gallery_version] for answer in answers)


def test_a_gallery_of_another_model_is_refused_and_both_models_named(make_gallery, ask, tiny_composed, encoder):
    make_gallery()
    stranger = load_composed(tiny_composed(seed=1))
    make_gallery("foreign", encoder=stranger, model="stranger")
    with pytest.raises(NotPossible, match="made with the model stranger") as raised:
        ask("foreign")
    assert stranger.fingerprint[:12] in str(raised.value)
    assert encoder.fingerprint[:12] in str(raised.value)
    status = ask.listed()["foreign"]
    assert (status.version, status.images) == ("", 0)
    assert "made with the model stranger" in status.problem


def test_a_new_version_of_another_model_leaves_the_old_one_answering(make_gallery, ask, tiny_composed, eventually):
    old = make_gallery()
    assert ask().gallery_version == old.version
    make_gallery(encoder=load_composed(tiny_composed(seed=1)), model="stranger")
    eventually(lambda: (ask(), ask.listed()["shop"].problem)[1])
    assert ask().gallery_version == old.version
    status = ask.listed()["shop"]
    assert (status.version, status.images, status.model_name) == (old.version, 10, "tiny")
    assert "stranger" in status.problem


def test_a_damaged_version_leaves_the_old_one_answering_and_gives_no_path_away(
    make_gallery, ask, shop_pictures, tmp_path, store, eventually
):
    old = make_gallery()
    assert ask().gallery_version == old.version
    new = make_gallery(label=None, source=some_of(shop_pictures, tmp_path / "few", [0, 1]))
    largest = max((path for path in new.directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[-1] ^= 1
    largest.write_bytes(damaged)
    store.set_label("shop", "stable", new.version)
    eventually(lambda: (ask(), ask.listed()["shop"].problem)[1])
    assert ask().gallery_version == old.version
    assert str(tmp_path) not in ask.listed()["shop"].problem


def test_a_gallery_that_was_damaged_from_the_start_says_so(make_gallery, ask, tmp_path):
    new = make_gallery()
    (new.directory / "made.json").write_text("{}")
    with pytest.raises(NotPossible, match=f"version {new.version} of gallery 'shop' is damaged") as raised:
        ask()
    assert str(tmp_path) not in str(raised.value)


def test_another_label_can_be_followed(make_gallery, start_searching, shop_pictures, tmp_path):
    make_gallery()
    trial = make_gallery(label="canary", source=some_of(shop_pictures, tmp_path / "few", [0, 1]))
    with RecollectClient(start_searching(label="canary").address, classify_timeout_s=30) as client:
        assert client.search_composed(TEXT, gallery="shop", image_id="0.png").gallery_version == trial.version
        make_gallery("other")
        with pytest.raises(NotFound, match="no gallery 'other'; there is 'shop'"):
            client.search_composed(TEXT, gallery="other", image_id="0.png")


def test_a_label_that_is_taken_away_ends_a_gallery(make_gallery, ask, store):
    make_gallery()
    ask()
    (store.root / "shop" / "labels" / "stable").unlink()
    with pytest.raises(NotFound, match="no gallery 'shop'"):
        ask()


def test_galleries_of_another_machine_answer_and_go_on_without_it(
    make_gallery, start_searching, shop_pictures, tmp_path, eventually, monkeypatch
):
    monkeypatch.setattr(shared, "REFRESH_S", 0.0)
    (tmp_path / "mount").mkdir()
    url = f"file://{tmp_path}/mount/indexes"
    old = make_gallery(shared=url)
    gateway = start_searching(indexes=tmp_path / "replica", shared=url)
    with RecollectClient(gateway.address, classify_timeout_s=30) as client:

        def ask(gallery="shop"):
            return client.search_composed(TEXT, gallery=gallery, image_id="0.png", k=100)

        assert ask().gallery_version == old.version
        new = make_gallery(source=some_of(shop_pictures, tmp_path / "few", [0, 1, 2]), shared=url)
        eventually(lambda: ask().gallery_version == new.version)
        assert ids(ask()) == {"1.png", "2.png"}
        # One that cannot be fetched leaves the one before.
        lost = make_gallery(source=some_of(shop_pictures, tmp_path / "lost", [0, 1]), shared=url)
        (tmp_path / "mount" / "indexes" / "shop" / lost.version / "pictures.parquet").unlink()
        eventually(lambda: "cannot be fetched yet" in client.list_galleries().galleries[0].problem)
        assert ask().gallery_version == new.version
        # A name that appears.
        make_gallery("other", shared=url)
        eventually(lambda: any(each.name == "other" and each.images for each in client.list_galleries().galleries))
        (tmp_path / "mount").rename(tmp_path / "elsewhere")
        assert len(ask("other").hits) == 9
        assert ask().gallery_version == new.version
