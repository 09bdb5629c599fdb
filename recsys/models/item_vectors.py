"""The items of a model as vectors, for an index of what is alike."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from recsys.models.directory import load_dare


def item_vectors(directory: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ids [V], ascending, of a model directory's items, and their representation rows [V, 2·d_r].

    A row joins the item's representation and its category's, which say what the model thinks of the item whatever it
    is compared with (arXiv 2410.02604 keeps them apart from attention's). StoreError where the model cannot be read.
    """
    saved = load_dare(directory)
    with torch.no_grad():
        rows = saved.model.representation.joined(None, saved.model.category_of_item)
    return saved.catalogue.item_ids[1:], rows[1:].numpy()
