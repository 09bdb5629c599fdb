"""Data sets of composed retrieval, one file per published format, all read into one form."""

from collections.abc import Callable
from pathlib import Path

from retrieval.composed.datasets.circo import read_circo
from retrieval.composed.datasets.cirr import read_cirr
from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery, require_pictures
from retrieval.composed.datasets.fashioniq import read_fashioniq
from retrieval.composed.datasets.folders import read_folders
from retrieval.composed.datasets.oacirr import read_oacirr
from retrieval.errors import DatasetError

__all__ = ["KINDS", "ComposedDataset", "ComposedQuery", "load_dataset"]

KINDS: dict[str, Callable[[Path, str], ComposedDataset]] = {
    "oacirr": read_oacirr,
    "cirr": read_cirr,
    "fashioniq": read_fashioniq,
    "circo": read_circo,
    "folders": read_folders,
}
"""Name of a format → what reads a split of it."""


def load_dataset(kind: str, directory: Path, split: str) -> ComposedDataset:
    """Read `split` of the data set in `directory`; DatasetError says what is missing or wrong, and where."""
    if kind not in KINDS:
        raise DatasetError(f"no data set format {kind!r}; there are {', '.join(KINDS)}")
    if not directory.is_dir():
        raise DatasetError(f"{directory} is no directory; name the folder that the data set was unpacked into")
    dataset = KINDS[kind](directory, split)
    require_pictures(dataset)
    return dataset
