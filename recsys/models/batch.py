"""Carry ragged histories and their targets to a model without padding."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64, UInt8
from torch import Tensor

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet


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

    @property
    def n_samples(self) -> int:
        """B · T."""
        return self.targets.numel()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in self._fields if name != "longest"}
        return self._replace(**moved)


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
