"""Files for the evaluation servers of CIRR and CIRCO, whose test targets nobody else knows."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery
from retrieval.composed.evaluation import Evaluation
from retrieval.errors import ComposedError
from retrieval.files import write_whole

_CIRR_VERSION = "rc2"
_CIRR_SUBSET = 3
_DEEPEST = 50


def write_cirr(dataset: ComposedDataset, evaluation: Evaluation, directory: Path) -> tuple[Path, Path]:
    """`recall.json` and `recall_subset.json` for CIRR's server: the first 50, and the first 3 of the subset.

    ComposedError where the data set or the evaluation is another, a ranking holds its reference, or is too short.
    """
    _require(dataset, evaluation, "cirr")
    whole, subset = {}, {}
    if len(evaluation.subset_rankings) != len(dataset.queries):
        raise ComposedError(
            f"each of CIRR's {len(dataset.queries)} queries must have a subset, got {len(evaluation.subset_rankings)}; "
            "unpack the captions again"
        )
    for query, ranking, own in zip(dataset.queries, evaluation.rankings, evaluation.subset_rankings, strict=True):
        if query.reference in ranking:
            raise ComposedError(f"the ranking of pair {query.query_id} must not hold its reference {query.reference!r}")
        _deep_enough(query, ranking, min(_DEEPEST, len(dataset.images) - 1))
        _deep_enough(query, own, _CIRR_SUBSET)
        whole[query.query_id] = list(ranking[:_DEEPEST])
        subset[query.query_id] = list(own[:_CIRR_SUBSET])
    return (
        _write(directory / "recall.json", {"version": _CIRR_VERSION, "metric": "recall", **whole}),
        _write(directory / "recall_subset.json", {"version": _CIRR_VERSION, "metric": "recall_subset", **subset}),
    )


def write_circo(dataset: ComposedDataset, evaluation: Evaluation, directory: Path) -> Path:
    """`submission.json` for CIRCO's server: 50 ids of pictures for each query.

    ComposedError where the data set or the evaluation is another, or a ranking is too short.
    """
    _require(dataset, evaluation, "circo")
    content = {}
    for query, ranking in zip(dataset.queries, evaluation.rankings, strict=True):
        _deep_enough(query, ranking, min(_DEEPEST, len(dataset.images)))
        content[query.query_id] = [int(name) for name in ranking[:_DEEPEST]]
    return _write(directory / "submission.json", content)


def _require(dataset: ComposedDataset, evaluation: Evaluation, name: str) -> None:
    if dataset.name != name:
        raise ComposedError(f"a submission to {name} must be of data set {name}, got {dataset.name}")
    if len(evaluation.rankings) != len(dataset.queries):
        raise ComposedError(
            f"split {dataset.split!r} has {len(dataset.queries)} queries, and the evaluation ranked for "
            f"{len(evaluation.rankings)}; evaluate that split"
        )
    twice = [each for each, count in Counter(query.query_id for query in dataset.queries).items() if count > 1]
    if twice:
        raise ComposedError(f"query {twice[0]} is there more than once; the server takes one answer for each")


def _deep_enough(query: ComposedQuery, ranking: Sequence[str], wanted: int) -> None:
    if len(ranking) < wanted:
        raise ComposedError(f"query {query.query_id} must have {wanted} pictures ranked, got {len(ranking)}")


def _write(path: Path, content: Mapping[str, Any]) -> Path:
    write_whole(path, json.dumps(content))
    return path
