"""Embed pictures on Ray Data in parts that are kept: a killed build goes on, and what cannot be used is named.

<work>/part-<n>.parquet    id, key, vector or the reason why there is none; a part counts when it is whole
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recollect.embedded.ray_data import keep_quiet
from recollect.indexes.merging import MAKER
from recollect.indexes.pictures import BYTES_FIELD, IMAGE_COLUMN, KEY_COLUMN, PATH_COLUMN, Pictures
from retrieval.errors import DatasetError, ImageRefused
from retrieval.images import ImageLimits, decode_image
from retrieval.index import steps
from retrieval.index.search import Floats
from retrieval.index.tables import ID_COLUMN, VECTOR_COLUMN, matrix_of, write_table
from retrieval.index.vector_files import Refused

IMAGES = "images"
"""Kind of a source of pictures."""
REASON_COLUMN = "reason"
_WORK = "embedding"
_BATCH = 32
"""Pictures that are embedded at once."""
_PART = 256
"""Pictures of a part, at least: what a kill costs, at most."""
_BLOCK = 256
"""Files that are handed to a worker together, at most."""
_BLOCK_BYTES = 16 << 20
"""Bytes of pictures that travel together; a private node keeps few in memory."""

Told = Callable[[int, int], None]
"""Hears how many pictures of how many are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureEncoder:
    """What embeds, and how an index tells it."""

    path: str
    """What `retrieval.encoders.load.load_encoder` takes, here and on every worker."""
    reference: str
    """What a later command names it by; `encoder/VERSION` for one that was published here."""
    fingerprint: str
    dimension: int


class EmbeddedPictures:
    """A source of an index: those of some pictures that could be used."""

    def __init__(self, pictures: Pictures, encoder: PictureEncoder, work: Path) -> None:
        self._work, self._paths = work, sorted(_parts(work))
        self._rows = _done(pictures, self._paths)
        if len(self._rows) < len(pictures.wanted):
            raise DatasetError(
                f"{pictures.source} was changed while it was read; build again, what is embedded is kept"
            )
        self.dimension = encoder.dimension
        used = self._rows.filter(pl.col(REASON_COLUMN).is_null())
        self.ids: pl.Series = used[ID_COLUMN]
        refused = self._rows.filter(pl.col(REASON_COLUMN).is_not_null())
        self.refused = tuple(
            Refused(each, f"{each}: {reason}") for each, reason in refused.select(ID_COLUMN, REASON_COLUMN).rows()
        )
        if not len(self.ids):
            raise DatasetError(
                f"none of the {len(self.refused):,} pictures of {pictures.source} can be used; the first, "
                f"{self.refused[0].reason}"
            )
        keys = used.sort(ID_COLUMN).select(ID_COLUMN, KEY_COLUMN)
        self.facts = {
            "kind": IMAGES,
            "images": str(pictures.source.resolve()),
            "encoder": encoder.reference,
            MAKER: encoder.fingerprint,
            "refused": len(self.refused),
            "digest": hashlib.sha256(keys.write_csv().encode()).hexdigest(),
        }

    def batches(self) -> Iterator[Floats]:
        """The vectors [n, d], in the order of the ids."""
        for number, path in enumerate(self._paths):
            rows = self._rows.filter((pl.col("part") == number) & pl.col(REASON_COLUMN).is_null())["row"]
            vectors = pl.read_parquet(path, columns=[VECTOR_COLUMN], glob=False)[VECTOR_COLUMN]
            yield matrix_of(vectors.gather(rows), self.dimension)


@dataclass(kw_only=True, slots=True)
class PicturesToEmbed:
    """A source that is made before an index is built of it: see `IndexBuilder.rebuild`."""

    pictures: Pictures
    encoder: PictureEncoder
    limits: ImageLimits
    """What is decoded."""
    connected: Callable[[], AbstractContextManager[None]]
    """Gives the connection to a Ray cluster for the time of a block."""
    told: Told
    workers: int | None = None
    """Processes that embed, each with an encoder of its own; None: as many as the cluster has processors."""

    def __call__(self, building: Path) -> EmbeddedPictures:
        """Embed what is not embedded yet, into a folder of `building`.

        Called again after a kill it keeps every part that is whole; of pictures that were changed or added meanwhile,
        only these are embedded. A picture that cannot be used is refused by itself; DatasetError where none can.
        """
        work = building / _WORK
        steps.begin(work, {"encoder": self.encoder.fingerprint, "limits": repr(self.limits)})
        kept = _done(self.pictures, sorted(_parts(work)))
        self.told(len(kept), len(self.pictures.wanted))
        left = self.pictures.wanted.join(kept, on=ID_COLUMN, how="anti", maintain_order="left")
        if len(left):
            with self.connected():
                self._embed(left, work)
        return EmbeddedPictures(self.pictures, self.encoder, work)

    def _embed(self, left: pl.DataFrame, work: Path) -> None:
        total = len(self.pictures.wanted)
        done, waiting = total - len(left), list[pl.DataFrame]()
        for batch in _embedded(self.pictures, left, self.encoder, self.limits, self.workers):
            waiting.append(_as_part(batch, left))
            done += len(waiting[-1])
            if sum(map(len, waiting)) >= _PART:
                _write(work, pl.concat(waiting))
                waiting.clear()
            self.told(done, total)
        if waiting:
            _write(work, pl.concat(waiting))


