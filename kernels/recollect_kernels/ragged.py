"""Lay ragged histories out as a rectangle and check that they are well formed."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def check_ragged(rows: Tensor, offsets: Tensor, batch: int) -> None:
    """Raise ValueError unless `rows` [E] and `offsets` [batch + 1] have the shapes and types of ragged histories."""
    if rows.dim() != 1 or rows.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"rows must be [E] int32 or int64, got {tuple(rows.shape)} {rows.dtype}")
    if offsets.shape != (batch + 1,) or offsets.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"offsets must be [{batch + 1}] int32 or int64 for a query of {batch} histories, "
            f"got {tuple(offsets.shape)} {offsets.dtype}"
        )


def longest_history(rows: Int[Tensor, " e"], offsets: Int[Tensor, " b_and_one"], n_rows: int) -> int:
    """Length of the longest history; reads all values, which waits for the device.

    Raises ValueError unless offsets ascend from 0 to E and every row lies within a table of `n_rows`.
    """
    lengths = offsets.diff()
    shortest, longest = (int(bound) for bound in lengths.aminmax()) if len(lengths) else (0, 0)
    first, last = int(offsets[0]), int(offsets[-1])
    if shortest < 0 or first != 0 or last != len(rows):
        at = int(lengths.argmin()) if shortest < 0 else None
        found = f"from {first} to {last}" if at is None else f"{int(offsets[at])} before {int(offsets[at + 1])} at {at}"
        raise ValueError(f"offsets must ascend from 0 to {len(rows)}, the number of rows, got {found}")
    if len(rows):
        smallest, largest = (int(bound) for bound in rows.aminmax())
        if smallest < 0 or largest >= n_rows:
            at = int(((rows < 0) | (rows >= n_rows)).nonzero()[0])
            raise ValueError(
                f"rows must lie in [0, {n_rows}), the table's rows, got {int(rows[at])} at {at}; "
                "give an unknown item a row of its own"
            )
    return longest


def subset(
    rows: Int[Tensor, " e"], offsets: Int[Tensor, " b_and_one"], which: Int[Tensor, " s"]
) -> tuple[Int[Tensor, " f"], Int[Tensor, " s_and_one"]]:
    """Rows and offsets of the histories `which`, in that order."""
    lengths = offsets.diff()[which]
    ends = lengths.cumsum(0)
    source = torch.arange(int(lengths.sum()), device=rows.device)
    source = source + torch.repeat_interleave(offsets[:-1][which] - (ends - lengths), lengths)
    return rows[source], torch.cat([ends.new_zeros(1), ends])


def pad_left(
    rows: Int[Tensor, " e"], offsets: Int[Tensor, " b_and_one"]
) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"], Int[Tensor, " b"]]:
    """Histories as a rectangle [B, L] that ends with each history's newest behaviour.

    Column c then means the same recency, L - 1 - c, in every history. Returns the rows (0 where padded), the mask of
    real behaviours, and the padding width of each history: column = position + width.
    """
    lengths = offsets.diff()
    longest = int(lengths.max()) if len(lengths) else 0
    width = longest - lengths  # [B]
    column = torch.arange(longest, device=rows.device)
    real = column >= width.unsqueeze(1)  # [B, L]
    source = offsets[:-1].unsqueeze(1) + column - width.unsqueeze(1)
    if len(rows) == 0:
        return torch.zeros_like(source), real, width
    return rows[source.clamp(min=0)].long().masked_fill(~real, 0), real, width
