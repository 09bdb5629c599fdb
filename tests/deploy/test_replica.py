"""A replica as Ray Serve treats it: configured before it answers, told of another model, asked how busy it is."""

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from recollect.artifacts import following
from recollect.errors import RemoteError
from recollect.gateway.replica import GatewayReplica
from recollect.gateway.scaling import CALLS_IN_FLIGHT
from recollect.gateway.server import GatewayConfig
from recollect_api import RecollectClient

WAITING_ITEM = 100_002
DEADLINE_S = 30.0


class Undeleted(GatewayReplica):
    """Serve awaits `__del__`, which Python itself would call and await nothing."""

    def __del__(self):
        pass


class RunningReplica:
    """A replica whose event loop runs in a thread; what Serve calls is `replica.call(name, …)`."""

    def __init__(self, redis_url, models):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._replica = Undeleted.__new__(Undeleted)
        self.call(
            "__init__",
            config=GatewayConfig(port=0),
            redis_url=redis_url,
            redis_timeout_s=2.0,
            models=models,
            desired=None,
        )

    def call(self, name, *arguments, **options):
        work = getattr(GatewayReplica, name)(self._replica, *arguments, **options)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    @property
    def answers(self):
        return self._replica._gateway is not None

    def client(self):
        return RecollectClient(f"127.0.0.1:{self._replica._gateway.port}", timeout_s=DEADLINE_S)

    def version(self):
        with self.client() as client:
            return client.score("nobody", [1]).model_version

    def stop(self):
        self.call("__del__")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


@contextmanager
def running(redis_url, models):
    replica = RunningReplica(redis_url, models)
    try:
        yield replica
    finally:
        replica.stop()


@pytest.fixture
def label(tmp_path):
    """Move `counting@stable`."""

    def move(version):
        (tmp_path / "stable").write_text(version)

    move("1")
    return move


@pytest.fixture
def replica(history_redis_url, counting_models, tmp_path, label):
    with running(history_redis_url, counting_models(tmp_path)) as replica:
        yield replica


def test_it_answers_only_once_it_knows_the_model(replica):
    assert not replica.answers
    assert replica.call("record_autoscaling_stats") == {}
    assert replica.call("reconfigure", {"model": "counting@stable"}) == "counting/1"
    assert replica.version() == "1"


@pytest.mark.parametrize("niceness", [0, 15])
def test_one_that_stands_back_says_what_that_costs(
    history_redis_url, counting_models, tmp_path, niceness, monkeypatch, caplog
):
    monkeypatch.setattr("os.getpriority", lambda *_: niceness)
    with running(history_redis_url, counting_models(tmp_path)):
        told = [message for message in caplog.messages if "RAY_worker_niceness=0" in message]
    assert len(told) == (niceness > 0)


def test_a_label_that_moves_is_followed(replica, label, eventually):
    replica.call("reconfigure", {"model": "counting@stable"})
    label("2")
    replica.call("check_health")
    eventually(lambda: replica.version() == "2")


def test_a_version_that_cannot_be_loaded_is_tried_once_and_the_next_one_followed(replica, label, eventually, caplog):
    replica.call("reconfigure", {"model": "counting@stable"})
    label("broken")
    replica.call("check_health")
    eventually(lambda: "this version is torn" in caplog.text)
    caplog.clear()
    replica.call("check_health")
    assert replica.version() == "1"
    label("3")
    replica.call("check_health")
    eventually(lambda: replica.version() == "3")
    assert "torn" not in caplog.text


@dataclass
class AwayModels:
    """Other models, which cannot be fetched while they are `away`."""

    others: Any
    away: bool = False

    def current(self, reference):
        return self.others.current(reference)

    def load(self, reference):
        if self.away:
            raise RemoteError("no answer")
        return self.others.load(reference)


def test_a_version_that_cannot_be_fetched_is_tried_again_after_a_while(
    history_redis_url, counting_models, tmp_path, label, eventually, monkeypatch, caplog
):
    monkeypatch.setattr(following, "RETRY_S", 0.0)
    models = AwayModels(counting_models(tmp_path))
    with running(history_redis_url, models) as replica:
        replica.call("reconfigure", {"model": "counting@stable"})
        models.away = True
        label("2")

        def told(times):
            replica.call("check_health")
            return caplog.text.count("cannot load counting/2") >= times

        eventually(lambda: told(3))
        assert replica.version() == "1"
        models.away = False
        eventually(lambda: told(3) and replica.version() == "2")
    assert [record.exc_info is not None for record in caplog.records if "counting/2" in record.message][:3] == [
        True,
        False,
        False,
    ]


def test_a_version_that_was_restored_is_tried_when_its_label_comes_back(replica, label, eventually, caplog):
    replica.call("reconfigure", {"model": "counting@stable"})
    for times in (1, 2):
        label("broken")
        replica.call("check_health")
        eventually(lambda times=times: caplog.text.count("cannot load counting/broken") == times)
        label("1")
        replica.call("check_health")


def test_a_label_that_cannot_be_read_for_a_while_ends_no_replica(replica, label, tmp_path):
    replica.call("reconfigure", {"model": "counting@stable"})
    (tmp_path / "stable").unlink()
    replica.call("check_health")
    assert replica.version() == "1"


def test_another_label_is_taken_in_place(replica, tmp_path):
    replica.call("reconfigure", {"model": "counting@stable"})
    (tmp_path / "canary").write_text("5")
    assert replica.call("reconfigure", {"model": "counting@canary"}) == "counting/5"
    assert replica.version() == "5"


@pytest.mark.parametrize(
    "config", [{"model": "counting/broken"}, {"model": "counting@missing"}, {}], ids=["torn", "no such label", "none"]
)
def test_a_wrong_configuration_ends_no_replica_that_answers(replica, config, caplog):
    replica.call("reconfigure", {"model": "counting@stable"})
    assert replica.call("reconfigure", config) == "counting/1"
    assert replica.version() == "1"
    assert "counting/1 keeps answering" in caplog.text


@pytest.mark.parametrize(
    ("recommender", "config", "message"),
    [
        (True, {"model": "counting/broken"}, "torn"),
        (True, {}, "must name the model"),
        (False, {"model": "counting/1"}, "the recommender is left out"),
    ],
    ids=["torn", "no model", "a model without a recommender"],
)
def test_a_wrong_configuration_lets_no_replica_begin(
    history_redis_url, counting_models, tmp_path, recommender, config, message
):
    models = counting_models(tmp_path) if recommender else None
    with running(history_redis_url, models) as replica:
        with pytest.raises(Exception, match=message):
            replica.call("reconfigure", config)
        assert not replica.answers


def test_it_tells_how_many_calls_it_works_on(replica, tmp_path, eventually):
    replica.call("reconfigure", {"model": "counting@stable"})
    assert replica.call("record_autoscaling_stats") == {CALLS_IN_FLIGHT: 0.0}

    def wait():
        with replica.client() as client:
            client.score("nobody", [WAITING_ITEM])

    caller = threading.Thread(target=wait)
    caller.start()
    eventually(lambda: any(tmp_path.glob("waiting.*")))
    replica.call("record_autoscaling_stats")
    eventually(lambda: replica.call("record_autoscaling_stats")[CALLS_IN_FLIGHT] == pytest.approx(1))
    (tmp_path / "release").touch()
    caller.join(DEADLINE_S)
    replica.call("record_autoscaling_stats")
    eventually(lambda: replica.call("record_autoscaling_stats")[CALLS_IN_FLIGHT] == 0.0)
