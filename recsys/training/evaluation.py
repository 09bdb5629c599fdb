"""Score every sample of a split, the last partial batch included, and measure the result."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recsys.data.event_store import EventStore
from recsys.data.samples import SampleSet
from recsys.models.batch import collate
from recsys.models.model import Scorer
from recsys.training.metrics import Metrics, measure


def predict(
    serving: Scorer,
    store: EventStore,
    samples: SampleSet,
    *,
    batch_size: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """[G, T] probabilities of interest; `progress` is called with the groups that each batch finished."""
    scores = np.empty(samples.targets.shape, dtype=np.float32)
    step = max(1, batch_size // samples.targets_per_group)
    for start in range(0, len(samples), step):
        index = np.arange(start, min(start + step, len(samples)))
        batch = collate(store, samples.take(index)).to(serving.device)
        found, _ = serving.score(batch.rows, batch.offsets, batch.targets, longest=batch.longest)
        scores[index] = found.cpu().numpy()
        if progress is not None:
            progress(len(index))
    return scores


def evaluate(
    serving: Scorer,
    store: EventStore,
    samples: SampleSet,
    *,
    batch_size: int = 2048,
    progress: Callable[[int], None] | None = None,
) -> Metrics:
    """Metrics of `serving` on `samples`."""
    scores = predict(serving, store, samples, batch_size=batch_size, progress=progress)
    users = np.broadcast_to(samples.users[:, None], samples.targets.shape)
    return measure(scores, samples.labels, users)
