"""Galleries are made, enlarged and reduced as new versions; what cannot be used is named, what was done is kept."""

import fcntl
import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recollect.composed import building, embedding
from recollect.composed.building import GalleryBuilder, GalleryOptions
from recollect.composed.galleries import GALLERY_DIRECTORY, MadeWith, OpenGallery
from recollect.composed.sources import read_source
from recollect.errors import ArtifactError, LabelMoved, RecollectError
from retrieval.composed.features import FrozenFeatures
from retrieval.errors import DatasetError
from retrieval.images import ImageLimits
from retrieval.index.gallery import Gallery


@pytest.fixture
def builder(tmp_path):
    return GalleryBuilder(root=tmp_path / "indexes", label="stable", limits=ImageLimits())


@pytest.fixture
def made(encoder):
    return MadeWith(model="tiny", model_name="tiny", fingerprint=encoder.fingerprint)


@pytest.fixture
def some(tmp_path, shop_pictures):
    """A source of some of the shop's pictures: `some(0, 3, …)`."""

    def take(*numbers, metadata=True):
        directory = tmp_path / f"some-{'-'.join(map(str, numbers))}"
        directory.mkdir(exist_ok=True)
        for number in numbers:
            (directory / f"{number}.png").write_bytes((shop_pictures / f"{number}.png").read_bytes())
        return read_source(directory, metadata=shop_pictures.parent / "metadata.csv" if metadata else None)

    return take


def contents(builder, name="shop"):
    """Id → (vectors, metadata, features) of what is labelled."""
    artifact = builder.store.resolve(f"{name}@stable")
    gallery = Gallery.open(artifact.directory / GALLERY_DIRECTORY)
    fingerprint = MadeWith.read(artifact.directory).fingerprint
    opened = OpenGallery.open(artifact, fingerprint=fingerprint)
    query = np.zeros(gallery.dimension, dtype=np.float32)
    query[0] = 1
    hits = opened.search(query, len(gallery) or 1, exclude=(), allowed=None)
    return {
        hit.image_id: (opened.vectors_of(hit.image_id), hit.metadata, opened.kept_reference(hit.image_id))
        for hit in hits
    }


def assert_holds(builder, encoder, vectors, numbers):
    found = contents(builder)
    assert found.keys() == {f"{number}.png" for number in numbers}
    for number in numbers:
        own, metadata, reference = found[f"{number}.png"]
        np.testing.assert_allclose(own, vectors[number], atol=2e-3)
        assert metadata["colour"] == ("red", "green", "blue")[number % 3]
        np.testing.assert_allclose(encoder.embed_gallery(reference.tokens[None])[0], vectors[number], atol=2e-3)


def test_a_gallery_is_made_enlarged_and_reduced(builder, encoder, made, vectors, some):
    first = builder.make("shop", some(0, 1, 2, 3), encoder, made, GalleryOptions())
    assert (first.images, first.skipped) == (4, ())
    assert_holds(builder, encoder, vectors, [0, 1, 2, 3])
    second = builder.add("shop", some(5, 6), encoder, made)
    assert second.images == 6
    assert_holds(builder, encoder, vectors, [0, 1, 2, 3, 5, 6])
    third = builder.delete("shop", ["1.png", "5.png"])
    assert third.images == 4
    assert_holds(builder, encoder, vectors, [0, 2, 3, 6])
    versions = builder.store.versions("shop")
    assert sorted(versions) == sorted(each.artifact.version for each in (first, second, third))
    # What was published before is as it was.
    builder.store.set_label("shop", "stable", first.artifact.version)
    assert_holds(builder, encoder, vectors, [0, 1, 2, 3])


def test_ids_that_are_there_are_refused_or_replaced(builder, encoder, made, vectors, some, tmp_path):
    builder.make("shop", some(0, 1, 2), encoder, made, GalleryOptions())
    with pytest.raises(DatasetError, match=r"1 of these ids already, such as '2.png'; .*--replace"):
        builder.add("shop", some(2, 3), encoder, made)
    changed = some(2, 4)
    changed.paths[0].write_bytes(some(7).paths[0].read_bytes())
    assert builder.add("shop", changed, encoder, made, replace=True).images == 4
    found = contents(builder)
    np.testing.assert_allclose(found["2.png"][0], vectors[7], atol=2e-3)
    np.testing.assert_allclose(encoder.embed_gallery(found["2.png"][2].tokens[None])[0], vectors[7], atol=2e-3)
    np.testing.assert_allclose(found["1.png"][0], vectors[1], atol=2e-3)


def test_a_picture_that_is_not_there_is_not_deleted(builder, encoder, made, some):
    builder.make("shop", some(0, 1, 2), encoder, made, GalleryOptions())
    before = builder.store.versions("shop")
    with pytest.raises(DatasetError, match=r"no picture '11.png'; there is '1.png'"):
        builder.delete("shop", ["0.png", "11.png"])
    assert builder.store.versions("shop") == before


