"""How many replicas: what a gateway counts, and what Serve's controller makes of it."""

import pytest

from recollect.gateway.load import Load
from recollect.gateway.scaling import CALLS_IN_FLIGHT, by_calls_in_flight


def test_load_is_an_average_over_the_time_since_it_was_asked(clock):
    load = Load(clock)
    clock.now = 6.0
    with load.call():
        clock.now = 7.0
        with load.call():
            clock.now = 8.0
        clock.now = 10.0
        # one call for 3 s, two for 1 s, none for 6 s
        assert load.mean() == pytest.approx(0.5)
        clock.now = 12.0
        assert load.mean() == pytest.approx(1.0)
    clock.now = 14.0
    assert load.mean() == 0.0


def test_load_asked_twice_at_one_moment_is_what_is_in_flight(clock):
    load = Load(clock)
    with load.call(), load.call():
        assert load.mean() == 2.0


@pytest.mark.parametrize(
    ("reported", "replicas", "wanted"),
    [([8.0, 4.0], 2, 3.0), ([1.0, 0.0], 2, 0.25), ([6.0], 3, 4.5), ([], 2, 2)],
    ids=["too busy", "idle", "some have only begun", "nobody has reported"],
)
def test_replicas_have_so_many_calls_each(reported, replicas, wanted):
    from ray.serve.config import AutoscalingConfig, AutoscalingContext

    context = AutoscalingContext(
        deployment_id=None,
        deployment_name="Gateway",
        app_name="recollect",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=[],
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics={CALLS_IN_FLIGHT: dict(enumerate(reported))},
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=9,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(min_replicas=1, max_replicas=9, target_ongoing_requests=4),
    )
    assert by_calls_in_flight(context) == (wanted, {})


def test_the_policy_is_of_use_to_a_controller_that_has_only_its_source(tmp_path):
    import subprocess
    import sys

    from ray import cloudpickle

    from recollect.gateway import scaling

    cloudpickle.register_pickle_by_value(scaling)
    try:
        (tmp_path / "policy").write_bytes(cloudpickle.dumps(by_calls_in_flight))
    finally:
        cloudpickle.unregister_pickle_by_value(scaling)
    program = (
        "import sys; sys.modules['recollect'] = None\n"
        "from types import SimpleNamespace as N; from ray import cloudpickle\n"
        "policy = cloudpickle.load(open('policy', 'rb'))\n"
        "config = N(get_target_ongoing_requests=lambda: 2.0)\n"
        "context = N(aggregated_metrics={'calls_in_flight': {1: 4.0}}, config=config, current_num_replicas=1)\n"
        "print(policy(context)[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "2.0\n"
