"""A Redis that is killed in the middle of appends loses nothing that it has acknowledged, and has nothing twice."""

import asyncio
from pathlib import Path

import pytest

from recollect.embedded.benchmarks.loss import CONCURRENT, measure


@pytest.mark.slow
def test_twenty_kills_amid_five_hundred_appends_lose_nothing(redis_binary: Path, tmp_path: Path) -> None:
    loss = asyncio.run(measure(tmp_path, fsync="always", kills=20, binary=redis_binary))
    assert (loss.lost, loss.duplicates) == (0, 0)
    assert loss.acknowledged == 20 * CONCURRENT
    assert loss.interrupted > 0  # or the kills hit nothing
