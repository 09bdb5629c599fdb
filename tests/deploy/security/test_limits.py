"""What a deployment limits reaches the servers, and a request past each limit is refused with what it may be."""

from dataclasses import fields

import grpc
import pytest
from pydantic import ValidationError

from recollect import serve_config
from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.gateway.server import GatewayConfig
from recollect.settings import Settings
from recollect_api import Event, InvalidRequest, RecollectClient, Unavailable
from recollect_api.admin import AdminClient

LIMITS = {
    "max_request_bytes": 2_000,
    "history_limit": 3,
    "max_candidates": 4,
    "recommend_candidates": 5,
    "max_images": 6,
}
IMAGE_LIMITS = {"max_image_bytes": 70, "max_image_pixels": 80}


def test_every_limit_of_the_settings_reaches_the_gateway(tmp_path):
    config = serve_config.gateway_config(Settings(**LIMITS), port=1)
    assert {name: getattr(config, name) for name in LIMITS} == LIMITS
    limits = serve_config.classification_config(Settings(var=tmp_path, **IMAGE_LIMITS)).image_limits
    assert (limits.max_bytes, limits.max_pixels) == (70, 80)
    # A limit that the gateway has, and nobody could set, would be found here.
    counted = {each.name for each in fields(GatewayConfig) if each.name.startswith(("max_", "history", "recommend_c"))}
    assert counted - LIMITS.keys() == {"max_calls", "max_response_bytes", "max_connection_age_s"}


@pytest.mark.parametrize("name", [*LIMITS, *IMAGE_LIMITS])
def test_none_of_them_can_be_nothing(name):
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: 0})


def test_a_request_past_its_limit_is_refused(start_classifying, picture, user):
    from datetime import UTC, datetime

    gateway = start_classifying(
        max_request_bytes=2_000, max_candidates=4, max_images=2, history_limit=3, recommender=True
    )
    with RecollectClient(gateway.address, timeout_s=30, classify_timeout_s=30) as client:
        client.append(user, [Event(item_id=1, time=datetime(2024, 1, at, tzinfo=UTC)) for at in range(1, 8)])
        assert client.score(user, [1, 2, 3, 4]).history_length == 3
        with pytest.raises(InvalidRequest) as candidates:
            client.score(user, [1, 2, 3, 4, 5])
        assert "at most 4 candidates, got 5" in candidates.value.violations[0].description
        with pytest.raises(InvalidRequest) as images:
            client.classify([picture((255, 0, 0))] * 3, descriptor_set="demo-shop")
        assert "1 to 2 images, got 3" in images.value.violations[0].description
        with pytest.raises(Unavailable) as size:
            client.score("x" * 2_100, [1])
        assert size.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_admin_server_limits_requests_likewise(tmp_path):
    settings = Settings(var=tmp_path / "var", max_request_bytes=2_000)
    with RunningAdmin(AdminConfig(settings=settings, port=0)) as running, AdminClient(running.address) as admin:
        with pytest.raises(Unavailable) as size:
            admin.verify_index("x" * 2_100, "1")
        assert size.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
