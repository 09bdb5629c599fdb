"""Metrics of composed retrieval against rankings worked out by hand."""

import pytest

from retrieval.composed import metrics

RANKINGS = [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["b", "a"]]


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        pytest.param(1, 0.0, id="none is first"),
        pytest.param(2, 1 / 3, id="one in two"),
        pytest.param(3, 2 / 3, id="two in three"),
        pytest.param(9, 2 / 3, id="a target that is not ranked is not found"),
    ],
)
def test_recall(k, expected):
    assert metrics.recall_at(RANKINGS, ["b", "b", "z"], k) == pytest.approx(expected)


def test_instance_recall_counts_any_picture_of_the_instance():
    instances = {"a": "cup/1", "b": "cup/2", "c": "cup/1", "d": "car/1"}
    wanted = ["cup/2", "cup/1", "car/1"]
    assert metrics.instance_recall_at(RANKINGS, wanted, instances, 1) == 0.0
    assert metrics.instance_recall_at(RANKINGS, wanted, instances, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("right", "k", "expected"),
    [
        # right at 1 and 3 of the four: (1/1 + 2/3) / 2
        pytest.param({"a", "c"}, 4, (1 + 2 / 3) / 2, id="both found"),
        pytest.param({"a", "c"}, 2, (1 + 0) / 2, id="one beyond the cut"),
        # three right answers, two places: divided by two, not by three
        pytest.param({"a", "b", "z"}, 2, 1.0, id="more right answers than places"),
        pytest.param({"z"}, 4, 0.0, id="none found"),
        pytest.param(set(), 4, 0.0, id="none exists"),
    ],
)
def test_average_precision(right, k, expected):
    assert metrics.average_precision_at(RANKINGS[0], right, k) == pytest.approx(expected)


def test_mean_average_precision_is_the_mean_over_queries():
    found = metrics.mean_average_precision_at(RANKINGS[:2], [{"a"}, {"a"}], 4)
    assert found == pytest.approx((1 + 1 / 4) / 2)


def test_a_subset_is_ranked_by_itself_and_equal_scores_keep_its_order():
    scores = {"x": 0.2, "y": 0.9, "z": 0.2}
    assert metrics.subset_ranking(scores, ["x", "z", "y"]) == ["y", "x", "z"]


def test_every_category_counts_the_same():
    hits = [1.0, 1.0, 1.0, 0.0]

    def recall(places):
        return {"r@1": sum(hits[at] for at in places) / len(places)}

    # car 3 of 3, cup 0 of 1: one half, not three quarters
    assert metrics.mean_over_categories(["car", "car", "car", "cup"], recall) == {"r@1": pytest.approx(0.5)}
