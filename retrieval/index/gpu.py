"""Compute on GPUs what FAISS can compute on them: the nearest of many centres, as often as those move.

A FAISS that knows GPUs comes with the extra `gpu` and takes the place of faiss-cpu. Without one, or where it sees no
GPU (CUDA_VISIBLE_DEVICES hides them) or cannot use it, the processor computes. What is saved is the same either way: an
index for any machine.
"""

import logging
from typing import Any

from retrieval.index.search import Floats

_logger = logging.getLogger(__name__)


def train_on_gpus(index: Any, lists: Any, sample: Floats) -> None:
    """Train `index` on `sample` [n, d], with the centres of `lists`, the faiss.IndexIVF in it, found by all GPUs that
    FAISS sees. Where it sees none that can, `index` stays as it is."""
    import faiss

    if not faiss.get_num_gpus():
        return
    try:
        nearest = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(lists.d))
        lists.clustering_index = nearest  # FAISS keeps no reference: `nearest` lives until it is taken away
        index.train(sample)
    except RuntimeError as error:  # others may have a GPU's memory
        _logger.warning("no GPU finds the centres of lists, the processor does: %s", error)
    finally:
        lists.clustering_index = None
