"""Files for evaluation servers hold every query once, as deep as asked, or are not written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from retrieval.composed.datasets.dataset import ComposedDataset, ComposedQuery
from retrieval.composed.evaluation import Evaluation
from retrieval.composed.submission import write_circo, write_cirr
from retrieval.errors import ComposedError


def dataset(name, queries, names):
    return ComposedDataset(name=name, split="test", images=dict.fromkeys(names), queries=tuple(queries))


def evaluation(rankings, subsets=()):
    return Evaluation(
        metrics={},
        by_category={},
        by_kind={},
        rankings=tuple(map(tuple, rankings)),
        subset_rankings=tuple(map(tuple, subsets)),
        beta=np.ones((len(rankings), 1), dtype=np.float32),
        truncated=0,
    )


def cirr(*pairs, names="abcdefg"):
    return dataset("cirr", [ComposedQuery(query_id=pair, reference="a", text="two dogs") for pair in pairs], names)


def circo(*numbers, pictures=60):
    queries = [ComposedQuery(query_id=number, reference="1", text="at night") for number in numbers]
    return dataset("circo", queries, map(str, range(1, pictures + 1)))


def numbered(*places):
    return [str(place) for place in places]


def test_cirr_has_a_file_for_each_metric(tmp_path):
    found = evaluation(["bcdefg", "gfedcb"], ["dfhb", "bcd"])
    files = write_cirr(cirr("7", "8"), found, tmp_path / "out")
    assert [path.name for path in files] == ["recall.json", "recall_subset.json"]
    recall, subset = (json.loads(path.read_text()) for path in files)
    assert recall == {"version": "rc2", "metric": "recall", "7": list("bcdefg"), "8": list("gfedcb")}
    assert subset == {"version": "rc2", "metric": "recall_subset", "7": list("dfh"), "8": list("bcd")}


def test_cirr_takes_fifty(tmp_path):
    names = ["a", *numbered(*range(60))]
    found = evaluation([names[1:]], ["123"])
    recall, _ = write_cirr(cirr("7", names=names), found, tmp_path)
    assert json.loads(recall.read_text())["7"] == numbered(*range(50))


def test_circo_takes_fifty_numbers(tmp_path):
    path = write_circo(circo("0"), evaluation([numbered(*range(60, 0, -1))]), tmp_path)
    assert json.loads(path.read_text()) == {"0": list(range(60, 10, -1))}


def test_circo_may_hold_the_reference(tmp_path):
    """Its protocol does not take the reference out."""
    path = write_circo(circo("0", pictures=3), evaluation([["1", "3", "2"]]), tmp_path)
    assert json.loads(path.read_text()) == {"0": [1, 3, 2]}


@pytest.mark.parametrize(
    ("pairs", "rankings", "subsets", "match"),
    [
        pytest.param("7", ["bacdefg"], ["bcd"], "pair 7 must not hold its reference 'a'", id="the reference"),
        pytest.param("7", ["bcdef"], ["bcd"], "query 7 must have 6 pictures ranked, got 5", id="short"),
        pytest.param("7", ["bcdefg"], ["bc"], "query 7 must have 3 pictures ranked, got 2", id="short subset"),
        pytest.param("7", ["bcdefg"], [], "each of CIRR's 1 queries must have a subset, got 0", id="no subset"),
        pytest.param("78", ["bcdefg"], ["bcd"], "has 2 queries, and the evaluation ranked for 1", id="a query short"),
        pytest.param("77", ["bcdefg"] * 2, ["bcd"] * 2, "query 7 is there more than once", id="a query twice"),
    ],
)
def test_cirr_refuses_what_the_server_would(tmp_path, pairs, rankings, subsets, match):
    with pytest.raises(ComposedError, match=match):
        write_cirr(cirr(*pairs), evaluation(rankings, subsets), tmp_path)
    assert not list(tmp_path.iterdir())


def test_circo_refuses_a_short_ranking(tmp_path):
    with pytest.raises(ComposedError, match="query 0 must have 50 pictures ranked, got 49"):
        write_circo(circo("0"), evaluation([numbered(*range(1, 50))]), tmp_path)


@pytest.mark.parametrize("name", ["cirr", "folders"])
def test_a_submission_of_another_data_set_is_refused(tmp_path, name):
    other = replace(circo("0", pictures=3), name=name)
    with pytest.raises(ComposedError, match=f"must be of data set circo, got {name}"):
        write_circo(other, evaluation([["1", "2", "3"]]), tmp_path)
