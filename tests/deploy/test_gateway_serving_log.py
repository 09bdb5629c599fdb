"""The sample of what serving scored says what the model retrieved from the history that it read."""

from datetime import UTC, datetime, timedelta
from random import Random

import polars as pl
import pytest

from recollect_api import Event, RecollectClient
from recsys.history.serving_log import ServingLog, ServingLogConfig, export_served

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def serving_log(tmp_path):
    return ServingLog(ServingLogConfig(directory=tmp_path / "log", rate=1.0), random=Random(0))


@pytest.fixture
def logged(serving_log, tmp_path):
    def read():
        serving_log.close()
        export_served(tmp_path / "log", tmp_path / "served.parquet")
        return pl.read_parquet(tmp_path / "served.parquet").rows(named=True)

    return read


def test_a_score_call_is_kept_with_what_was_retrieved(start_gateway, serving_log, logged, user):
    with RecollectClient(start_gateway(serving_log=serving_log).address, timeout_s=30) as client:
        events = [Event(item_id=item, time=BEGIN + timedelta(seconds=at)) for at, item in enumerate((5, 6, 5))]
        client.append(user, events)
        as_of = BEGIN + timedelta(seconds=2, milliseconds=1)
        scores = client.score(user, [5, 7], as_of=as_of, request_id="r")
        assert scores.items[0].found == ()  # nobody asked for reasons
        told = client.score(user, [5], as_of=as_of, explain=True).items[0].found
    rows = logged()
    first, second = rows[:2]
    assert (first["call"], first["request_id"], first["user_id"], first["model"]) == ("score", "r", user, "counting/1")
    assert (first["history_version"], first["history_length"], first["index"]) == (1, 3, None)
    assert first["as_of"] == as_of
    assert [first["score"], second["score"]] == [each.score for each in scores.items]
    # What an explanation shows of the same question is what was kept: by weight, the highest first.
    assert first["retrieved_item_ids"] == [found.item_id for found in told] == [5, 5]
    assert first["retrieved_times_ms"] == [int(found.time.timestamp() * 1_000) for found in told]
    assert first["retrieved_weights"] == [found.weight for found in told]
    assert second["retrieved_item_ids"] == []


def test_a_call_without_a_history_store_is_not_kept(start_gateway, serving_log, user, tmp_path):
    gateway = start_gateway(serving_log=serving_log, redis_url=f"unix://{tmp_path}/nobody.sock")
    with RecollectClient(gateway.address, timeout_s=30) as client:
        assert client.score(user, [5]).degraded
    serving_log.close()
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written_harms_no_answer(start_gateway, tmp_path, user, monkeypatch):
    monkeypatch.setattr("recsys.history.serving_log.PART_ROWS", 1)
    (tmp_path / "log").touch()
    log = ServingLog(ServingLogConfig(directory=tmp_path / "log", rate=1.0), random=Random(0))
    with RecollectClient(start_gateway(serving_log=log).address, timeout_s=30) as client:
        assert client.score(user, [5]).items[0].score == 1.0
