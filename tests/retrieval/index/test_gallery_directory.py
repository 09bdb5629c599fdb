"""Where a gallery may be made: never among files of others, and again where making one was cut short."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import IndexingError
from retrieval.index.gallery import Gallery

VECTORS = np.eye(4, dtype=np.float32)[:, None]


@pytest.mark.parametrize("name", ["photo.jpg", "vectors-1.npy.jpg", "my-rows-1.parquet", "vectors"])
def test_a_directory_with_files_of_others_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"theirs")
    with pytest.raises(IndexingError, match=f"must be empty, got .* with {name}; name another"):
        Gallery.create(tmp_path, list("abcd"), VECTORS)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_killed_process_left_while_it_made_one_is_written_over(tmp_path: Path) -> None:
    for name in ("vectors-1.npy", "rows-1.parquet", "index-1.faiss", ".manifest.json.partial"):
        (tmp_path / name).write_bytes(b"half")
    gallery = Gallery.create(tmp_path, list("abcd"), VECTORS)
    assert [hit.image_id for hit in gallery.search(VECTORS[2, 0], 1)] == ["c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "rows-1.parquet", "vectors-1.npy"]
