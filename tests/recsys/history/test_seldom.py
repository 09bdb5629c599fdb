"""What is said for every call is written once in a while, and how often it was not."""

import logging

import pytest

from recsys.history.seldom import Seldom


def test_what_is_said_again_soon_is_counted_and_not_written(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    seldom = Seldom(logging.getLogger("history"), every_s=1.0, monotonic=lambda: now[0])
    for number, at in enumerate((0.0, 0.1, 0.9, 1.0, 5.0)):
        now[0] = at
        seldom.warning("call %d has no history", number)
    assert caplog.messages == [
        "call 0 has no history",
        "call 3 has no history (2 more were not written)",
        "call 4 has no history",
    ]
