"""Contenders measured on users whose answers are known; what an evaluation may not know stays unknown to it."""

import numpy as np
import pytest

from recsys.data.protocols import TimeSplit
from recsys.errors import ConfigError
from recsys.models.popularity import Popularity
from recsys.recommending.contenders import SERVED, Answer
from recsys.recommending.evaluation import CANDIDATE_CUTS, CUTS, evaluate
from recsys.recommending.held_out import held_out
from recsys.recommending.together import TakenTogether

SPLIT = TimeSplit(validation_from_ms=100, test_from_ms=200, min_events=2, min_history=0, train_stride=1)


@pytest.fixture
def asked(store_of):
    """User a takes 3 and 4 anew and 1 again, b takes 5 anew, c takes 2 again."""
    store = store_of(
        {
            "a": [(1, 10), (2, 20), (3, 210), (4, 220), (1, 230)],
            "b": [(2, 10), (5, 250)],
            "c": [(2, 10), (2, 250)],
        },
        items=10,
    )
    return held_out(store, SPLIT, "test")


def constant(*rows, candidates=()):
    def answer(history, again):
        return Answer(candidates=100 * np.array([*rows, *candidates]), ranked=100 * np.array(rows))

    return answer


def test_figures_by_hand(asked):
    found = evaluate(asked, {SERVED: constant(9, 3, candidates=[4]), "other": constant(5, 3)}, again=False)
    assert (found.again, found.users, found.targets) == (False, 2, 3)  # c took nothing that was new
    served, other = found.rows
    assert [row.contender for row in found.rows] == [SERVED, "other"]
    assert served.figures["recall@10"].value == (1 / 2 + 0) / 2
    assert served.figures["recall@10"].error == pytest.approx(1 / 4)  # of 1/2 and 0
    assert served.figures["hit_rate@20"].value == 1 / 2
    assert served.figures["candidate_recall@50"].value == (1 + 0) / 2
    second = 1 / np.log2(3)
    assert served.figures["ndcg@20"].value == pytest.approx(second / (1 + second) / 2)
    assert other.figures["ndcg@20"].value == pytest.approx((second / (1 + second) + 1) / 2)
    assert other.difference.value == pytest.approx(1 / 2)
    assert other.difference.error == pytest.approx(1 / 2)  # of 0 and 1
    assert (served.difference.value, served.difference.error) == (0, 0)
    assert other.coverage["coverage@10"] == 2 / 10


def test_all_that_was_taken_is_wanted_again(asked):
    given = []

    def remembers(history, again):
        given.append((history.tolist(), again))
        return constant(2)(history, again)

    found = evaluate(asked, {SERVED: remembers}, again=True)
    assert (found.users, found.targets) == (3, 5)
    assert found.rows[0].figures["hit_rate@10"].value == 1 / 3
    # Nobody's history has what is asked for.
    assert given == [([100, 200], True), ([200], True), ([200], True)]


def test_a_row_tells_every_figure_with_its_error(asked):
    (row,) = evaluate(asked, {SERVED: constant(3)}, again=False).rows
    told = row.as_row()
    shown = [f"{name}@{cut}" for name in ("ndcg", "recall", "hit_rate") for cut in CUTS]
    figures = [*(f"candidate_recall@{cut}" for cut in CANDIDATE_CUTS), *shown, "ndcg@20_difference"]
    assert set(told) == {
        "contender",
        *figures,
        *(f"{name}_error" for name in figures),
        *(f"coverage@{n}" for n in CUTS),
    }
    assert told["recall@10"] == pytest.approx(1 / 4)


def test_without_users_there_are_no_figures(store_of):
    store = store_of({"c": [(2, 10), (2, 250)]}, items=10, name="repeats")
    found = evaluate(held_out(store, SPLIT, "test"), {SERVED: constant(3)}, again=False)
    assert (found.users, found.targets) == (0, 0)
    told = found.rows[0].as_row()
    assert told["recall@10"] is None
    assert told["coverage@10"] == 0


def test_progress_is_told_and_what_is_served_must_be_there(asked):
    steps = []
    evaluate(asked, {SERVED: constant(1)}, again=True, progress=steps.append)
    assert steps == [1, 1, 1]
    with pytest.raises(ConfigError, match="contenders must have 'recommend'"):
        evaluate(asked, {"popular": constant(1)}, again=True)


def test_what_counts_before_the_split_does_not_depend_on_what_comes_after(store_of):
    """Events from the split on change nothing of histories, popularity and what is taken together."""
    before = {"a": [(1, 10), (2, 10)], "b": [(1, 10), (3, 90)], "c": [(4, 95)]}
    logs = (
        {user: [*events, (1, 210)] for user, events in before.items()},
        {user: [*events, (9, 210), (7, 210), (4, 300)] for user, events in before.items()},
    )
    known = []
    for number, log in enumerate(logs):
        store = store_of(log, name=f"store-{number}")
        asked = held_out(store, SPLIT, "test")
        training = SPLIT.training_events(store)
        popularity, together = Popularity.of(store, training), TakenTogether(store, training)
        ids, cosines = together.nearest(store.catalogue.item_ids[1:], 5)
        histories = [asked.history(at).tolist() for at in range(len(asked.users))]
        known.append(
            (histories, popularity.item_ids.tolist(), popularity.events.tolist(), ids.tolist(), cosines.tolist())
        )
    assert known[0] == known[1]
    assert known[0][0] == [[100, 200], [100, 300], [400]]
