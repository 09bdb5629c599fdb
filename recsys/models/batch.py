"""Carry ragged histories and their targets to a model without padding."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Int32, Int64, UInt8
from torch import Tensor

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet


class Used(NamedTuple):
    """A batch renumbered into the items that it uses."""

    rows: Int[Tensor, " e"]
    """Histories, one behind the other."""
    targets: Int[Tensor, "b t"]
    items: Int64[Tensor, " u"] | None
    """Item row of each number, ascending; None where the numbers are item rows, the whole catalogue being used."""


class Batch(NamedTuple):
    """B histories, oldest behaviour first, and T targets for each."""

    rows: Int32[Tensor, " e"]
    """Item rows of all histories, one behind the other."""
    offsets: Int64[Tensor, " b+1"]
    """History b is rows[offsets[b] : offsets[b + 1]]."""
    targets: Int32[Tensor, "b t"]
    """Item rows of the targets."""
    labels: UInt8[Tensor, "b t"]
    """1 where the user chose the target."""
    longest: int
    """Length of the longest history, so that no kernel has to ask the device for it."""
    used: Used | None = None
    """What `used_items` makes of this batch, where it has been asked already."""

    @property
    def n_samples(self) -> int:
        """B · T."""
        return self.targets.numel()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        tensors = ("rows", "offsets", "targets", "labels")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in tensors}
        return self._replace(**moved, used=None)


def used_items(batch: Batch, n_rows: int) -> Used:
    """Rows and targets renumbered into the items that the batch uses, and those items.

    A catalogue smaller than the batch is used whole: joining all of it costs less than finding what is used.
    """
    if batch.used is not None:
        return batch.used
    ids = torch.cat([batch.rows, batch.targets.flatten()])
    if len(ids) >= n_rows:
        return Used(batch.rows, batch.targets, None)
    items, numbers = torch.unique(ids.long(), return_inverse=True)
    return Used(numbers[: len(batch.rows)], numbers[len(batch.rows) :].view(batch.targets.shape), items)


def collate(store: EventStore, samples: SampleSet) -> Batch:
    """Read the histories of `samples` from the store's memory map; no Python runs per sample."""
    lengths = samples.ends - samples.begins
    offsets = np.zeros(len(samples) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    source = np.arange(offsets[-1]) + np.repeat(samples.begins - offsets[:-1], lengths)
    return Batch(
        rows=torch.from_numpy(store.items[source]),
        offsets=torch.from_numpy(offsets),
        targets=torch.from_numpy(samples.targets),
        labels=torch.from_numpy(samples.labels),
        longest=int(lengths.max(initial=0)),
    )
