"""What this machine can do at best, measured, and how long an op must take by that."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from recollect_kernels.benchmarks.shapes import TableDtype

_ATTEMPTS = 7
"""The best of these counts: a floor is what the machine can do, not what it does on average."""
_BAG = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What an op cannot avoid: with everything read once and written once, and nothing kept in between."""

    gathered: tuple[tuple[int, int], ...]
    """(rows, bytes a row) that are read from anywhere in a table."""
    streamed: int
    """Bytes that lie one behind the other: ids, bias, query, results."""
    operations: int
    """Multiplications and additions of the products."""


class Floors:
    """The measured limits of one device; each is measured when it is first asked for and then kept."""

    def __init__(self, device: str, *, buffer_bytes: int | None = None, matrix: int | None = None) -> None:
        self._device = device
        on_gpu = device == "cuda"
        self._buffer_bytes = buffer_bytes or (1 << 30 if on_gpu else 1 << 28)
        self._matrix = matrix or (8192 if on_gpu else 2048)
        self._kept: dict[object, float] = {}

    def floor_us(self, work: Work, table: TableDtype, vocabulary: int) -> float:
        """max(bytes / bandwidth, operations / throughput) in microseconds.

        bytes / bandwidth = Σ rows · bytes a row / gather bandwidth of such rows + streamed bytes / copy bandwidth.
        """
        moving = work.streamed / self.copy_bandwidth()
        moving += sum(rows * width / self.gather_bandwidth(width, vocabulary) for rows, width in work.gathered)
        return 1e6 * max(moving, work.operations / self.throughput(table))

    def copy_bandwidth(self) -> float:
        """Bytes a second of a large copy, read and written ones counted."""
        return self._once("copy", self._measure_copy)

    def gather_bandwidth(self, row_bytes: int, vocabulary: int) -> float:
        """Bytes a second of rows read at random from a table of `vocabulary` rows.

        The rows are added up as they come, so that next to nothing is written.
        """
        return self._once((row_bytes, vocabulary), lambda: self._measure_gather(row_bytes, vocabulary))

    def throughput(self, table: TableDtype) -> float:
        """Operations a second of a large square matrix product.

        In fp32; on a GPU, rows that are narrower may be multiplied in half precision, and that is measured for them.
        """
        narrow = self._device == "cuda" and table != "float32"
        dtype = torch.float32 if not narrow else torch.bfloat16 if table == "bfloat16" else torch.float16
        return self._once(dtype, lambda: self._measure_product(dtype))

    def _once(self, what: object, measure: Callable[[], float]) -> float:
        if what not in self._kept:
            with torch.inference_mode():
                self._kept[what] = measure()
        return self._kept[what]

    def _measure_copy(self) -> float:
        source = torch.ones(self._buffer_bytes // 4, device=self._device)
        to = torch.empty_like(source)
        return 2 * source.numel() * 4 / self._best_seconds(lambda: to.copy_(source))

    def _measure_gather(self, row_bytes: int, vocabulary: int) -> float:
        table = torch.ones(vocabulary, -(-row_bytes // 4), device=self._device)
        drawn = max(_BAG, self._buffer_bytes // 256 // _BAG * _BAG)
        ids = torch.randint(0, vocabulary, (drawn,), generator=torch.Generator().manual_seed(0)).to(self._device)
        bags = torch.arange(0, drawn, _BAG, device=self._device)
        return drawn * row_bytes / self._best_seconds(lambda: embedding_bag(ids, table, bags, mode="sum"))

    def _measure_product(self, dtype: torch.dtype) -> float:
        n = self._matrix
        one, other = (torch.randn(n, n, device=self._device, dtype=dtype) for _ in range(2))
        to = torch.empty_like(one)
        return 2 * n**3 / self._best_seconds(lambda: torch.mm(one, other, out=to))

    def _best_seconds(self, work: Callable[[], Tensor]) -> float:
        seconds = []
        for _ in range(_ATTEMPTS + 1):
            self._wait()
            began = time.perf_counter()
            work()
            self._wait()
            seconds.append(time.perf_counter() - began)
        return min(seconds[1:])

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()
