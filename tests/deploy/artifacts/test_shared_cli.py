"""`recollect model` and `recollect index` on two machines that share versions, as a person at a shell meets them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.artifacts import open_store
from recollect.artifacts.opening import below
from recollect.cli import app

Run = Callable[..., Result]
Model = Callable[[str], Path]


@pytest.fixture
def url(url_of: Callable[[str], str]) -> str:
    return url_of("s3")


@pytest.fixture
def on(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a machine: `on("a", "model", "list")`."""
    monkeypatch.chdir(tmp_path)

    def run(machine: str, *words: object, at: str | None = None) -> Result:
        environment = {
            "RECOLLECT_VAR": machine,
            "RECOLLECT_ARTIFACTS": at or request.getfixturevalue("url"),
            "COLUMNS": "200",
            "TERM": "dumb",
        }
        return CliRunner().invoke(app, [str(word) for word in words], env=environment)

    return run


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_versions_are_seen_checked_moved_and_removed_on_another_machine(
    on: Run, url: str, model: Model, tmp_path: Path
) -> None:
    trainer = open_store(tmp_path / "a" / "models", shared=below(url, "models"))
    sources = [model(name) for name in ("one", "two")]
    for source in sources:
        (source / "config.json").write_text('{"model": "twin"}')  # a baseline, which is asked nothing
    versions = [trainer.publish("dare", source).version for source in sources]
    for version in versions:
        trainer.set_label("dare", "stable", version)
    listed = rows(on("b", "model", "list", "--json"))
    assert [(row["version"], row["labels"], row["where"]) for row in listed] == [
        (versions[0], [], ["shared"]),
        (versions[1], ["stable"], ["shared"]),
    ]
    assert listed[0]["test"] == {"auc": 0.5}
    verified = on("b", "model", "verify", "dare@stable")
    assert verified.stdout == f"dare/{versions[1]} is whole\n"
    assert f"fetching dare/{versions[1]}" in verified.stderr
    assert [row["where"] for row in rows(on("b", "model", "list", "--json"))] == [["shared"], ["here", "shared"]]
    assert "here, shared" in on("b", "model", "list").stdout
    (back,) = rows(on("b", "model", "rollback", "dare", "--json"))
    assert (back["version"], back["before"]) == (versions[0], versions[1])
    overtaken = on("a", "model", "activate", "dare", versions[1], "--expected", versions[1])
    assert overtaken.exit_code == 1
    assert f"points at {versions[0]}, not at {versions[1]} as expected" in overtaken.stderr
    (moved,) = rows(on("a", "model", "activate", "dare", versions[1], "--expected", versions[0], "--json"))
    assert moved["version"] == versions[1]
    # Young, so that it stays where it is shared.
    (removed,) = rows(on("b", "model", "gc", "--keep", "0", "--json"))
    assert (removed["removed"], removed["evicted"]) == ([], [])
    (removed,) = rows(on("a", "model", "gc", "--keep", "0", "--json"))
    assert (removed["removed"], removed["evicted"]) == ([], [versions[0]])
    assert "evicted" in on("a", "model", "gc").stdout


def test_an_index_built_here_is_judged_and_activated_there(on: Run, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    pl.DataFrame({"id": np.arange(300), "vector": vectors}).write_parquet(tmp_path / "vectors.parquet")
    (built,) = rows(on("a", "index", "build", "items", "--vectors", "vectors.parquet", "--kind", "flat", "--json"))
    (listed,) = rows(on("b", "index", "list", "--json"))
    assert (listed["version"], listed["labels"], listed["vectors"]) == (built["version"], ["stable"], 300)
    (verified,) = rows(on("b", "index", "verify", "items@stable", "--json"))
    assert verified["version"] == built["version"]
    assert rows(on("b", "index", "activate", "items", built["version"], "--label", "canary", "--json"))
    (listed,) = rows(on("a", "index", "list", "--json"))
    assert listed["labels"] == ["canary", "stable"]
    # A machine that has nothing of it adds to it.
    pl.DataFrame({"id": [1_000], "vector": vectors[:1] + 1}).write_parquet(tmp_path / "more.parquet")
    (added,) = rows(on("c", "index", "add", "items", "more.parquet", "--json"))
    found = {row["version"]: row for row in rows(on("a", "index", "list", "--json"))}
    assert (found[added["version"]]["vectors"], found[added["version"]]["where"]) == (301, ["shared"])
    assert found[added["version"]]["labels"] == ["stable"]
    (nearest, *_) = rows(on("d", "index", "search", "items", "--like", 1_000, "-k", 1, "--json"))
    assert nearest


def test_a_catalogue_is_shared_too(on: Run, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item,name,price\n101,mug,3.5\n102,vase,12\n")
    (imported,) = rows(on("a", "catalogue", "import", "items.csv", "--currency", "EUR", "--json"))
    (listed,) = rows(on("b", "catalogue", "list", "--json"))
    assert (listed["version"], listed["labels"], listed["where"]) == (imported["version"], ["stable"], ["shared"])
    (shown,) = rows(on("b", "catalogue", "show", "102", "--json"))
    assert shown["name"] == "vase"


@pytest.mark.parametrize(
    ("at", "says"),
    [
        pytest.param("gs://bucket", "cannot be used: Please install gcsfs", id="not installed"),
        pytest.param("nosuch://bucket", "cannot be used: Protocol not known: nosuch", id="unknown"),
        pytest.param("ftp://me:secret@127.0.0.1:9", "cannot reach ftp://me:…@127.0.0.1:9", id="nobody there"),
    ],
)
@pytest.mark.parametrize("words", [["list"], ["verify", "dare@stable"], ["activate", "dare", "1"], ["gc", "dare"]])
def test_what_is_wrong_with_the_place_is_one_line(on: Run, at: str, says: str, words: list[str]) -> None:
    done = on("a", "model", *words, at=at)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.output


def test_a_bucket_that_is_missing_is_named(on: Run, s3_url: str) -> None:
    done = on("a", "model", "list", at="s3://no-such-bucket/shop")
    assert done.exit_code == 1
    assert "there is no bucket or folder 'no-such-bucket'; make it, or correct the URL" in done.stderr


def test_an_altered_file_is_named(on: Run, url: str, model: Model, tmp_path: Path) -> None:
    trainer = open_store(tmp_path / "a" / "models", shared=below(url, "models"))
    version = trainer.publish("dare", model("one")).version
    path = f"dare/{version}/tables/weights"
    trainer.remote.write(path, b"X" * 3_000)  # type: ignore[attr-defined]
    done = on("b", "model", "verify", f"dare/{version}")
    assert done.exit_code == 1
    assert f"{url}/models/{path} is altered since it was published; restore it or use another version" in done.stderr


def test_an_encoder_that_is_shipped_asks_nobody(on: Run, tmp_path: Path) -> None:
    """Only `encoder@…` and `encoder/…` may be versions."""
    from recollect.encoders import encoder_path
    from recollect.settings import Settings

    settings = Settings(var=tmp_path / "a", artifacts="nosuch://bucket")
    assert encoder_path(settings, "demo-shop") == "demo-shop"
    assert encoder_path(settings, "openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