def test_there_must_be_a_gallery_to_change(builder, encoder, made, some):
    builder.make("shop", some(0, 1), encoder, made, GalleryOptions())
    for change in (lambda: builder.delete("shp", ["0.png"]), lambda: builder.add("shp", some(2), encoder, made)):
        with pytest.raises(
            ArtifactError, match=r"no gallery 'shp@stable' in .*make one with `recollect composed index`"
        ):
            change()


@pytest.mark.parametrize("keep", [True, False], ids=["with features", "without features"])
def test_pictures_that_cannot_be_used_are_named_and_spoil_nothing(builder, encoder, made, vectors, some, keep):
    source = some(0, 1, 2, 3, 4)
    source.paths[1].write_bytes(b"no picture")
    source.paths[3].unlink()
    published = builder.make("shop", source, encoder, made, GalleryOptions(keep_features=keep))
    assert published.images == 3
    assert [each.path for each in published.skipped] == [source.paths[1], source.paths[3]]
    assert "no such file" in published.skipped[1].reason.lower()
    found = contents(builder)
    assert found.keys() == {"0.png", "2.png", "4.png"}
    for number in (0, 2, 4):
        own, metadata, reference = found[f"{number}.png"]
        np.testing.assert_allclose(own, vectors[number], atol=2e-3)
        assert metadata["colour"] == ("red", "green", "blue")[number % 3]
        assert (reference is not None) == keep
        if keep:
            np.testing.assert_allclose(encoder.embed_gallery(reference.tokens[None])[0], vectors[number], atol=2e-3)


def test_pictures_of_which_none_can_be_used_make_no_gallery(builder, encoder, made, some):
    source = some(0)
    source.paths[0].write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="none of the 1 pictures can be used"):
        builder.make("shop", source, encoder, made, GalleryOptions())
    assert builder.store.names() == []


def test_a_killed_command_goes_on_where_it_stopped(builder, encoder, made, vectors, some, monkeypatch):
    monkeypatch.setattr(embedding, "_BATCH", 2)
    real, seen = encoder.image_tokens, []

    def dying(pixels):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return real(pixels)

    source = some(0, 1, 2, 3, 5, 6)
    with monkeypatch.context() as patched:
        patched.setattr(encoder, "image_tokens", dying)
        with pytest.raises(KeyboardInterrupt):
            builder.make("shop", source, encoder, made, GalleryOptions())
    assert builder.store.names() == []
    log = builder.root / ".building" / "shop" / "work" / "log.jsonl"
    assert len(log.read_text().splitlines()) == 2
    # A kill in the middle of a line.
    log.write_text(log.read_text() + '[{"width": 3')
    seen.clear()
    with monkeypatch.context() as patched:
        patched.setattr(encoder, "image_tokens", lambda pixels: seen.append(len(pixels)) or real(pixels))
        builder.make("shop", source, encoder, made, GalleryOptions())
    assert seen == [2]
    assert_holds(builder, encoder, vectors, [0, 1, 2, 3, 5, 6])
    assert not (builder.root / ".building" / "shop").exists()


def test_what_was_begun_of_other_pictures_is_not_taken(builder, encoder, made, vectors, some, monkeypatch):
    monkeypatch.setattr(embedding, "_BATCH", 2)
    real = encoder.image_tokens

    def dying(pixels):
        dying.calls += 1
        if dying.calls == 2:
            raise KeyboardInterrupt
        return real(pixels)

    dying.calls = 0
    with monkeypatch.context() as patched:
        patched.setattr(encoder, "image_tokens", dying)
        with pytest.raises(KeyboardInterrupt):
            builder.make("shop", some(0, 1, 2, 3), encoder, made, GalleryOptions())
    builder.make("shop", some(5, 6, 7, 8), encoder, made, GalleryOptions())
    assert_holds(builder, encoder, vectors, [5, 6, 7, 8])


