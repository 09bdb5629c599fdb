"""Embedding on Ray Data: every picture as the encoder alone embeds it, bad ones named, what a kill left kept."""

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recollect.indexes import embedding
from recollect.indexes.embedding import EmbeddedPictures, Embedder, PictureEncoder, PicturesToEmbed
from recollect.indexes.pictures import read_pictures
from recollect.indexes.sources import picture_encoder
from recollect.settings import Settings
from retrieval.encoders.load import load_encoder
from retrieval.encoders.protocol import Encoder, embed_images
from retrieval.errors import DatasetError
from retrieval.images import ImageLimits, decode_image

ENCODER = "demo-shop"
COUNT = 90
BAD = {"x-empty.png": b"", "x-text.jpg": b"no picture", "x-thin.png": None}


def drawn(number: int, size: tuple[int, int] = (40, 32)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 pictures, and three files that are none which may be used."""
    directory = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        (directory / f"{number:03d}.png").write_bytes(drawn(number))
    for name, content in BAD.items():
        (directory / name).write_bytes(drawn(0, (400, 8)) if content is None else content)
    return directory


@pytest.fixture(scope="module")
def loaded() -> Encoder:
    return load_encoder(ENCODER)


@pytest.fixture(scope="module")
def encoder() -> PictureEncoder:
    return picture_encoder(Settings(), ENCODER)


@pytest.fixture
def to_embed(encoder: PictureEncoder) -> Any:
    def make(source: Path, told: list[tuple[int, int]] | None = None, **more: Any) -> PicturesToEmbed:
        return PicturesToEmbed(
            pictures=read_pictures(source),
            encoder=encoder,
            limits=ImageLimits(),
            connected=nullcontext,
            told=lambda done, of: None if told is None else told.append((done, of)),
            **more,
        )

    return make


def vectors_of(embedded: EmbeddedPictures) -> dict[Any, np.ndarray]:
    return dict(zip(embedded.ids.to_list(), np.concatenate(list(embedded.batches())), strict=True))


def expected(loaded: Encoder, folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    images = [decode_image(folder / name) for name in names]
    return dict(zip(names, embed_images(loaded, images), strict=True))


class Killed(BaseException):
    """In the place of SIGKILL, where it must be known after which part it came."""


@pytest.mark.slow
def test_a_folder_is_embedded_in_parts_that_a_kill_leaves(
    ray_node: None, folder: Path, loaded: Encoder, to_embed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_PART", 32)
    real = embedding._write

    def dies_at_the_second(work: Path, part: pl.DataFrame) -> None:
        if list(work.glob("part-*.parquet")):
            raise Killed
        real(work, part)

    monkeypatch.setattr(embedding, "_write", dies_at_the_second)
    with pytest.raises(Killed):
        to_embed(folder)(tmp_path)
    (first,) = (tmp_path / "embedding").glob("part-*.parquet")
    kept, before = len(pl.read_parquet(first)), first.read_bytes()
    assert 32 <= kept < COUNT
    monkeypatch.setattr(embedding, "_write", real)
    # A part that a kill has torn does not count.
    (tmp_path / "embedding" / "part-000007.parquet").write_bytes(before[:-9])

    told: list[tuple[int, int]] = []
    source = to_embed(folder, told)
    embedded = source(tmp_path)
    assert told[0] == (kept, COUNT + len(BAD))
    assert told[-1] == (COUNT + len(BAD),) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert first.read_bytes() == before
    names = [f"{number:03d}.png" for number in range(COUNT)]
    assert sorted(embedded.ids) == names
    found, alone = vectors_of(embedded), expected(loaded, folder, names)
    for name in names:
        np.testing.assert_allclose(found[name], alone[name], atol=1e-5, err_msg=name)
    reasons = {each.id: each.reason for each in embedded.refused}
    assert set(reasons) == set(BAD)
    assert "must have bytes, got none" in reasons["x-empty.png"]
    assert "must be at most 20 times as long as wide" in reasons["x-thin.png"]

    # All there: nothing is asked of Ray any more.
    monkeypatch.setattr(embedding, "_embedded", None)
    again = to_embed(folder)(tmp_path)
    assert again.facts == embedded.facts
    assert vectors_of(again).keys() == found.keys()


@pytest.mark.slow
def test_pictures_in_tables_are_embedded_and_what_is_there_is_not_embedded_again(
    ray_node: None, folder: Path, loaded: Encoder, to_embed: Any, tmp_path: Path
) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    names = [f"{number:03d}.png" for number in range(COUNT)]
    contents: list[bytes | None] = [(folder / name).read_bytes() for name in names]
    contents[5] = None
    for number in range(2):
        part = slice(number * 45, number * 45 + 45)
        ids = list(range(COUNT))[part]
        images = [{"bytes": content, "path": "x"} for content in contents[part]]
        pl.DataFrame({"id": ids, "image": images, "more": [0.5] * 45}).write_parquet(tables / f"{number}.parquet")
    source = to_embed(tables, workers=1)
    (tmp_path / "work").mkdir()
    embedded = source(tmp_path / "work")
    assert embedded.ids.dtype == pl.Int64
    assert sorted(embedded.ids) == [number for number in range(COUNT) if number != 5]
    assert [each.id for each in embedded.refused] == [5]
    found, alone = vectors_of(embedded), expected(loaded, folder, names)
    for number, name in enumerate(names):
        if number != 5:
            np.testing.assert_allclose(found[number], alone[name], atol=1e-5, err_msg=name)

    # One table is written anew: only its pictures are embedded.
    ids, before = list(range(100, 120)), {number: found[number] for number in range(45) if number != 5}
    images = [{"bytes": drawn(each), "path": "x"} for each in ids]
    pl.DataFrame({"id": ids, "image": images}).write_parquet(tables / "1.parquet")
    told: list[tuple[int, int]] = []
    again = to_embed(tables, told, workers=1)(tmp_path / "work")
    assert told[0] == (45, 65)
    assert told[-1] == (65, 65)
    after = vectors_of(again)
    assert sorted(after) == [*before, *ids]
    for number, vector in before.items():
        np.testing.assert_array_equal(after[number], vector)


def test_a_worker_embeds_what_is_left_and_says_what_it_cannot(folder: Path, loaded: Encoder) -> None:
    worker = Embedder(ENCODER, ImageLimits(max_bytes=2_000_000), frozenset(["a", "c", "d", "e", "f"]))
    given = [drawn(1), drawn(2), b"", {"bytes": drawn(3), "path": None}, bytes(2_000_001), None]
    images = np.empty(6, dtype=object)
    images[:] = given
    made = worker({"id": np.array(list("abcdef"), dtype=object), "image": images})
    assert made["id"].tolist() == ["a", "c", "d", "e", "f"]
    alone = embed_images(loaded, [decode_image(drawn(1)), decode_image(drawn(3))])
    np.testing.assert_allclose(made["vector"][[0, 2]], alone, atol=1e-6)
    assert not made["vector"][[1, 3, 4]].any()
    assert made["reason"][0] == made["reason"][2] == ""
    assert "must have bytes, got none" in made["reason"][1]
    assert "at most 2,000,000 bytes" in made["reason"][3]
    nothing = Embedder(ENCODER, ImageLimits(), frozenset())({"id": images[:0], "path": images[:0]})
    assert (nothing["vector"].shape, nothing["id"].dtype.kind) == ((0, loaded.dimension), "U")
    missing = Embedder(ENCODER, ImageLimits(), None)(
        {"id": np.array([3]), "path": np.array(["none.png"], dtype=object)}
    )
    assert missing["reason"].tolist() == ["cannot be read: No such file or directory"]


def written(work: Path, ids: list[str], keys: list[str], reasons: list[str | None], dimension: int) -> None:
    number = len(list(work.glob("part-*.parquet")))
    columns = {"id": ids, "vector": np.full((len(ids), dimension), number, np.float32), "reason": reasons, "key": keys}
    frame = pl.DataFrame(columns, schema_overrides={"reason": pl.String})
    embedding._write(work, frame)


def test_of_a_picture_that_changed_the_new_vector_counts(folder: Path, encoder: PictureEncoder, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"image,id\n{folder}/000.png,a\n{folder}/001.png,b\n{folder}/x-text.jpg,c\n")
    pictures = read_pictures(tmp_path / "list.csv")
    a, b, c = pictures.wanted["key"]
    written(tmp_path, ["a", "b", "z"], ["as it was", b, "gone"], [None] * 3, encoder.dimension)
    with pytest.raises(DatasetError, match="was changed while it was read"):
        EmbeddedPictures(pictures, encoder, tmp_path)
    written(tmp_path, ["c", "a", "b"], [c, a, b], ["no", None, None], encoder.dimension)
    embedded = EmbeddedPictures(pictures, encoder, tmp_path)
    assert {name: vector[0] for name, vector in vectors_of(embedded).items()} == {"a": 1.0, "b": 0.0}
    assert [(each.id, each.reason) for each in embedded.refused] == [("c", "c: no")]
    assert embedded.facts["encoder"] == ENCODER
    assert embedded.facts["maker"] == encoder.fingerprint


def test_where_none_can_be_used_the_first_is_told(folder: Path, encoder: PictureEncoder, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"image,id\n{folder}/x-text.jpg,c\n")
    pictures = read_pictures(tmp_path / "list.csv")
    written(tmp_path, ["c"], pictures.wanted["key"].to_list(), ["no picture"], encoder.dimension)
    with pytest.raises(DatasetError, match=r"none of the 1 pictures of .* the first, c: no picture"):
        EmbeddedPictures(pictures, encoder, tmp_path)


def test_parts_of_another_encoder_are_not_kept(folder: Path, to_embed: Any, tmp_path: Path) -> None:
    work = tmp_path / "embedding"
    work.mkdir()
    (work / "job.json").write_text("{}")
    (work / "part-000001.parquet").write_bytes(b"of another one")

    class AskedError(Exception):
        """Where Ray would be connected."""

    def asked() -> Any:
        raise AskedError

    source = to_embed(folder)
    source.connected = asked
    with pytest.raises(AskedError):
        source(tmp_path)
    assert not list(work.glob("part-*"))
