"""The application that `serve deploy` and KubeRay build: what it takes and what it refuses."""

from pathlib import Path

import pytest

from recollect.errors import SetupError
from recollect.serving import application
from recollect.settings import Settings

REDIS = "redis://cache:6379/0"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("RECOLLECT_REDIS_URL", "RECOLLECT_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def built(**settings):
    """The gateway's deployment, from settings as Serve hands them over."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as build

    defaults = {"var": "/srv/recollect", "redis_url": REDIS, "classification": False}
    return build(application, defaults | settings)._bound_deployment


@pytest.mark.parametrize(
    ("settings", "model"),
    [({}, "dare@stable"), ({"recommender": False}, None)],
    ids=["a recommender", "none"],
)
def test_what_serve_builds(settings, model):
    gateway = built(replicas=3, port=50051, cores=6, **settings)
    assert gateway.user_config == {"model": model}
    assert gateway._replica_config.max_replicas_per_node == 3
    arguments = gateway.init_kwargs
    assert (arguments["config"].port, arguments["config"].ranking_threads) == (50051, 2)
    assert arguments["redis_url"] == REDIS
    assert arguments["desired"] is None
    assert (arguments["models"] is None) == (model is None)


def test_settings_of_the_node_come_behind_the_arguments(monkeypatch):
    monkeypatch.setenv("RECOLLECT_PORT", "50077")
    monkeypatch.setenv("RECOLLECT_HISTORY_LIMIT", "100")
    config = built(port=50078).init_kwargs["config"]
    assert (config.port, config.history_limit) == (50078, 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"redis_url": None}, "RECOLLECT_REDIS_URL"),
        ({"port": 0}, "port 0"),
        ({"admin_port": 50052}, "admin_port 50052"),
        ({"var": "var"}, "var is var"),
        ({"tokens": "tokens.json"}, "tokens is tokens.json"),
        ({"host": "0.0.0.0"}, "no TLS"),
    ],
    ids=["no Redis", "any port", "admin", "var", "tokens", "open"],
)
def test_what_a_cluster_cannot_do_is_refused(settings, message):
    with pytest.raises(SetupError, match=message):
        built(**settings)


def test_an_argument_that_is_no_setting_is_refused():
    with pytest.raises(ValueError, match="replica_count"):
        built(replica_count=2)


def test_defaults_that_mean_nothing_on_another_node_are_refused():
    assert not Settings().var.is_absolute()
    with pytest.raises(SetupError, match="whole path"):
        application(Settings(redis_url=REDIS, classification=False, events=Path("/events")))
