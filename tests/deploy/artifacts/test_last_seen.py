"""What a machine knows of shared labels, and when it asks for them."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any


def test_a_clock_that_is_set_back_keeps_no_machine_from_asking(
    url_of: Callable[[str], str], machine_at: Callable[..., Any], model: Callable[[str], Path], clock: Any
) -> None:
    here, there = machine_at(url_of("directory"), "a"), machine_at(url_of("directory"), "b")
    there._refresh_s = 3.0
    versions = [here.publish("dare", model(name)).version for name in ("one", "two")]
    here.set_label("dare", "stable", versions[0])
    there.refresh()
    clock.now -= timedelta(hours=3)
    here.set_label("dare", "stable", versions[1])
    there.refresh()
    assert there.last_seen("dare", "stable") == versions[1]
    # From then on it asks as often as before.
    here.set_label("dare", "stable", versions[0])
    there._refresh_s = 3600.0
    there.refresh()
    assert there.last_seen("dare", "stable") == versions[1]
