"""Compute on GPUs what FAISS can compute on them: the nearest of many centres, most of the work of training lists.

A FAISS that knows GPUs comes with the extra `gpu` and takes the place of faiss-cpu. Without one, or where it sees no
GPU (CUDA_VISIBLE_DEVICES hides them) or cannot use it, the processor computes. What is saved is the same either way: an
index for any machine.
"""

import logging
from typing import Any

_logger = logging.getLogger(__name__)


def on_gpus(flat: Any) -> Any | None:
    """A faiss.IndexFlat on all GPUs that FAISS sees, with what is in it; None where it sees none that it can use."""
    import faiss

    if not faiss.get_num_gpus():
        return None
    try:
        return faiss.index_cpu_to_all_gpus(flat)
    except RuntimeError as error:
        without_gpus(error)
        return None


def without_gpus(error: RuntimeError) -> None:
    """Say that the processor does what a GPU could not, such as one whose memory others have."""
    _logger.warning("no GPU finds the centres of lists, the processor does: %s", error)
