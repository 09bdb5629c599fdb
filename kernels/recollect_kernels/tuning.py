"""Say how the Triton search is to be cut up on this device: measured once and kept on disk, or else a sensible guess.

Nothing here measures unless it is told to: `tune` and `tune_shape` are for `recollect kernels prepare` and for
benchmarks, and a serving process only reads what they left.

    RECOLLECT_KERNELS_CACHE, else XDG_CACHE_HOME/recollect-kernels, else ~/.cache/recollect-kernels
    └── <device>-triton<version>-<hash of the kernels' source>
        └── behavior_search-l65536-t128-b64-k32-d16-fp16.json     one file a bucket, replaced whole
"""

import functools
import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor
from triton.runtime.errors import OutOfResources, PTXASError

from recollect_kernels.tables import ScaledTable, Table

Kernel = Literal["behavior_search", "search_and_attend"]
"""Ops whose configuration is kept."""
_SOURCES = ("tiles/*.py", "behavior_search/triton.py", "search_and_attend/triton.py")
_ONE_PASS = 1_024
"""Behaviours up to which maxima of groups save nothing."""
_PROGRAMS = 1_024
"""Programs of the long pass that keep a large GPU busy; with more, each takes several tiles and prepares its targets
once for all of them."""
_MOST_TILES = 8
_FEW_TARGETS = 8
"""Targets of a history below which tensor cores, which take 16 at least, mostly multiply padding."""
_WIDEST = 32_768
"""Keys that one program chooses among at most: counts of them are packed in 16 bits."""
_MOST_GROUPS = 8_192
"""Groups of a history from which a wider group is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfiguration:
    """How one search is cut up; every number is a power of two."""

    group: int
    """Behaviours of which the long pass keeps one maximum; 0 scores the history in the selection, without it."""
    block_t: int
    """Targets of a tile on tensor cores, 16 at least; 0 takes one target after the other in plain arithmetic."""
    block_l: int
    """Behaviours of a tile of the long pass, at least a group."""
    tiles: int
    """Tiles of the history that one program takes in turn."""
    warps: int
    """Warps of a program of the long pass."""
    most_groups: int
    """Groups that the selection scores again at most, at least k; more spare steps of the bisection."""
    most: int
    """Behaviours that it puts in order at most, at least k."""
    chunk: int
    """Behaviours that it scores at a time."""
    select_warps: int
    """Warps of a program of the selection."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            may_be_zero = field.name in ("group", "block_t")
            if type(value) is not int or value < 0 or value & (value - 1) or (value == 0 and not may_be_zero):
                raise ValueError(f"{field.name} must be a power of two, got {value!r}")
        if self.group and (self.group > self.block_l or self.most_groups * self.group > _WIDEST):
            raise ValueError(
                f"a group must fit block_l = {self.block_l}, and most_groups = {self.most_groups} of them {_WIDEST} "
                f"candidates, got group = {self.group}"
            )
        if 0 < self.block_t < 16:
            raise ValueError(f"block_t must be 0, or 16 at least as tensor cores ask, got {self.block_t}")

    def check(self, k: int, longest: int) -> None:
        """Raise ValueError unless this serves a k and histories as long as `longest`."""
        if min(self.most, self.most_groups) < k:
            raise ValueError(f"most = {self.most} and most_groups = {self.most_groups} must be k = {k} at least")
        if longest > _WIDEST * max(1, self.group):
            raise ValueError(
                f"histories of {longest} behaviours are more than {_WIDEST} groups of {max(1, self.group)}; "
                f"cut them to {_WIDEST * 256} at most"
            )


class Bucket(NamedTuple):
    """Calls that share a configuration: sizes are rounded up to powers of two."""

    longest: int
    """Behaviours of the longest history."""
    targets: int
    """Targets a history."""
    histories: int
    """Histories a call."""
    k: int
    """Behaviours kept."""
    d: int
    """Width of a key row."""
    dtype: str
    """Storage of the key table: fp32, fp16, bf16, int8 or fp8."""

    def __str__(self) -> str:
        return f"l{self.longest}-t{self.targets}-b{self.histories}-k{self.k}-d{self.d}-{self.dtype}"


_DTYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int8: "int8",
    torch.float8_e4m3fn: "fp8",
}
"""What a table's storage is called in a bucket."""