def test_two_commands_do_not_change_one_gallery_at_a_time(builder, encoder, made, some):
    builder.make("shop", some(0, 1), encoder, made, GalleryOptions())
    with (builder.root / ".building" / "shop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RecollectError, match="another command is changing gallery 'shop'"):
            builder.delete("shop", ["0.png"])
        builder.make("other", some(0, 1), encoder, made, GalleryOptions())
    assert builder.delete("shop", ["0.png"]).images == 1


def test_whoever_was_faster_is_not_overwritten(builder, encoder, made, vectors, some, monkeypatch):
    builder.make("shop", some(0, 1, 2), encoder, made, GalleryOptions())
    real, faster = building.Gallery.delete, []

    def slow(gallery, ids):
        real(gallery, ids)
        if not faster:
            faster.append(builder.store.labelled("shop", "stable"))
            builder.store.set_label("shop", "stable", other)

    other = replace(builder, label="other").make("shop", some(0, 1), encoder, made, GalleryOptions()).artifact.version
    monkeypatch.setattr(building.Gallery, "delete", slow)
    with pytest.raises(LabelMoved, match=f"points at {other}, not at"):
        builder.delete("shop", ["2.png"])
    assert builder.store.labelled("shop", "stable") == other
    assert_holds(builder, encoder, vectors, [0, 1])


def test_a_gallery_that_was_overtaken_is_not_embedded_again(builder, encoder, made, vectors, some, monkeypatch):
    builder.make("shop", some(0, 1), encoder, made, GalleryOptions())
    other = replace(builder, label="other").make("shop", some(2, 3), encoder, made, GalleryOptions()).artifact.version
    real, seen, source = encoder.image_tokens, [], some(5, 6)

    def overtaken(pixels):
        seen.append(len(pixels))
        builder.store.set_label("shop", "stable", other)
        return real(pixels)

    monkeypatch.setattr(encoder, "image_tokens", overtaken)
    with pytest.raises(LabelMoved, match=f"points at {other}, not at"):
        builder.make("shop", source, encoder, made, GalleryOptions())
    builder.make("shop", source, encoder, made, GalleryOptions())
    assert seen == [2]
    assert_holds(builder, encoder, vectors, [5, 6])


def test_paths_are_kept_only_where_they_may(builder, encoder, made, some):
    builder.make("told", some(0, 1), encoder, made, GalleryOptions())
    builder.make("secret", some(0, 1), encoder, made, GalleryOptions(keep_paths=False))
    builder.add("secret", some(2), encoder, made)
    tables = {
        name: pl.read_parquet(builder.store.resolve(f"{name}@stable").directory / "pictures.parquet")
        for name in ("told", "secret")
    }
    assert tables["told"]["path"].to_list() == [str(path) for path in some(0, 1).paths]
    assert tables["secret"]["path"].to_list() == [None] * 3
    assert all(
        b"some-0-1" not in path.read_bytes()
        for path in builder.store.resolve("secret@stable").directory.rglob("*")
        if path.is_file()
    )


def test_no_metadata_is_no_columns(builder, encoder, made, some):
    builder.make("shop", some(0, 1, metadata=False), encoder, made, GalleryOptions())
    assert {image_id: metadata for image_id, (_, metadata, _) in contents(builder).items()} == {
        "0.png": {},
        "1.png": {},
    }
    builder.add("shop", some(2, metadata=False), encoder, made)
    assert len(contents(builder)) == 3


def test_what_is_added_has_the_columns_that_there_are(builder, encoder, made, some, tmp_path, shop_pictures):
    builder.make("shop", some(0, 1), encoder, made, GalleryOptions())
    builder.add("shop", some(2, metadata=False), encoder, made)
    assert {image_id: metadata for image_id, (_, metadata, _) in contents(builder).items()} == {
        "0.png": {"colour": "red", "price": "0"},
        "1.png": {"colour": "green", "price": "1"},
        "2.png": {},
    }
    table = tmp_path / "more.csv"
    table.write_text("image,size\n3.png,7\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "3.png").write_bytes((shop_pictures / "3.png").read_bytes())
    with pytest.raises(DatasetError, match="has the columns 'colour', 'price', got 'size' besides"):
        builder.add("shop", read_source(tmp_path / "more", metadata=table), encoder, made)


def test_features_are_those_of_the_frozen_encoder(builder, encoder, made, some):
    published = builder.make("shop", some(0, 1, 2), encoder, made, GalleryOptions())
    kept = FrozenFeatures.open(published.artifact.directory / "features")
    assert list(kept.positions) == ["0.png", "1.png", "2.png"]
    assert kept.tokens.dtype == np.float16
    assert re.fullmatch("[0-9a-f]{64}", kept.fingerprint)


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "cannot be read"), ("[]", "cannot be read"), (json.dumps({"model": "x"}), "cannot be read")],
    ids=["torn", "a list", "half"],
)
def test_what_does_not_say_how_it_was_made_is_refused(tmp_path, content, says):
    (tmp_path / "made.json").write_text(content)
    with pytest.raises(ArtifactError, match=says):
        MadeWith.read(tmp_path)


def test_a_gallery_of_a_later_release_is_refused(tmp_path, made):
    made.save(tmp_path)
    values = json.loads((tmp_path / "made.json").read_text())
    (tmp_path / "made.json").write_text(json.dumps({**values, "schema_version": 2}))
    with pytest.raises(ArtifactError, match="has schema 2, this release reads 1"):
        MadeWith.read(tmp_path)
