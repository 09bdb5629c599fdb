"""`recollect score` as a person runs it, against a gateway in this process."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from recollect.cli import app
from recollect_api import Event, RecollectClient


@pytest.fixture
def told(gateway: Any, client: RecollectClient, user: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What it prints of two items, one of which the user knows well."""
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    client.append(user, [Event(item_id=5, time=begin + timedelta(hours=at)) for at in range(5)])
    monkeypatch.setenv("COLUMNS", "60")
    words = ["score", user, "--items", "7,5", "--explain", "--target", gateway.address]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_reasons_stand_below_the_table_whole_lines_on_narrow_terminals(told: str) -> None:
    lines = told.splitlines()
    at = lines.index("5 rests on")
    assert lines[at + 1].endswith(" of 5, 2024-01-01 04:00")
    assert lines[at + 4] == "    and 2 more"
    assert "7 rests on nothing" in lines
