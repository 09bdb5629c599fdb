"""An imported catalogue answers unless it is likely to be half a file; the one that answers follows its label."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.artifacts import CATALOGUES, Artifact, ArtifactStore
from recollect.catalogues import publishing
from recollect.catalogues.publishing import (
    CatalogueGuard,
    PublishedCatalogue,
    open_catalogue,
    publish_catalogue,
)
from recollect.catalogues.serving import CatalogueSource, FollowedCatalogue
from recollect.errors import ArtifactError, CatalogueRefused, LabelMoved
from recsys.metadata import ItemMetadata
from recsys.metadata.importing import ImportedCatalogue, ImportOptions, import_catalogue

Read = Callable[..., ImportedCatalogue]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read items 0 … `count` − 1 at a price, then `bad` rows that cannot be used."""

    def make(count: int, *, price: float = 1.0, bad: int = 0) -> ImportedCatalogue:
        lines = [*(f"{item},{price}" for item in range(count)), *(f"{count + item},dear" for item in range(bad))]
        path = tmp_path / "items.csv"
        path.write_text("\n".join(["item,price", *lines]) + "\n")
        return import_catalogue(path, ImportOptions(currency="EUR", ids="integer"))

    return make


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., PublishedCatalogue]:
    def make(
        imported: ImportedCatalogue, *, label: str | None = "stable", guard: CatalogueGuard | None = None
    ) -> PublishedCatalogue:
        return publish_catalogue(tmp_path / "catalogues", "shop", imported, guard or CatalogueGuard(), label=label)

    return make


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "catalogues", kind=CATALOGUES)


def test_what_is_published_answers_and_is_read_again(read: Read, publish: Callable, store: ArtifactStore) -> None:
    first = publish(read(10))
    assert first.coverage is None
    second = publish(read(9, price=2.5))
    assert second.coverage == 0.9
    artifact = store.resolve("shop@stable")
    assert artifact == second.artifact
    assert open_catalogue(artifact).take([3], ["price"])["price"].to_list() == [2.5]
    assert set(store.versions("shop")) == {first.artifact.version, second.artifact.version}
    assert sorted(path.name for path in (store.root / ".building").iterdir()) == ["shop.lock"]


def test_the_same_file_is_the_same_version(read: Read, publish: Callable, store: ArtifactStore) -> None:
    assert publish(read(10)).artifact == publish(read(10)).artifact
    assert len(store.versions("shop")) == 1


def test_half_a_file_is_kept_without_the_label(read: Read, publish: Callable, store: ArtifactStore) -> None:
    first = publish(read(10)).artifact
    with pytest.raises(CatalogueRefused, match=r"has 70\.0% of the items of shop@stable, fewer than 80%") as caught:
        publish(read(7))
    assert store.labelled("shop", "stable") == first.version
    (refused,) = set(store.versions("shop")) - {first.version}
    assert f"recollect catalogue activate shop {refused}" in str(caught.value)
    assert publish(read(7), guard=CatalogueGuard(min_coverage=0.7)).artifact.version == refused
    assert store.labelled("shop", "stable") == refused


def test_whoever_was_faster_is_not_overwritten(
    read: Read, publish: Callable, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(read(10)).artifact
    real, faster = publishing.open_catalogue, list[str]()

    def opened(artifact: Artifact) -> ItemMetadata:
        if not faster:
            faster.append("")
            faster[0] = publish(read(100)).artifact.version
        return real(artifact)

    monkeypatch.setattr(publishing, "open_catalogue", opened)
    with pytest.raises(LabelMoved, match=f"is published, but label 'stable' .* not at {first.version}") as caught:
        publish(read(11, price=2))
    assert store.labelled("shop", "stable") == faster[0] == caught.value.current
    assert caught.value.reference.partition("/")[2] in store.versions("shop")


@pytest.mark.parametrize("what", ["items.parquet", "catalogue.json", ""], ids=["items", "facts", "all"])
def test_a_damaged_version_stops_no_import(what: str, read: Read, publish: Callable, store: ArtifactStore) -> None:
    first = publish(read(10)).artifact
    if what:
        (first.directory / "catalogue" / what).write_bytes(b"damaged")
    else:
        shutil.rmtree(first.directory)
    second = publish(read(3, price=2))
    assert (second.coverage, second.damaged) == (None, first.reference)
    assert store.labelled("shop", "stable") == second.artifact.version
    assert publish(read(3, price=4)).coverage == 1.0


def test_of_a_file_with_many_bad_rows_nothing_is_published(read: Read, publish: Callable, store: ArtifactStore) -> None:
    assert publish(read(198, bad=2)).artifact.version == store.labelled("shop", "stable")
    with pytest.raises(CatalogueRefused, match=r"3 of 200 rows cannot be used, more than 1\.00%.*nothing has changed"):
        publish(read(197, bad=3))
    assert len(store.versions("shop")) == 1
    publish(read(197, bad=3), guard=CatalogueGuard(max_bad_rows=0.02))
    assert len(store.versions("shop")) == 2


def test_without_a_label_nothing_is_judged_or_moved(read: Read, publish: Callable, store: ArtifactStore) -> None:
    first = publish(read(10)).artifact
    publish(read(2), label=None)
    assert store.labelled("shop", "stable") == first.version


def test_a_label_that_moves_is_followed_and_what_is_left_can_be_removed(
    read: Read, publish: Callable, store: ArtifactStore
) -> None:
    first = publish(read(10)).artifact
    source = CatalogueSource(root=store.root, reference="shop@stable")
    source.check()
    followed = source.open()
    before = followed.current
    second = publish(read(10, price=3)).artifact
    assert followed.current is before
    assert store.remove_unneeded("shop", keep=0).held == (first.version,)
    asyncio.run(followed.look())
    assert (followed.current.name, followed.current.version) == ("shop", second.version)
    assert store.remove_unneeded("shop", keep=0).versions == (first.version,)
    # A call that took the one before still has it.
    assert before.metadata.take([3], ["price"])["price"].to_list() == [1.0]
    followed.close()


def test_a_version_that_is_damaged_leaves_the_one_before(
    read: Read, publish: Callable, store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    first = publish(read(10)).artifact
    followed = FollowedCatalogue(store.root, "shop@stable")
    second = publish(read(10, price=3)).artifact
    path = second.directory / "catalogue" / "items.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        asyncio.run(followed.look())
        assert followed.current.version == first.version
    assert caplog.text.count(f"catalogue shop/{second.version} cannot be opened, {first.version} answers on") == 1
    store.roll_back("shop", "stable")
    third = publish(read(10, price=4)).artifact
    asyncio.run(followed.look())
    assert followed.current.version == third.version
    followed.close()


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no catalogue 'shop@stable'.*import one with `recollect cat"):
        CatalogueSource(root=tmp_path, reference="shop@stable").check()
    with pytest.raises(ArtifactError, match=r"catalogue must be NAME@LABEL such as items@stable, got 'shop/3'"):
        CatalogueSource(root=tmp_path, reference="shop/3").check()
