"""Adding and deleting pictures: what is found afterwards, what is on disk, and what a crash or a tamperer leaves."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from retrieval.errors import IndexingError
from retrieval.files import digest
from retrieval.index.files import sealed
from retrieval.index.gallery import Gallery
from retrieval.index.search import Floats
from retrieval.index.spec import IndexSpec, Kind, Storage

Reference = Callable[[Floats, Floats], npt.NDArray[np.float64]]
Made = Callable[..., Gallery]
FULL = IndexSpec(kind=Kind.IVF, lists=8, probes=8, storage=Storage.SQ8)


def _colours(images: int) -> pl.DataFrame:
    return pl.DataFrame({"colour": ["green"] * images, "row": [-1] * images})


def _agrees(gallery: Gallery, vectors: dict[str, Floats], reference: Reference) -> None:
    """The gallery has these pictures, and finds among them what numpy finds."""
    assert gallery.ids == list(vectors)
    assert len(gallery) == len(gallery.metadata) == len(vectors)
    kept = np.stack(list(vectors.values()))
    for query in np.random.default_rng(9).normal(size=(10, 16)):
        asked = (query / np.linalg.norm(query)).astype(np.float32)
        best = reference(kept, asked)
        for exact in (False, True):
            hits = gallery.search(asked, 7, exact=exact)
            np.testing.assert_allclose([hit.score for hit in hits], np.sort(best)[::-1][:7], atol=1e-5)
            assert [hit.image_id for hit in hits] == [gallery.ids[row] for row in np.argsort(-best)[:7]]
    np.testing.assert_array_equal(gallery.vectors_at(slice(0, None)), kept)
    for image_id in (gallery.ids[0], gallery.ids[-1]):
        np.testing.assert_array_equal(gallery.vectors_of(image_id), vectors[image_id])


@pytest.mark.parametrize("indexed", [False, True], ids=["memory", "index"])
def test_pictures_come_and_go(
    made: Made, drawn: Floats, reference: Reference, index_from: Callable[[int], None], indexed: bool
) -> None:
    if indexed:
        index_from(50)
    gallery = made(200, spec=FULL if indexed else None)
    there = {f"p{row}": drawn[row] for row in range(200)}

    gallery.delete(["p0", "p17", "p199"])
    for gone in ("p0", "p17", "p199"):
        del there[gone]
    _agrees(gallery, there, reference)

    gallery.add([f"n{row}" for row in range(200, 260)], drawn[200:260], _colours(60))
    there |= {f"n{row}": drawn[row] for row in range(200, 260)}
    _agrees(gallery, there, reference)
    assert gallery.filtered({"colour": ["green"]}).tolist() == [False] * 197 + [True] * 60

    gallery.add(["p0"], drawn[:1], _colours(1))
    there["p0"] = drawn[0]
    _agrees(gallery, there, reference)
    _agrees(Gallery.open(gallery.directory), there, reference)
    assert (gallery.spec == FULL) == indexed


def test_a_few_deletions_touch_neither_vectors_nor_index(made: Made, index_from: Callable[[int], None]) -> None:
    index_from(50)
    gallery = made(200, spec=FULL)
    gallery.delete([f"p{row}" for row in range(50)])
    assert sorted(path.name for path in gallery.directory.iterdir()) == [
        "index-1.faiss",
        "manifest.json",
        "rows-2.parquet",
        "vectors-1.npy",
    ]


def test_many_deletions_give_their_room_back(
    made: Made, drawn: Floats, reference: Reference, index_from: Callable[[int], None]
) -> None:
    index_from(50)
    gallery = made(200, spec=FULL)
    gallery.delete([f"p{row}" for row in range(51)])
    assert faiss.read_index(str(next(gallery.directory.glob("index-*")))).ntotal == 149 * 4
    assert np.load(next(gallery.directory.glob("vectors-*"))).shape == (149, 4, 16)
    assert len(list(gallery.directory.iterdir())) == 4
    _agrees(gallery, {f"p{row}": drawn[row] for row in range(51, 200)}, reference)
    gallery.delete(gallery.ids[:100])
    assert gallery.spec is None
    _agrees(gallery, {f"p{row}": drawn[row] for row in range(151, 200)}, reference)
    gallery.delete(gallery.ids)
    assert gallery.search(drawn[0, 0], 3) == Gallery.open(gallery.directory).search(drawn[0, 0], 3) == []


def test_an_index_is_built_when_a_gallery_has_grown(
    made: Made, drawn: Floats, reference: Reference, index_from: Callable[[int], None]
) -> None:
    index_from(50)
    gallery = made(40)
    assert gallery.spec is None
    gallery.add([f"n{row}" for row in range(40, 100)], drawn[40:100], _colours(60))
    assert gallery.spec is not None
    ids = [f"{'p' if row < 40 else 'n'}{row}" for row in range(100)]
    _agrees(gallery, dict(zip(ids, drawn[:100], strict=True)), reference)


def test_a_search_that_began_before_a_change_goes_on_with_what_it_began_with(made: Made, drawn: Floats) -> None:
    gallery = made(100)
    other = Gallery.open(gallery.directory)
    gallery.delete(["p5"])
    assert other.search(drawn[5, 0], 1)[0].image_id == "p5"
    assert gallery.search(drawn[5, 0], 1)[0].image_id != "p5"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda g, _: g.delete(["p1", "x"]), "no picture 'x'.* 1 of these 2 ids are unknown", id="delete"),
        pytest.param(lambda g, v: g.add(["p3"], v[:1], _colours(1)), "1 ids are in the gallery already", id="there"),
        pytest.param(lambda g, v: g.add(["n", "n"], v[:2], _colours(2)), "'n' is there more than once", id="twice"),
        pytest.param(
            lambda g, v: g.add(["n"], v[:1, :2], _colours(1)), r"\[n, 4, 16\], got \[1, 2, 16\]", id="vectors"
        ),
        pytest.param(lambda g, v: g.add(["n"], 2 * v[:1], _colours(1)), "must have length 1, got 2", id="length"),
        pytest.param(lambda g, v: g.add(["n"], v[:1]), "must have the columns colour, row, got none", id="columns"),
        pytest.param(
            lambda g, v: g.add(["n"], v[:1], pl.DataFrame({"colour": ["red"], "row": ["x"]})),
            "metadata must be of the types that the gallery has",
            id="types",
        ),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_changes_nothing(
    made: Made, drawn: Floats, change: Callable[[Gallery, Floats], None], message: str
) -> None:
    gallery = made(20)
    before = {path.name: path.read_bytes() for path in gallery.directory.iterdir()}
    with pytest.raises(IndexingError, match=message):
        change(gallery, drawn)
    assert len(gallery) == 20
    Gallery.open(gallery.directory)
    assert {name: (gallery.directory / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("role", ["vectors", "index", "rows"])
def test_200_mutations_of_a_file_are_refused_before_any_of_it_is_parsed(
    made: Made, index_from: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    index_from(50)
    directory = made(100, spec=FULL).directory
    path = directory / json.loads((directory / "manifest.json").read_text())["roles"][role]

    def parsed(*_: object, **__: object) -> None:
        pytest.fail("parsed before it was checked")

    for owner, name in ((faiss, "read_index"), (np, "load"), (pl, "read_parquet")):
        monkeypatch.setattr(owner, name, parsed)
    whole, draw = path.read_bytes(), random.Random(4)
    for _ in range(200):
        at = draw.randrange(len(whole))
        changed = bytearray(whole)
        changed[at] ^= 1 << draw.randrange(8)
        path.write_bytes(draw.choice([bytes(changed), whole[:at], whole[:at] + b"\0" + whole[at:]]))
        with pytest.raises(IndexingError, match="is altered since it was written"):
            Gallery.open(directory)


def test_an_index_of_another_gallery_is_refused(made: Made, index_from: Callable[[int], None]) -> None:
    index_from(50)
    index = (made(100, name="other", spec=FULL).directory / "index-1.faiss").read_bytes()
    directory = made(101, spec=FULL).directory
    (directory / "index-1.faiss").write_bytes(index)
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["index-1.faiss"] = digest(directory / "index-1.faiss")
    (directory / "manifest.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(IndexingError, match="has 400 vectors of 16, the gallery 404 of 16"):
        Gallery.open(directory)


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from retrieval.index import files, gallery
from retrieval.files import digest
from retrieval.index.files import sealed
from retrieval.index.gallery import Gallery

place, at = Path(sys.argv[1]), sys.argv[2]
def end(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
opened = Gallery.open(place)
if at == "rows":
    import polars as pl
    pl.DataFrame.write_parquet = end
elif at == "manifest":
    gallery.write_manifest = end
elif at == "swap":
    Path.replace = end
else:
    Path.unlink = end
opened.add(["new"], opened.vectors_of("p0")[None])
"""


@pytest.mark.parametrize(
    ("at", "pictures"), [("rows", 60), ("manifest", 60), ("swap", 60), ("clean-up", 61)], ids=lambda value: str(value)
)
def test_a_killed_change_leaves_the_state_before_or_after(
    tmp_path: Path, drawn: Floats, reference: Reference, at: str, pictures: int
) -> None:
    place = tmp_path / "g"
    Gallery.create(place, [f"p{row}" for row in range(60)], drawn[:60], storage="fp32")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(place), at], check=False, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL
    there = {f"p{row}": drawn[row] for row in range(60)}
    if pictures == 61:
        there["new"] = drawn[0]
    gallery = Gallery.open(place)
    assert len(list(place.iterdir())) > 3  # what the change left
    if pictures == 60:
        _agrees(gallery, there, reference)
    gallery.delete(["p1"])
    assert gallery.ids == [image_id for image_id in there if image_id != "p1"]
    assert len(list(place.iterdir())) == 3
