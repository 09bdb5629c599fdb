"""Keep the embeddings of texts on disk, so that after an edit only what changed is embedded again."""

import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import Encoder, Floats

_logger = logging.getLogger(__name__)

_TEXTS_A_READ = 4_096
_TEXTS_A_WRITE = 1_024
"""Embedded and written together: what an interruption costs at most."""
_PATIENCE_S = 30.0
"""Seconds that a process waits while others write."""
_PAGE_BYTES = 16_384
"""A row of 512 numbers takes 2 KiB; in pages of SQLite's usual 4 KiB half would be empty."""
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class CachedTexts:
    """An encoder whose texts are embedded once and then read from a file in `directory`, one file an encoder.

    Any number of threads and processes may share the directory. An entry that is damaged counts as missing and is
    written again, a file that is damaged is put aside. Where the directory cannot be written, texts are embedded each
    time and a warning is logged. As the fingerprint decides the file, another encoder's embeddings are never read.
    """

    def __init__(self, encoder: Encoder, directory: Path) -> None:
        self._encoder = encoder
        self._path = directory / f"{encoder.fingerprint}.sqlite"

    @property
    def name(self) -> str:
        """As in `Encoder`."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """As in `Encoder`."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """As in `Encoder`."""
        return self._encoder.dimension

    @property
    def logit_scale(self) -> float:
        """As in `Encoder`."""
        return self._encoder.logit_scale

    @property
    def preprocessing(self) -> Preprocessing:
        """As in `Encoder`."""
        return self._encoder.preprocessing

    def embed_pixels(self, pixels: Floats) -> Floats:
        """As in `Encoder`."""
        return self._encoder.embed_pixels(pixels)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """As in `Encoder`; a text that is there several times is embedded once."""
        place_of = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        distinct = list(place_of)
        embeddings = np.empty((len(distinct), self.dimension), dtype=np.float32)
        missing: list[int] = []
        for start in range(0, len(distinct), _TEXTS_A_READ):
            wanted = distinct[start : start + _TEXTS_A_READ]
            missing += (start + at for at in self._read(wanted, embeddings[start : start + len(wanted)]))
        for start in range(0, len(missing), _TEXTS_A_WRITE):
            places = missing[start : start + _TEXTS_A_WRITE]
            batch = [distinct[at] for at in places]
            embeddings[places] = self._encoder.embed_texts(batch)
            self._write(batch, embeddings[places])
        return embeddings if len(distinct) == len(texts) else embeddings[[place_of[text] for text in texts]]

    def _read(self, texts: list[str], rows: Floats) -> list[int]:
        """Put the entries of `texts` into `rows` [n, d]; returns the places of those that are not there and sound."""
        missing = set(range(len(texts)))
        if not self._path.exists():
            return sorted(missing)
        place_of = {_key(text): at for at, text in enumerate(texts)}
        with self._forgiven("read"), self._opened() as database:
            query = "SELECT key, checksum, embedding FROM embeddings WHERE key IN (SELECT value FROM json_each(?))"
            for key, checksum, entry in database.execute(query, (json.dumps(list(place_of)),)):
                at = place_of[key]
                if len(entry) == rows.shape[1] * rows.itemsize and _checksum(texts[at], entry) == checksum:
                    rows[at] = np.frombuffer(entry, dtype="<f4")
                    missing.discard(at)
        return sorted(missing)

    def _write(self, texts: list[str], rows: Floats) -> None:
        with self._forgiven("written"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as database:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", _entries(texts, rows))
                database.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection of this call alone: none is shared by threads or inherited by a fork."""
        with closing(sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None)) as database:
            database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            database.execute("PRAGMA journal_mode = WAL")
            # After a power cut the latest entries may be gone, and are embedded again; the file stays sound.
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS embeddings"
                " (key INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, embedding BLOB NOT NULL)"
            )
            yield database

    @contextmanager
    def _forgiven(self, done: str) -> Iterator[None]:
        """The cache saves time and nothing else: what is wrong with it is logged, not raised."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            _logger.warning("embeddings of texts in %s cannot be %s: %s", self._path, done, error)
            if getattr(error, "sqlite_errorcode", None) in _UNREADABLE:
                self._put_aside()

    def _put_aside(self) -> None:
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        if self._path.exists():
            self._path.replace(self._path.with_suffix(".damaged"))


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def _checksum(text: str, entry: bytes) -> int:
    """Of both, so that neither a damaged entry nor that of another text with the same key is taken."""
    return zlib.crc32(entry, zlib.crc32(text.encode()))


def _entries(texts: list[str], rows: Floats) -> Iterator[tuple[int, int, bytes]]:
    for text, row in zip(texts, rows, strict=True):
        entry = row.astype("<f4", copy=False).tobytes()
        yield _key(text), _checksum(text, entry), entry
