"""`recollect explain` as a person runs it, against a gateway in this process."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from recollect.cli import app
from recollect.gateway.models import ServedModel
from recollect_api import Event
from recsys.data.catalogue import Catalogue

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def explain(gateway, client, user, monkeypatch):
    """Run the command for a user who clicked item 5, a vase, three times, with what the model knows of categories."""
    catalogue = Catalogue(
        item_ids=np.array([-1, 5, 7]),
        category_rows=np.array([0, 1, 2], dtype=np.int32),
        category_ids=np.array([-1, 70, 80]),
        category_keys=pl.Series(["", "vase", "mug"]),
    )
    gateway.slot.swap(ServedModel(name="counting", version="1", ranker=gateway.ranker, catalogue=catalogue))
    client.append(user, [Event(item_id=5, time=BEGIN + timedelta(hours=at)) for at in range(3)])
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words):
        result = CliRunner().invoke(app, ["explain", user, *words, "--target", gateway.address])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_scores_with_and_without_the_history_stand_beside_the_categories(explain):
    lines = explain("--items", "5,200000").splitlines()
    (row,) = [line for line in lines if "│      5 │" in line]
    assert "1.0000 │          1.0000 │ vase 600%" in row  # the counting ranker's weights do not add up to 1
    assert lines[lines.index("5 rests on") + 1] == "    3.000  click of 5, 2024-01-01 02:00"
    assert "unknown to the model: 200000" in lines
    assert "degraded: item unknown" in lines


def test_json_has_everything(explain):
    first, second = map(json.loads, explain("--items", "7,5", "--as-of", "2024-01-01T00:30", "--json").splitlines())
    assert (first["item_id"], first["score"], first["score_without_history"]) == (7, 0.5, 1.0)
    assert (first["found"], first["categories"]) == ([], [])
    assert second["categories"] == [{"category_id": 70, "name": "vase", "share": 1.0, "behaviours": 1}]
    assert second["found"] == [{"item_id": 5, "time": "2024-01-01T00:00:00+00:00", "type": "click", "weight": 1.0}]
    assert (second["history_length"], second["degraded"], second["known"]) == (1, [], True)
