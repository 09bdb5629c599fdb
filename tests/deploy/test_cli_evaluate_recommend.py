"""`recollect evaluate recommend` as a person runs it: a model and its index in, two tables or JSON lines out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from recollect.pipeline import models
from recollect.settings import Settings
from recsys.data.event_store import EventStore
from recsys.data.protocols import LeaveLastOut
from recsys.data.samples import SampleConfig
from recsys.data.shop import ShopConfig, build_shop
from recsys.training.config import TrainConfig
from recsys.training.loop import train

Run = Callable[..., Result]


def trained(place: Path, store: Path, **samples: Any) -> Path:
    protocol = LeaveLastOut(min_events=20, train_first=3, train_last=15, train_stride=2)
    config = TrainConfig(
        samples=SampleConfig(protocol=protocol, **samples), attention_dim=4, representation_dim=4, epochs=1
    )
    return train(EventStore(store), config, place)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`var` with two models of one shop, the first with negatives of all items and an index of its own."""
    root = tmp_path_factory.mktemp("evaluated")
    store = root / "shop"
    build_shop(ShopConfig(users=120, items=300, categories=10, mean_events=60, days=90), store)
    published = models(Settings(var=root / "var"))
    for number, samples in enumerate(({"negatives_of": "all"}, {})):
        model = published.publish("dare", trained(root / f"run-{number}", store, **samples))
        published.set_label("dare", ("stable", "published")[number], model.version)
    built = invoke(root, "index", "build", "items", "--model", "dare@stable", "--json")
    assert built.exit_code == 0, built.output
    return root


def invoke(place: Path, *words: object) -> Result:
    environment = {"RECOLLECT_VAR": str(place / "var"), "COLUMNS": "250", "TERM": "dumb"}
    return CliRunner().invoke(app, [str(word) for word in words], env=environment)


@pytest.fixture
def run(place: Path) -> Run:
    return lambda *words: invoke(place, "evaluate", *words)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_contender_is_measured_twice(run: Run, place: Path) -> None:
    found = rows(run("recommend", "--users", 25, "--json"))
    by_name = {(row["wanted"], row["contender"]): row for row in found}
    assert len(by_name) == len(found) == 2 * 12
    for wanted in ("new", "all"):
        popular, served = by_name[wanted, "popular"], by_name[wanted, "recommend"]
        assert popular["users"] == served["users"] > 10
        assert served["ndcg@20_difference"] == 0
        assert popular["ndcg@20_difference"] == pytest.approx(popular["ndcg@20"] - served["ndcg@20"], abs=1e-5)
        assert 0 < popular["coverage@20"] < served["coverage@50"] <= 1
    # What is wanted again is found by those who may show it.
    assert by_name["all", "own items, then popular"]["recall@50"] > by_name["all", "popular"]["recall@50"]
    saved = json.loads((place / "var" / "evaluations" / f"dare-{found[0]['version']}-test-recommend.json").read_text())
    assert saved == found


def test_the_weight_of_popularity_and_a_draw_of_users(run: Run) -> None:
    weighted, alone = (
        {row["contender"]: row for row in rows(run("recommend", "--popularity", weight, "--users", 10, "--json"))}
        for weight in ("2.5", "0")
    )
    assert weighted["recommend"]["users"] <= 10
    assert weighted["recommend"]["coverage@20"] < alone["recommend"]["coverage@20"]
    assert alone["recommend"]["ndcg@20"] == alone["… by score alone"]["ndcg@20"]


def test_tables_tell_errors_and_what_was_measured(run: Run) -> None:
    shown = run("recommend", "--split", "validation", "--users", 5)
    assert shown.exit_code == 0, shown.output
    assert "new items: " in shown.stdout
    assert "all items: " in shown.stdout
    assert "±" in shown.stdout
    assert "never touched" not in shown.stderr


def test_a_model_that_knows_what_was_held_out_is_told_of(run: Run, place: Path) -> None:
    version = invoke(place, "model", "list", "dare", "--json")
    published = next(row["version"] for row in rows(version) if row["labels"] == ["published"])
    built = invoke(place, "index", "build", "other", "--model", f"dare/{published}", "--json")
    assert built.exit_code == 0, built.output
    result = run("recommend", f"dare/{published}", "--index", "other@stable", "--users", 5)
    assert result.exit_code == 0, result.output
    assert "negatives were drawn from what users never touched" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dare@published",), "was built of dare/"),
        (("--split", "train"), "split must be validation or test"),
        (("--split", "dev"), "--split must be one of train, validation, test"),
        (("--index", "nothing@stable"), "nothing"),
        (("--popularity", "-1"), "recommend_popularity"),
    ],
    ids=["index of another model", "train", "no split", "no index", "weight"],
)
def test_mistakes_are_one_clear_line(run: Run, words: tuple[str, ...], message: str) -> None:
    result = run("recommend", *words)
    assert result.exit_code == 1, result.output
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_scores_are_measured_unless_told(run: Run) -> None:
    assert rows(run("--split", "validation", "--json")) == rows(run("scores", "--split", "validation", "--json"))
    assert rows(run("dare@published", "--json"))[0]["auc"] > 0.5
