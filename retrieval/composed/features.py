"""Keep what the frozen image encoder made of each picture on disk, so that it runs once a picture, not once an epoch.

tokens.npy      float16 [N, P, C], memory-mapped
features.json   fingerprint of the image encoder, names of the N pictures, and keys of their files
done            how many of them are there
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from retrieval.composed.encoder import Tokens
from retrieval.composed.geometry import Floats
from retrieval.composed.model import AdaFocal
from retrieval.errors import ComposedError
from retrieval.files import write_whole

TOKENS_FILE, INDEX_FILE, DONE_FILE = "tokens.npy", "features.json", "done"
_STEP = 64
"""Pictures from one mark of progress to the next: what a kill can cost."""


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """Features of N named pictures."""

    tokens: Tokens
    """[N, P, C], memory-mapped."""
    positions: dict[str, int]
    """Name → row."""
    fingerprint: str
    """Of the image encoder that made them."""

    @classmethod
    def open(cls, directory: Path) -> "FrozenFeatures":
        """Finished features; ComposedError where there are none."""
        index = _read(directory)
        if index is None or _done(directory) < len(index.names):
            raise ComposedError(f"{directory} holds no finished features; make them again")
        try:
            tokens = np.load(directory / TOKENS_FILE, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise ComposedError(f"{directory / TOKENS_FILE} cannot be read: {error}; make them again") from error
        return cls(tokens, {name: row for row, name in enumerate(index.names)}, index.fingerprint)

    def rows(self, names: Sequence[str]) -> list[int]:
        """Rows of pictures; ComposedError for a name that is not among them."""
        try:
            return [self.positions[name] for name in names]
        except KeyError as error:
            raise ComposedError(f"no features of picture {error.args[0]!r}; make them for all pictures") from None

    def take(self, names: Sequence[str]) -> Tokens:
        """Features [n, P, C] of pictures; ComposedError for a name that is not among them."""
        return np.asarray(self.tokens[self.rows(names)])


@dataclass(frozen=True, slots=True)
class _Index:
    fingerprint: str
    names: list[str]
    keys: list[str] = field(default_factory=list)
    """Of each name's file; none where names alone tell."""

    @property
    def pictures(self) -> dict[str, str]:
        """Name → key."""
        return dict(zip(self.names, self.keys or [""] * len(self.names), strict=True))

    def same(self, other: "_Index") -> bool:
        """Whether both are of the same pictures, in whatever order, and of one image encoder."""
        return (self.fingerprint, self.pictures) == (other.fingerprint, other.pictures)


def freeze_features(
    directory: Path,
    names: Sequence[str],
    pixels: Callable[[str], Floats],
    model: AdaFocal,
    *,
    keys: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FrozenFeatures:
    """The features of `names`, whose pixels [3, S, S] `pixels` gives; goes on where a killed call stopped.

    `keys` are those of the pictures' files: a picture whose key has changed is another one. Features that are there
    are taken as they are if they are of the same pictures and the same image encoder. Of other pictures, with keys,
    those are kept that are still wanted; of another image encoder all are replaced.
    """
    wanted = _Index(vision_fingerprint(model), list(names), list(keys or ()))
    directory.mkdir(parents=True, exist_ok=True)
    if not _finished(directory, wanted):
        with _alone(directory):
            index = _read(directory)
            if index is None or not index.same(wanted):
                shape = model.config.geometry.tokens, model.config.vision.hidden_size
                index = _laid_out(directory, index, wanted, shape)
            _fill(directory, index.names, pixels, model, progress)
    return FrozenFeatures.open(directory)


def vision_fingerprint(model: AdaFocal) -> str:
    """Hex digest of everything that decides the features: weights before the final layer norm, sizes, preprocessing."""
    digest = hashlib.sha256(repr((model.config.vision, model.config.geometry)).encode())
    for name, tensor in sorted(model.vision_model.state_dict().items()):
        if not name.startswith("post_layernorm"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _finished(directory: Path, wanted: _Index) -> bool:
    index = _read(directory)
    return index is not None and index.same(wanted) and _done(directory) == len(index.names)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait for other processes that make features here; the system lets go of the lock when this one dies."""
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _laid_out(directory: Path, before: _Index | None, wanted: _Index, shape: tuple[int, int]) -> _Index:
    """Make room for the pictures of `wanted`, of P, C = `shape` each: those that are there already first, then the
    others."""
    kept = _kept(directory, before, wanted)
    pictures = wanted.pictures
    names = [*kept, *(name for name in wanted.names if name not in kept)]
    index = _Index(wanted.fingerprint, names, [pictures[name] for name in names] if wanted.keys else [])
    partial = directory / f".{TOKENS_FILE}.partial"
    tokens = open_memmap(partial, mode="w+", dtype=np.float16, shape=(len(names), *shape))
    if kept:
        there, rows = np.load(directory / TOKENS_FILE, mmap_mode="r"), list(kept.values())
        for begin in range(0, len(rows), _STEP):
            part = rows[begin : begin + _STEP]
            tokens[begin : begin + len(part)] = there[part]
    tokens.flush()
    (directory / INDEX_FILE).unlink(missing_ok=True)
    partial.replace(directory / TOKENS_FILE)
    write_whole(directory / DONE_FILE, str(len(kept)))
    write_whole(directory / INDEX_FILE, json.dumps(asdict(index)))
    return index


def _kept(directory: Path, before: _Index | None, wanted: _Index) -> dict[str, int]:
    """Name → row of the features that are there and still of a picture of `wanted`."""
    if before is None or before.fingerprint != wanted.fingerprint or not (before.keys and wanted.keys):
        return {}
    known, pictures = before.pictures, wanted.pictures
    done = before.names[: _done(directory)]
    return {name: row for row, name in enumerate(done) if name in pictures and pictures[name] == known[name]}


@torch.inference_mode()
def _fill(
    directory: Path,
    names: Sequence[str],
    pixels: Callable[[str], Floats],
    model: AdaFocal,
    progress: Callable[[int, int], None] | None,
) -> None:
    device = model.query_tokens.device
    tokens = np.load(directory / TOKENS_FILE, mmap_mode="r+")
    was_training = model.training
    model.eval()
    for begin in range(_done(directory), len(names), _STEP):
        batch = torch.from_numpy(np.stack([pixels(name) for name in names[begin : begin + _STEP]])).to(device)
        made = model.image_tokens(batch.contiguous(memory_format=torch.channels_last))
        tokens[begin : begin + len(batch)] = made.half().cpu().numpy()
        tokens.flush()
        write_whole(directory / DONE_FILE, str(begin + len(batch)))
        if progress is not None:
            progress(begin + len(batch), len(names))
    model.train(was_training)


def _read(directory: Path) -> _Index | None:
    try:
        return _Index(**json.loads((directory / INDEX_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _done(directory: Path) -> int:
    try:
        return int((directory / DONE_FILE).read_text())
    except (OSError, ValueError):
        return 0