class Embedder:
    """What every worker has: an encoder, called with pictures as Ray Data hands them over."""

    def __init__(self, encoder: str, limits: ImageLimits, left: frozenset[Any] | None) -> None:
        """`left` names those that are to be embedded; None: all."""
        import torch

        from retrieval.encoders.load import load_encoder

        torch.set_num_threads(1)
        self._encoder = load_encoder(encoder, threads=1)
        self._limits, self._left = limits, left

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`id`, and `path` or `image` of n pictures → `id`, `vector` [n, d], zeros where there is a `reason`."""
        ids, given = batch[ID_COLUMN], batch.get(PATH_COLUMN, batch.get(IMAGE_COLUMN))
        assert given is not None
        if self._left is not None:
            mine = np.array([each in self._left for each in ids.tolist()], dtype=np.bool_)
            ids, given = ids[mine], given[mine]
        decoded = [self._decoded(each) for each in given]
        vectors = np.zeros((len(ids), self._encoder.dimension), dtype=np.float32)
        usable = [at for at, each in enumerate(decoded) if not isinstance(each, str)]
        if usable:
            vectors[usable] = self._encoder.embed_pixels(np.stack([decoded[at] for at in usable]))
        reasons = np.array([each if isinstance(each, str) else "" for each in decoded], dtype=np.str_)
        # As texts rather than objects, of which none at all would have no type.
        ids = ids.astype(np.str_) if ids.dtype == object else ids
        return {ID_COLUMN: ids, VECTOR_COLUMN: vectors, REASON_COLUMN: reasons}

    def _decoded(self, given: Any) -> Floats | str:
        """The pixels [3, H, W] of a path, bytes, or a structure with bytes; or why there are none."""
        if isinstance(given, dict):
            given = given[BYTES_FIELD]
        data = Path(given) if isinstance(given, str) else bytes(given or b"")
        preprocessing = self._encoder.preprocessing
        try:
            return preprocessing.apply(decode_image(data, self._limits, target=preprocessing.shrinks_to))
        except ImageRefused as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"


def _embedded(
    pictures: Pictures, left: pl.DataFrame, encoder: PictureEncoder, limits: ImageLimits, workers: int | None
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """What `Embedder` makes of the pictures in `left`, as it comes."""
    import ray
    import ray.data

    keep_quiet(block_bytes=_BLOCK_BYTES)
    most = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    size = max(1, min(workers or most, most, -(-len(left) // _BATCH)))
    some = None
    if pictures.tables:
        # Reading takes no processor of its own: workers, which have them all, would wait for ever.
        tables = [str(table) for table in pictures.tables]
        read = ray.data.read_parquet(tables, partitioning=None, num_cpus=0)
        given = read.select_columns([ID_COLUMN, IMAGE_COLUMN])
        some = frozenset(left[ID_COLUMN]) if len(left) < len(pictures.wanted) else None
    else:
        together = max(_BATCH, min(_BLOCK, len(left) // (4 * size)))
        files = left.select(ID_COLUMN, PATH_COLUMN).iter_slices(together)
        given = ray.data.from_arrow([part.to_arrow(compat_level=pl.CompatLevel.oldest()) for part in files])
    embedded = given.map_batches(
        Embedder,
        fn_constructor_args=(encoder.path, limits, some),
        batch_size=_BATCH,
        compute=ray.data.ActorPoolStrategy(size=size),
        num_cpus=1,
    )
    yield from embedded.iter_batches(batch_size=None, batch_format="numpy")


def _as_part(batch: dict[str, npt.NDArray[Any]], left: pl.DataFrame) -> pl.DataFrame:
    """A batch as it is kept, each picture with its key."""
    frame = pl.DataFrame(
        [
            pl.Series(ID_COLUMN, batch[ID_COLUMN].tolist(), left[ID_COLUMN].dtype),
            pl.Series(VECTOR_COLUMN, batch[VECTOR_COLUMN].astype(np.float32, copy=False)),
            pl.Series(REASON_COLUMN, [str(each) or None for each in batch[REASON_COLUMN]], pl.String),
        ]
    )
    return frame.join(left.select(ID_COLUMN, KEY_COLUMN), on=ID_COLUMN, how="left", maintain_order="left")


def _write(work: Path, part: pl.DataFrame) -> None:
    number = 1 + max((int(path.stem.removeprefix("part-")) for path in work.glob("part-*.parquet")), default=0)
    steps.make(work / f"part-{number:06d}.parquet", partial(write_table, part))


def _parts(work: Path) -> Iterator[Path]:
    """Those that are whole."""
    return (path for path in work.glob("part-*.parquet") if steps.is_whole(path))


def _done(pictures: Pictures, parts: list[Path]) -> pl.DataFrame:
    """Where each picture that is as it was when it was embedded has its row: `id`, `key`, `reason`, `part`, `row`."""
    columns = [ID_COLUMN, KEY_COLUMN, REASON_COLUMN]
    wanted = pictures.wanted.select(ID_COLUMN, KEY_COLUMN)
    nothing = wanted.clear().with_columns(
        pl.lit(None, pl.String).alias(REASON_COLUMN),
        pl.lit(0, pl.Int64).alias("part"),
        pl.lit(0, pl.Int64).alias("row"),
    )
    frames = [
        pl.read_parquet(path, columns=columns, glob=False).with_columns(
            pl.lit(number, pl.Int64).alias("part"), pl.int_range(pl.len(), dtype=pl.Int64).alias("row")
        )
        for number, path in enumerate(parts)
    ]
    frames = [frame for frame in frames if frame[ID_COLUMN].dtype == wanted[ID_COLUMN].dtype]
    found = pl.concat([nothing, *(frame.select(nothing.columns) for frame in frames)])
    there = found.join(wanted, on=[ID_COLUMN, KEY_COLUMN], how="semi", maintain_order="left")
    return there.unique(ID_COLUMN, keep="first", maintain_order=True)
