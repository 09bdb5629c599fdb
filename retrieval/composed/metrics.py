"""How well rankings answer composed queries, by the published protocols of OACIRR, CIRR, FashionIQ and CIRCO."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
Ranking = Sequence[str]
"""Names of pictures, best first, none twice."""

OACIRR_RECALLS, OACIRR_INSTANCE_RECALLS = (1, 5, 10, 50), (1, 3, 5)
CIRR_RECALLS, CIRR_SUBSET_RECALLS = (1, 5, 10, 50), (1, 2, 3)
FASHIONIQ_RECALLS = (10, 50)
CIRCO_CUTS = (5, 10, 25, 50)
DEEPEST = 50
"""Places of a ranking that any metric looks at."""


def recall_at(rankings: Sequence[Ranking], targets: Sequence[str], k: int) -> float:
    """Share of the queries whose target is among the first k."""
    return _share(target in ranking[:k] for ranking, target in zip(rankings, targets, strict=True))


def instance_recall_at(
    rankings: Sequence[Ranking], wanted: Sequence[str], instances: Mapping[str, str], k: int
) -> float:
    """R_ID@k: share of the queries for which any of the first k pictures shows the wanted instance.

    A picture that is not in `instances` shows one of its own, which has the picture's name.
    """
    return _share(
        any(instances.get(name, name) == instance for name in ranking[:k])
        for ranking, instance in zip(rankings, wanted, strict=True)
    )


def average_precision_at(ranking: Ranking, right: Collection[str], k: int) -> float:
    """AP@k of CIRCO: precision at each right place, summed, by min(number of right answers, k)."""
    found, total = 0, 0.0
    for place, name in enumerate(ranking[:k], start=1):
        if name in right:
            found += 1
            total += found / place
    return total / min(len(right), k) if right else 0.0


def mean_average_precision_at(rankings: Sequence[Ranking], right: Sequence[Collection[str]], k: int) -> float:
    """mAP@k: the mean of AP@k over queries."""
    each = [average_precision_at(ranking, answers, k) for ranking, answers in zip(rankings, right, strict=True)]
    return float(np.mean(each)) if each else 0.0


def subset_ranking(scores: Mapping[str, float], subset: Sequence[str]) -> list[str]:
    """The pictures of a CIRR subset, best first; of equal ones the first of the subset."""
    return sorted(subset, key=lambda name: -scores[name])


def mean_over_categories(categories: Sequence[str], metrics: Callable[[Places], dict[str, float]]) -> dict[str, float]:
    """Each metric's mean over categories, every category counting the same; `metrics` takes places of queries."""
    names = sorted(set(categories))
    given = np.array(categories)
    each = [metrics(np.flatnonzero(given == name)) for name in names]
    return {metric: float(np.mean([one[metric] for one in each])) for metric in each[0]} if each else {}


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else 0.0