def bucket_of(query: Tensor, keys: Table, k: int, longest: int) -> Bucket:
    """The bucket of a call; TypeError for a table of another type than the kernels read."""
    table = keys.rows if isinstance(keys, ScaledTable) else keys
    if table.dtype not in _DTYPES:
        raise TypeError(f"keys must be one of {', '.join(map(str, _DTYPES))} for Triton, got {table.dtype}")
    histories, targets, d = query.shape
    sizes = (longest, targets, histories, k, d)
    longest, targets, histories, k, d = (triton.next_power_of_2(max(1, size)) for size in sizes)
    return Bucket(longest, targets, histories, k, d, _DTYPES[table.dtype])


def default_configuration(bucket: Bucket) -> SearchConfiguration:
    """What is taken where nothing was measured: reasoned from bytes and registers.

    A wide group leaves few maxima to write, read and choose among, a narrow one few behaviours to score again (a row
    and its id for each of k groups). With 16 bytes' worth of work a maximum, the two balance at G² = 16 L / (k row
    bytes).
    """
    longest, targets, histories, k, d, dtype = bucket
    padded = max(16, triton.next_power_of_2(d))
    most_groups = 2 * k if k <= 64 else k
    one_pass = longest <= max(_ONE_PASS, 32 * k)
    row_bytes = 4 + d * {"fp32": 4, "fp16": 2, "bf16": 2}.get(dtype, 1)
    group = 16
    while 2 * group * group * k * row_bytes <= 16 * longest:
        group *= 2
    while longest // group > _MOST_GROUPS and most_groups * group < _WIDEST:
        group *= 2
    candidates = longest if one_pass else most_groups * group
    keys = candidates if one_pass else max(candidates, longest // group)
    select_warps = min(16, max(1 if one_pass else 4, keys // 512, min(candidates, 256) * padded // 2_048))
    few = targets < _FEW_TARGETS
    block_t = 0 if few else min(64, max(16, targets))  # 64 rows of targets fill a tensor core instruction of sm_90
    block_l = max(group, 8_192 // padded if few else 128)
    programs = histories * (1 if few else max(1, targets // block_t)) * longest // block_l
    return SearchConfiguration(
        group=0 if one_pass else group,
        block_t=block_t,
        block_l=block_l,
        tiles=1 if few else triton.next_power_of_2(min(_MOST_TILES, max(1, programs // _PROGRAMS))),
        warps=4,
        most_groups=most_groups,
        most=max(16, 2 * k if k <= 32 else k),
        chunk=select_warps * 2_048 // padded,
        select_warps=select_warps,
    )


def neighbours(around: SearchConfiguration, bucket: Bucket) -> list[SearchConfiguration]:
    """`around` itself, and the configurations worth a measurement that differ from it in one or two respects."""
    changes: list[dict[str, int]] = [{}]
    for warps in (1, 2, 4, 8, 16):
        changes += [{"select_warps": warps, "chunk": around.chunk * factor // 2} for factor in (1, 2, 4)]
    tight = triton.next_power_of_2(max(16, bucket.k))
    changes += [{"most": tight}, {"most": 2 * tight}]
    if around.group:
        changes += [{"most_groups": bucket.k}, {"most_groups": 2 * bucket.k}]
        for group in (around.group // 2, around.group * 2):
            changes.append({"group": group, "block_l": max(group, around.block_l)})
        if around.block_t:
            changes += [{"block_l": length, "tiles": tiles} for length in (64, 128, 256) for tiles in (1, 2, 4, 8)]
            changes += [{"block_t": rows, "warps": 4} for rows in (16, 32, 64, 128)] + [{"block_t": 128, "warps": 8}]
        else:
            changes += [{"block_l": length} for length in (128, 256, 512, 1_024)] + [{"block_t": 16}]
    found = []
    for change in changes:
        try:
            neighbour = replace(around, **change)
            neighbour.check(bucket.k, bucket.longest)
        except ValueError:  # an extreme configuration has no neighbours on one side
            continue
        found.append(neighbour)
    return list(dict.fromkeys(found))


_known: dict[tuple[str, Kernel, Bucket], SearchConfiguration] = {}
"""What this process has looked up, so that a call never reads a file twice."""


def configuration(kernel: Kernel, bucket: Bucket, device: torch.device) -> SearchConfiguration:
    """The measured configuration where there is one for this device, Triton and source, else the default. Never
    measures.

    A file that cannot be read as one is named in a warning and passed over.
    """
    path = _path(kernel, bucket, device)
    key = (str(path.parent), kernel, bucket)
    if key not in _known:
        _known[key] = _read(path, bucket) or default_configuration(bucket)
    return _known[key]


def tune(
    kernel: Kernel, bucket: Bucket, device: torch.device, measure: Callable[[SearchConfiguration], float]
) -> SearchConfiguration:
    """Find a configuration that none of its neighbours beats, beginning with the default, and keep it on disk and for
    this process.

    `measure` returns a time in any unit, and inf for a configuration that cannot run. Raises RuntimeError where none
    can.
    """
    best = default_configuration(bucket)
    times: dict[SearchConfiguration, float] = {}
    while True:
        for each in neighbours(best, bucket):
            if each not in times:
                times[each] = measure(each)
        fastest = min(times, key=lambda each: times[each])
        if fastest == best:
            break
        best = fastest
    if times[best] == float("inf"):
        raise RuntimeError(f"none of {len(times)} configurations of {kernel} runs at {bucket} on {device}")
    path = _path(kernel, bucket, device)
    _write(path, best)
    _known[str(path.parent), kernel, bucket] = best
    return best


def tune_shape(
    query: Float[Tensor, "b t d"],
    keys: Table,
    rows: Int[Tensor, " e"],
    offsets: Int[Tensor, " b+1"],
    k: int,
    *,
    longest: int,
    values: Table | None = None,
    recency_bias: Float[Tensor, " p"] | None = None,
    recency_values: Float[Tensor, "q r"] | None = None,
    time: Callable[[Callable[[], Any]], float] | None = None,
) -> SearchConfiguration:
    """Measure one call on its own arguments and keep what is fastest for its bucket: `behavior_search`, or with
    `values` `search_and_attend`.

    `time` runs a call and returns how long it took; by default
    `triton.testing.do_bench`, which needs a GPU.
    """
    from recollect_kernels.behavior_search.triton import search
    from recollect_kernels.search_and_attend.triton import search_and_attend

    bucket = bucket_of(query, keys, k, longest)
    timed = time if time is not None else functools.partial(triton.testing.do_bench, return_mode="median")

    def measure(candidate: SearchConfiguration) -> float:
        def call() -> object:
            if values is None:
                return search(query, keys, rows, offsets, k, recency_bias, longest, candidate)
            return search_and_attend(
                query, keys, values, rows, offsets, k, recency_bias, recency_values, longest, candidate
            )

        try:
            return timed(call)
        except (OutOfResources, PTXASError):  # more shared memory or registers than the device has
            return float("inf")

    return tune("behavior_search" if values is None else "search_and_attend", bucket, query.device, measure)


def cache_directory() -> Path:
    """Where configurations are kept on this machine."""
    if given := os.environ.get("RECOLLECT_KERNELS_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recollect-kernels"


def _path(kernel: Kernel, bucket: Bucket, device: torch.device) -> Path:
    return cache_directory() / _fingerprint(device) / f"{kernel}-{bucket}.json"


@functools.cache
def _fingerprint(device: torch.device) -> str:
    """What a measurement holds for: the device, Triton and the kernels' source."""
    name = "interpreter"
    if device.type == "cuda":
        capability = "".join(map(str, torch.cuda.get_device_capability(device)))
        name = f"{torch.cuda.get_device_name(device)}-sm{capability}"
    package = Path(__file__).parent
    source = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(package.glob(pattern)):
            source.update(path.read_bytes())
    return re.sub(r"[^\w.-]+", "-", f"{name}-triton{triton.__version__}-{source.hexdigest()[:12]}")


def _read(path: Path, bucket: Bucket) -> SearchConfiguration | None:
    try:
        text = path.read_text(encoding="utf-8")
        found = SearchConfiguration(**json.loads(text))
        found.check(bucket.k, bucket.longest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:  # ValueError: no text, no JSON, or no such configuration
        warnings.warn(f"{path} holds no configuration ({error}); the default is taken, delete the file", stacklevel=3)
        return None
    return found


def _write(path: Path, best: SearchConfiguration) -> None:
    """Replace the file whole, so that no reader and no other writer ever sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(best), file, indent=1)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
