"""The generator of load: calls at their own times, figures that leave nobody out, and what a ramp finds."""

import asyncio
import gc
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from recollect.errors import SetupError
from recollect.gateway.benchmarks.open_loop import Offered, offer
from recollect.gateway.benchmarks.requests import read_requests
from recollect.gateway.benchmarks.saturation import OverloadPlan, Ramp, best_rate_of, climb, overload, saturation_of
from recollect_api.v1 import recommender_pb2


class Server:
    """Answers one call after the other, each in `service_s`; refuses what finds `room` calls before it."""

    def __init__(self, service_s, room=10**9):
        self.service_s, self.room = service_s, room
        self.inside, self.lock = 0, asyncio.Lock()

    async def __call__(self, _number):
        if self.inside >= self.room:
            return "RESOURCE_EXHAUSTED"
        self.inside += 1
        async with self.lock:
            await asyncio.sleep(self.service_s)
        self.inside -= 1
        return "OK"


def offered(send, *, rate, seconds):
    return asyncio.run(offer(send, rate=rate, seconds=seconds, random=np.random.default_rng(0)))


def test_calls_come_at_their_times_whatever_became_of_those_before():
    began = []

    async def stuck(number):
        began.append(number)
        await asyncio.sleep(0.5)
        return "OK"

    result = offered(stuck, rate=200, seconds=0.5)
    assert sorted(began) == list(range(100))
    assert result.answered.all()
    assert np.all(np.diff(result.due_s) >= 0)
    assert np.all((result.due_s >= 0) & (result.due_s <= 0.5))
    assert np.all(result.taken_s >= 0.5)


def test_waiting_behind_others_is_counted():
    """One call of 20 ms at a time and 100 a second: the last wait for the whole backlog, not for their own 20 ms."""
    result = offered(Server(0.02), rate=100, seconds=1.0)
    assert result.taken_s.max() > 0.5
    # What is answered after the last was due is no answer in time.
    assert result.goodput <= 51


def test_what_it_keeps_from_the_collector_it_gives_back():
    frozen = gc.get_freeze_count()
    kept = []

    async def send(number):
        kept.append(gc.get_freeze_count())
        return "OK"

    offered(send, rate=100, seconds=0.05)
    assert min(kept) > frozen
    assert gc.get_freeze_count() == 0


def test_what_was_refused_is_no_answer():
    result = offered(Server(0.02, room=2), rate=200, seconds=0.5)
    refused = result.refused()["RESOURCE_EXHAUSTED"]
    assert refused > 50
    assert result.answered.sum() == 100 - refused
    assert result.goodput == pytest.approx((100 - refused) / 0.5, rel=0.1)
    assert result.taken_ms(50, of=~result.answered) < result.taken_ms(50)


def step(rate, goodput):
    count = int(rate)
    codes = np.full(count, "OK", dtype="<U24")
    codes[int(goodput) :] = "RESOURCE_EXHAUSTED"
    zeros = np.zeros(count)
    return Offered(rate=rate, due_s=zeros, taken_s=zeros, late_s=zeros, codes=codes, cpu_s=0.0)


def test_a_step_without_answers_has_no_latency():
    assert np.isnan(step(100, 0).taken_ms(99))
    assert step(100, 0).goodput == 0


def test_the_saturation_is_the_most_that_was_answered():
    steps = [step(100, 100), step(200, 160), step(300, 120)]
    assert saturation_of(steps) == 160
    assert best_rate_of(steps) == 200


def test_a_ramp_ends_where_the_service_takes_no_more():
    told = []
    steps = asyncio.run(
        climb(
            Server(0.01, room=3),
            Ramp(first_rate=40, seconds=0.5),
            random=np.random.default_rng(0),
            on_step=lambda kind, step: told.append((kind, step)),
        )
    )
    assert [step for _, step in told] == steps
    assert 40 < saturation_of(steps) <= 100
    assert all(step.goodput < 0.95 * step.rate for step in steps[-2:])
    assert len(steps) < 15


@pytest.mark.slow
def test_an_overload_is_told_by_what_was_answered_and_how_soon_it_was_over():
    plan = OverloadPlan(saturation=100, best_rate=125, factor=3, seconds=1.0, peak_seconds=0.25)
    told = []
    result = asyncio.run(
        overload(
            Server(0.005, room=10),
            callers="overload",
            plain=Server(0.005, room=1_000),
            plan=plan,
            random=np.random.default_rng(0),
            on_step=lambda kind, step: told.append((kind, step.rate)),
        )
    )
    near = [("near saturation", rate) for rate in (100, 125)] * 3
    assert told == [*near, ("overload", 300), ("after it", 50), *near]
    assert result.offered.rate == 300
    assert 50 < result.peak <= 140
    assert result.goodput_share == pytest.approx(result.offered.goodput / result.peak)
    assert result.recovery_s < 5
    assert result.refused_p99_ms >= 0


def test_requests_of_a_file(tmp_path):
    file = tmp_path / "calls.parquet"
    moments = [datetime(2024, 1, 1, microsecond=1_500), None]
    columns = {"user_id": ["a", "b"], "item_ids": [[1, 2], [3]], "as_of": moments, "other": [0, 0]}
    pl.DataFrame(columns).write_parquet(file)
    requests = [recommender_pb2.ScoreRequest.FromString(each) for each in read_requests(file)]
    assert [(each.user_id, list(each.item_ids)) for each in requests] == [("a", [1, 2]), ("b", [3])]
    assert [each.HasField("as_of") for each in requests] == [True, False]
    assert requests[0].as_of.ToMilliseconds() == datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1_000 + 2
    assert [each.SerializeToString() for each in requests] == read_requests(tmp_path), "or a directory of files"


@pytest.mark.parametrize(
    "columns",
    [{"user": ["a"]}, {"user_id": ["a"], "item_ids": ["x"]}, {"user_id": [], "item_ids": []}, None],
    ids=["other columns", "no numbers", "no rows", "no file"],
)
def test_a_file_of_no_requests_is_refused(tmp_path, columns):
    file = tmp_path / "calls.parquet"
    if columns is not None:
        pl.DataFrame(columns).write_parquet(file)
    with pytest.raises(SetupError, match=r"calls\.parquet"):
        read_requests(file)
