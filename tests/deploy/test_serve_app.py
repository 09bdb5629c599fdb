"""The gateway on a real Ray Serve: replicas that share a port, heal, swap and drain."""

import os
import signal
import socket
import threading
from collections import Counter
from contextlib import contextmanager

import grpc
import pytest

from recollect import serve_app
from recollect.errors import ArtifactError, SetupError
from recollect.settings import Settings
from recollect_api import RecollectClient
from recollect_api.v1 import recommender_pb2, recommender_pb2_grpc

WAITING_ITEM, PID_ITEM = 100_002, 100_003


@contextmanager
def running(counting_models, redis_url, directory, *, replicas=2, application="test"):
    settings = Settings(port=0, replicas=replicas, var=directory, classification=False)
    models = counting_models(directory)
    with serve_app.run(
        settings, "counting/1", redis_url=redis_url, models=models, application=application
    ) as application_:
        yield application_


@pytest.fixture(scope="module")
def app_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def app(ray_node, counting_models, history_redis_url, app_directory):
    """Two replicas for all tests of this file; each test leaves them with model 1."""
    with running(counting_models, history_redis_url, app_directory) as started:
        yield started


def score_once(app, item_id, timeout_s=5.0):
    """Score over a connection of its own: which replica gets it is the kernel's choice."""
    with RecollectClient(app.address, timeout_s=timeout_s, connections=1) as client:
        scores = client.score("nobody", [item_id])
    return scores.model_version, scores.items[0].score


def pids(app, calls=8):
    return {int(score_once(app, PID_ITEM)[1]) for _ in range(calls)}


def versions(app, calls=8):
    return {score_once(app, 1) for _ in range(calls)}


@pytest.mark.slow
def test_two_processes_answer_on_one_port(app, eventually):
    seen = set()
    eventually(lambda: len(seen.update(pids(app)) or seen) == 2)
    assert os.getpid() not in seen


@pytest.mark.slow
def test_a_swap_under_load_fails_no_call_and_mixes_no_versions(app, eventually):
    stop, wrong, seen = threading.Event(), [], Counter()

    def call():
        with RecollectClient(app.address, timeout_s=10) as client:
            while not stop.is_set():
                try:
                    scores = client.score("nobody", [1, 2, 3])
                except Exception as error:
                    wrong.append(error)
                    return
                seen[scores.model_version] += 1
                # The ranker of version n scores everything n.
                if {item.score for item in scores.items} != {float(scores.model_version)}:
                    wrong.append(scores)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        for version in ("2", "3", "1"):
            assert app.swap(f"counting/{version}") == f"counting/{version}"
            assert versions(app) == {(version, float(version))}
            calls = seen[version]
            eventually(lambda version=version, calls=calls: wrong or seen[version] > calls + 100)
    finally:
        stop.set()
        for caller in callers:
            caller.join(30)
    assert wrong == []
    assert set(seen) == {"1", "2", "3"}


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["counting/broken", "elsewhere/1"], ids=["it cannot be loaded", "it is missing"])
def test_a_swap_to_a_bad_model_says_so_and_changes_nothing(app, reference):
    with pytest.raises(ArtifactError, match="torn" if "broken" in reference else "no model elsewhere/1"):
        app.swap(reference)
    assert app.model == "counting/1"
    assert versions(app) == {("1", 1.0)}


@pytest.mark.slow
def test_a_killed_replica_comes_back_with_the_model_that_was_swapped_in(app, eventually):
    seen = set()
    eventually(lambda: len(seen.update(pids(app)) or seen) == 2)
    app.swap("counting/4")
    victim = min(seen)
    os.kill(victim, signal.SIGKILL)
    now = set()

    def healed():
        now.update(pids(app))
        return len(now - {victim}) == 2

    eventually(healed)
    assert versions(app) == {("4", 4.0)}
    app.swap("counting/1")


@pytest.mark.slow
def test_shutdown_answers_what_is_in_flight_and_frees_the_port(
    ray_node, counting_models, history_redis_url, tmp_path, eventually
):
    with running(counting_models, history_redis_url, tmp_path, replicas=1, application="drain") as app:
        port = app.port
        with grpc.insecure_channel(app.address) as channel:
            stub = recommender_pb2_grpc.RecommenderStub(channel)
            request = recommender_pb2.ScoreRequest(user_id="nobody", item_ids=[WAITING_ITEM])
            inside = stub.Score.future(request, timeout=30)
            eventually(lambda: any(tmp_path.glob("waiting.*")))
            stopping = threading.Thread(target=app.shutdown)
            stopping.start()

            def refused():
                try:
                    score_once(app, 1, timeout_s=0.5)
                except Exception:
                    return True
                return False

            eventually(refused)
            assert stopping.is_alive()
            assert not inside.done()
            (tmp_path / "release").touch()
            assert list(inside.result(timeout=30).scores) == [1.0]
            stopping.join(30)
            assert not stopping.is_alive()
    serve_app.reserve_port("127.0.0.1", port).close()


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_a_setup_error_with_its_reason(
    ray_node, counting_models, history_redis_url, tmp_path
):
    settings = Settings(port=0, replicas=1, var=tmp_path, classification=False)
    with pytest.raises(SetupError, match="this version is torn"):
        serve_app.run(
            settings,
            "counting/broken",
            redis_url=history_redis_url,
            models=counting_models(tmp_path),
            application="broken",
        )


def test_a_port_on_which_somebody_listens_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=rf"127\.0\.0\.1:{port} .*--port"):
            serve_app.reserve_port("127.0.0.1", port)


def test_a_gateway_that_listens_keeps_a_second_one_off_its_port(gateway):
    with pytest.raises(SetupError, match="cannot listen"):
        serve_app.reserve_port("127.0.0.1", gateway.port)


def test_a_reserved_port_takes_no_connection():
    with serve_app.reserve_port("127.0.0.1", 0) as held, pytest.raises(ConnectionRefusedError):
        socket.create_connection(held.getsockname(), timeout=5)
