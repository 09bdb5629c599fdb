"""The cache of text embeddings: what is kept, what is embedded again, and that damage and rivals do no harm."""

import logging
import multiprocessing
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.text_cache import CachedTexts


class Counting:
    """An encoder whose embedding of a text is that text's bytes, and that remembers what it was asked."""

    name = "counting"
    logit_scale = 7.0
    preprocessing = Preprocessing(height=8, width=8)

    def __init__(self, fingerprint: str = "f1", dimension: int = 6) -> None:
        self.fingerprint, self.dimension = fingerprint, dimension
        self.asked: list[list[str]] = []

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return pixels + 1

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.stack([self.of(text) for text in texts]) if texts else np.empty((0, self.dimension), np.float32)

    def of(self, text: str) -> np.ndarray:
        padded = text.encode().ljust(self.dimension)[: self.dimension]
        return np.frombuffer(padded, np.uint8).astype(np.float32) / 255


@pytest.fixture
def encoder() -> Counting:
    return Counting()


@pytest.fixture
def cached(encoder: Counting, tmp_path: Path) -> CachedTexts:
    return CachedTexts(encoder, tmp_path / "texts")


def test_a_text_is_embedded_once_in_a_call_and_never_again(cached: CachedTexts, encoder: Counting) -> None:
    texts = ["lamp", "bowl", "lamp", "", "lämp"]
    wanted = np.stack([encoder.of(text) for text in texts])
    np.testing.assert_array_equal(cached.embed_texts(texts), wanted)
    np.testing.assert_array_equal(cached.embed_texts(texts), wanted)
    assert encoder.asked == [["lamp", "bowl", "", "lämp"]]


def test_only_what_is_new_is_embedded(cached: CachedTexts, encoder: Counting) -> None:
    cached.embed_texts(["lamp", "bowl"])
    found = cached.embed_texts(["bowl", "vase", "lamp"])
    np.testing.assert_array_equal(found, np.stack([encoder.of(text) for text in ("bowl", "vase", "lamp")]))
    assert encoder.asked[1:] == [["vase"]]


def test_another_process_reads_what_one_wrote(cached: CachedTexts, tmp_path: Path) -> None:
    cached.embed_texts(["lamp"])
    later = Counting()
    np.testing.assert_array_equal(CachedTexts(later, tmp_path / "texts").embed_texts(["lamp"])[0], later.of("lamp"))
    assert later.asked == []


def test_encoders_do_not_share_entries(cached: CachedTexts, tmp_path: Path) -> None:
    cached.embed_texts(["lamp"])
    other = Counting("f2", dimension=3)
    assert CachedTexts(other, tmp_path / "texts").embed_texts(["lamp"]).shape == (1, 3)
    assert other.asked == [["lamp"]]


def test_no_texts_touch_no_file(cached: CachedTexts, encoder: Counting, tmp_path: Path) -> None:
    assert cached.embed_texts([]).shape == (0, 6)
    assert encoder.asked == []
    assert not (tmp_path / "texts").exists()


def test_everything_else_is_the_encoders(cached: CachedTexts, encoder: Counting) -> None:
    assert (cached.name, cached.fingerprint, cached.dimension, cached.logit_scale) == ("counting", "f1", 6, 7.0)
    assert cached.preprocessing is encoder.preprocessing
    assert cached.embed_pixels(np.zeros((1, 3, 8, 8), np.float32)).max() == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE embeddings SET embedding = zeroblob(24)", id="other numbers"),
        pytest.param("UPDATE embeddings SET embedding = substr(embedding, 1, 20)", id="cut short"),
        pytest.param("UPDATE embeddings SET checksum = checksum + 1", id="wrong checksum"),
    ],
)
def test_a_damaged_entry_is_written_again(cached: CachedTexts, encoder: Counting, tmp_path: Path, damage: str) -> None:
    cached.embed_texts(["lamp"])
    with sqlite3.connect(tmp_path / "texts" / "f1.sqlite") as database:
        database.execute(damage)
    database.close()
    for _ in range(2):
        np.testing.assert_array_equal(cached.embed_texts(["lamp"])[0], encoder.of("lamp"))
    assert encoder.asked == [["lamp"], ["lamp"]]


@pytest.mark.parametrize("kept", [0, 100, 20_000], ids=lambda kept: f"{kept} bytes kept")
def test_a_damaged_file_is_put_aside(
    cached: CachedTexts, encoder: Counting, tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    cached.embed_texts([f"text {at}" for at in range(900)])
    path = tmp_path / "texts" / "f1.sqlite"
    path.write_bytes(path.read_bytes()[:kept] + b"\xa5" * 5_000)
    for _ in range(3):
        np.testing.assert_array_equal(cached.embed_texts(["text 7"])[0], encoder.of("text 7"))
    assert encoder.asked[1:] in ([["text 7"]], [["text 7"], ["text 7"]])
    assert "cannot be" in caplog.text
    assert path.with_suffix(".damaged").exists()


def test_a_directory_that_cannot_be_written_costs_time_alone(
    encoder: Counting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file where a directory is wanted")
    cached = CachedTexts(encoder, tmp_path / "taken")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            np.testing.assert_array_equal(cached.embed_texts(["lamp"])[0], encoder.of("lamp"))
    assert encoder.asked == [["lamp"], ["lamp"]]
    assert "cannot be written" in caplog.text


def test_many_texts_are_kept_bit_by_bit(tmp_path: Path) -> None:
    encoder = Counting(dimension=33)
    cached = CachedTexts(encoder, tmp_path)
    texts = [f"text {at}" for at in range(5_000)]
    first = cached.embed_texts(texts)
    assert [len(batch) for batch in encoder.asked] == [1_024, 1_024, 1_024, 1_024, 904]
    np.testing.assert_array_equal(cached.embed_texts(texts[::-1]), first[::-1])
    assert len(encoder.asked) == 5


def test_what_was_embedded_before_a_failure_stays(encoder: Counting, tmp_path: Path) -> None:
    class Failing(Counting):
        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            if self.asked:
                raise RuntimeError("out of power")
            return super().embed_texts(texts)

    texts = [f"text {at}" for at in range(1_500)]
    with pytest.raises(RuntimeError, match="out of power"):
        CachedTexts(Failing(), tmp_path).embed_texts(texts)
    CachedTexts(encoder, tmp_path).embed_texts(texts)
    assert [len(batch) for batch in encoder.asked] == [476]


def _fill(directory: Path, start: int) -> int:
    encoder = Counting()
    cached = CachedTexts(encoder, directory)
    wrong = 0
    for at in range(start, start + 40):
        texts = [f"{number % 60}" for number in range(at, at + 10)]
        wrong += int((cached.embed_texts(texts) != np.stack([encoder.of(text) for text in texts])).any())
    return wrong


def test_processes_and_threads_share_a_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool, ThreadPoolExecutor(3) as threads:
        others = pool.starmap_async(_fill, [(tmp_path, 0), (tmp_path, 20)])
        mine = list(threads.map(lambda start: _fill(tmp_path, start), [0, 10, 30]))
        assert others.get(timeout=60) == [0, 0]
    assert mine == [0, 0, 0]
    assert caplog.text == ""
    later = Counting()
    CachedTexts(later, tmp_path).embed_texts([str(number) for number in range(60)])
    assert later.asked == []
