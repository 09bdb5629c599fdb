"""Let Ray Serve scale gateways: they answer calls that Serve never sees, so they say themselves how busy they are.

A deployment of `serve.yaml` names `by_calls_in_flight` as its policy. Serve's controller is given it by value, so this
file imports nothing of ours.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

CALLS_IN_FLIGHT = "calls_in_flight"
"""What replicas report: how many calls each worked on, on average, since it last reported."""


def by_calls_in_flight(context: "AutoscalingContext") -> tuple[float, dict[str, Any]]:
    """As many replicas as have `target_ongoing_requests` calls in flight each; bounds and delays are Serve's.

    Replicas that have not reported yet, because they have only begun, count as busy as the others.
    """
    reported = list((context.aggregated_metrics or {}).get(CALLS_IN_FLIGHT, {}).values())
    if context.config is None or not reported:
        return context.target_num_replicas, {}
    mean = sum(reported) / len(reported)
    return context.current_num_replicas * mean / context.config.get_target_ongoing_requests(), {}
