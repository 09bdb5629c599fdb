"""What a service does now is worked out from two readings, as Prometheus would."""

import math

import pytest

from recollect.telemetry.figures import figures, quantile
from recollect.telemetry.reading import Snapshot


def snapshot(at, **samples):
    return Snapshot(
        at=at,
        samples={
            f"recollect_{name}": {frozenset(labels): value for labels, value in values.items()}
            for name, values in samples.items()
        },
    )


def labels(**given):
    return tuple(given.items())


@pytest.mark.parametrize(
    ("share", "buckets", "value"),
    [
        (0.5, {1.0: 0, 2.0: 10, math.inf: 10}, 1.5),
        (0.99, {1.0: 0, 2.0: 100, math.inf: 100}, 1.99),
        (0.5, {1.0: 10, 2.0: 10, math.inf: 10}, 0.5),
        (0.99, {1.0: 10, math.inf: 20}, 1.0),
        (0.5, {1.0: 0, math.inf: 0}, None),
        (0.5, {}, None),
    ],
    ids=["the middle of a bucket", "its end", "the first bucket", "beyond the last bound", "nothing", "no buckets"],
)
def test_quantiles_are_those_of_prometheus(share, buckets, value):
    assert quantile(share, buckets) == (None if value is None else pytest.approx(value))


def test_rates_are_of_the_interval_alone():
    ok, lost = labels(method="Recommender/Score", code="OK"), labels(method="Recommender/Score", code="UNAVAILABLE")
    wrong = labels(method="Recommender/Score", code="INVALID_ARGUMENT")
    one, two, more = (labels(method="Recommender/Score", le=bound) for bound in ("0.01", "0.02", "+Inf"))
    before = snapshot(
        10.0,
        calls_total={ok: 1_000.0, lost: 5.0},
        call_duration_seconds_bucket={one: 900.0, two: 1_000.0, more: 1_005.0},
    )
    now = snapshot(
        12.0,
        calls_total={ok: 1_016.0, lost: 7.0, wrong: 2.0},
        call_duration_seconds_bucket={one: 900.0, two: 1_020.0, more: 1_025.0},
        calls_in_flight={labels(method="Recommender/Score"): 3.0, labels(method="Recommender/Recommend"): 1.0},
    )
    told = figures(before, now)
    assert told.seconds == 2.0
    score, recommend = told.methods
    assert (score.method, score.per_s, score.in_flight) == ("Recommender/Score", 10.0, 3)
    # A wrong request is not the service's failure.
    assert score.failing == pytest.approx(2 / 20)
    assert (score.p50_ms, score.p99_ms) == (pytest.approx(15.0), pytest.approx(19.9))
    assert (recommend.per_s, recommend.in_flight, recommend.p50_ms) == (0.0, 1, None)


def test_a_service_that_was_started_again_counts_from_nothing():
    ok = labels(method="Recommender/Score", code="OK")
    told = figures(snapshot(0.0, calls_total={ok: 1_000.0}), snapshot(1.0, calls_total={ok: 30.0}))
    assert told.methods[0].per_s == 30.0


def test_everything_else_that_is_told():
    before = snapshot(
        0.0,
        stage_duration_seconds_sum={labels(stage="ranking"): 1.0},
        stage_duration_seconds_count={labels(stage="ranking"): 10.0, labels(stage="searching"): 0.0},
        batch_size_sum={labels(work="ranking"): 0.0},
        batch_size_count={labels(work="ranking"): 0.0, labels(work="images"): 4.0},
    )
    score = ("method", "Recommender/Score")
    now = snapshot(
        2.0,
        stage_duration_seconds_sum={labels(stage="ranking"): 1.4},
        stage_duration_seconds_count={labels(stage="ranking"): 20.0, labels(stage="searching"): 0.0},
        batch_size_sum={labels(work="ranking"): 12.0},
        batch_size_count={labels(work="ranking"): 4.0, labels(work="images"): 4.0},
        queue_depth={labels(queue="ranking"): 7.0, labels(queue="images"): 0.0},
        calls_refused_total={
            labels(method="Recommender/Score", reason="OVERLOADED"): 4.0,
            labels(method="List", reason="X"): 0.0,
        },
        degraded_answers_total={
            (score, ("reason", "HISTORY_EMPTY")): 2.0,
            (("method", "Recommend"), ("reason", "HISTORY_EMPTY")): 4.0,
        },
        redis_errors_total={labels(method="Score"): 1.0},
        history_events_bucket={labels(le="100.0"): 0.0, labels(le="200.0"): 10.0, labels(le="+Inf"): 10.0},
        replicas_serving={
            labels(kind="model", name="dare", version="a"): 0.0,
            labels(kind="model", name="dare", version="b"): 2.0,
        },
        process_start_time_seconds={labels(role="gateway", version="1", pid="12"): 1_000.0},
    )
    told = figures(before, now)
    (stage,) = told.stages  # what never ran is not shown
    assert (stage.stage, stage.per_s, stage.mean_ms) == ("ranking", 5.0, pytest.approx(40.0))
    assert told.batches == {"ranking": 3.0}
    assert told.queues == {"ranking": 7, "images": 0}
    assert told.refused_per_s == {"OVERLOADED": 2.0}
    assert told.degraded_per_s == {"HISTORY_EMPTY": 3.0}
    assert told.redis_errors_per_s == 0.5
    assert (told.history_p50, told.history_p99) == (pytest.approx(150.0), pytest.approx(199.0))
    (version,) = told.serving
    assert (version.version, version.processes) == ("b", 2)
    (process,) = told.processes
    assert (process.role, process.pid, process.started) == ("gateway", 12, 1_000.0)


def test_how_far_a_canary_agrees_is_that_of_the_interval():
    two, three = labels(version="2"), labels(version="3")
    before = snapshot(
        0.0,
        canary_score_change_count={two: 10.0, three: 5.0},
        canary_score_change_sum={two: 5.0, three: 5.0},
        canary_top_shared_count={two: 10.0, three: 5.0},
        canary_top_shared_sum={two: 0.0, three: 5.0},
    )
    now = snapshot(
        2.0,
        canary_score_change_count={two: 14.0, three: 5.0},
        canary_score_change_sum={two: 5.4, three: 5.0},
        canary_top_shared_count={two: 14.0, three: 5.0},
        canary_top_shared_sum={two: 3.0, three: 5.0},
    )
    (canary,) = figures(before, now).canaries
    assert (canary.version, canary.compared_per_s) == ("2", 2.0)
    assert canary.score_change == pytest.approx(0.1)
    assert canary.top_shared == pytest.approx(0.75)
