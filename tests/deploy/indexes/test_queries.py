"""An index is asked with what its vectors were embedded with, or says why it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recollect.artifacts import MODELS, ArtifactStore
from recollect.errors import RecollectError
from recollect.indexes.queries import embed_image, embed_text, like_id, like_vector
from recollect.indexes.sources import encoder_of_index, picture_encoder
from recollect.settings import Settings
from retrieval.encoders import load
from retrieval.encoders.load import load_encoder
from retrieval.errors import ImageRefused
from retrieval.index.building import BuildPlan, build_vector_index
from retrieval.index.sources import ArrayVectors
from retrieval.index.spec import IndexSpec
from retrieval.index.vector_index import VectorIndex
from retrieval.shop import render

PLAN = BuildPlan(choose=lambda _count, _dimension: IndexSpec())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(var=tmp_path / "var")


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    """Items 0, 10, … 110 on a circle, and 120, which is as 0."""
    angles = 2 * np.pi * np.array([*range(12), 0]) / 12
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    source = ArrayVectors(pl.Series("id", np.arange(13) * 10), vectors)
    return build_vector_index(source, PLAN, tmp_path_factory.mktemp("circle"))


@pytest.mark.parametrize(("asked", "nearest"), [("60", {50, 70}), ("0", {120, 10, 110}), ("120", {0, 10, 110})])
def test_like_an_id_are_others(circle: VectorIndex, asked: str, nearest: set[int]) -> None:
    found = like_id(circle, asked, len(nearest))
    assert {each for each, _ in found} == nearest
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert len(like_id(circle, asked, 100)) == 12


def test_an_id_that_is_not_there_is_told_what_comes_close(circle: VectorIndex) -> None:
    with pytest.raises(RecollectError, match=r"id '111' is not in the index; there is .*'110'"):
        like_id(circle, "111", 3)


def made_with(encoder: Any) -> dict[str, Any]:
    return {"kind": "images", "images": "photos", "encoder": encoder.reference, "maker": encoder.fingerprint}


def test_pictures_and_texts_are_embedded_with_the_encoder_of_the_index(settings: Settings, tmp_path: Path) -> None:
    names = ["blue stoneware coffee mug", "green glass vase"]
    for name in names:
        render(name, seed=1).save(tmp_path / f"{name}.png")
    source, encoder = made_with(picture_encoder(settings, "demo-shop")), load_encoder("demo-shop")
    vectors = np.concatenate([embed_image(settings, source, tmp_path / f"{name}.png") for name in names])
    index = build_vector_index(ArrayVectors(pl.Series("id", names), vectors), PLAN, tmp_path / "work")
    for name in names:
        text = embed_text(settings, source, name)
        np.testing.assert_allclose(text, encoder.embed_texts([name]), atol=1e-6)
        assert like_vector(index, text, 1)[0][0] == name
        assert like_vector(index, embed_image(settings, source, tmp_path / f"{name}.png"), 1)[0][1] > 0.999


def test_an_encoder_is_named_by_its_version_and_found_by_it(settings: Settings) -> None:
    store = ArtifactStore(settings.var.resolve() / "models", kind=MODELS)
    artifact = store.publish("encoder", load._SHIPPED / "demo-shop")
    store.set_label("encoder", "stable", artifact.version)
    encoder = picture_encoder(settings, "encoder@stable")
    assert encoder.reference == artifact.reference
    assert encoder_of_index(settings, made_with(encoder)) == encoder
    assert embed_text(settings, made_with(encoder), "a mug").shape == (1, encoder.dimension)


def test_an_encoder_that_is_another_one_now_is_refused(settings: Settings) -> None:
    source = made_with(picture_encoder(settings, "demo-shop")) | {"maker": "of another time"}
    for ask in (lambda: embed_text(settings, source, "a mug"), lambda: encoder_of_index(settings, source)):
        with pytest.raises(RecollectError, match="made with demo-shop as it was then, and that is another one now"):
            ask()


def test_what_embeds_nothing_cannot_be_asked(settings: Settings, tmp_path: Path) -> None:
    render("blue stoneware coffee mug", seed=1).save(tmp_path / "mug.png")
    items = {"kind": "model", "model": "dare/1"}
    with pytest.raises(RecollectError, match="made of dare/1, which embeds neither pictures nor texts; ask"):
        embed_text(settings, items, "a mug")
    with pytest.raises(RecollectError, match="made of parquet, which embeds neither"):
        embed_image(settings, {"kind": "parquet", "files": []}, tmp_path / "mug.png")
    with pytest.raises(RecollectError, match="made of dare/1, not of pictures by an encoder; add Parquet files"):
        encoder_of_index(settings, items)


def test_a_picture_that_cannot_be_used_is_refused(settings: Settings, tmp_path: Path) -> None:
    source = made_with(picture_encoder(settings, "demo-shop"))
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(ImageRefused, match="must be JPEG, PNG"):
        embed_image(settings, source, tmp_path / "bad.png")
    with pytest.raises(RecollectError, match=r"none\.png cannot be read: No such file"):
        embed_image(settings, source, tmp_path / "none.png")
