"""`recollect index … --target` and `recollect model … --target`: a running service as a person at a shell meets it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.admin.models import FollowedModel
from recollect.admin.server import RunningAdmin
from recollect.artifacts.locks import locked
from recollect.cli import app
from recollect_api.admin import AdminClient

Run = Callable[..., Result]


@pytest.fixture
def run(running: RunningAdmin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command far from the service's directory."""
    monkeypatch.chdir(tmp_path)
    environment = {"RECOLLECT_VAR": "elsewhere", "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [*map(str, words), "--target", running.address], env=environment)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_service_builds_and_its_versions_come_and_go(run: Run, versions: list[str], var: Path) -> None:
    (built,) = rows(run("index", "build", "items", "--vectors", "nightly", "--json"))
    assert {key: built[key] for key in ("index", "label", "vectors", "dim", "spec", "recall")} == {
        "index": "items",
        "label": "stable",
        "vectors": 500,
        "dim": 16,
        "spec": "Flat",
        "recall": 1.0,
    }
    (moved,) = rows(run("index", "activate", "items", versions[0], "--expected", built["version"], "--json"))
    assert moved == {"name": "items", "label": "stable", "version": versions[0], "before": built["version"]}
    listed = rows(run("index", "list", "items", "--json"))
    # What a service lists is what its own machine does.
    there = CliRunner().invoke(app, ["index", "list", "--json"], env={"RECOLLECT_VAR": str(var)})
    local = {row["version"]: row for row in rows(there)}
    assert [row["version"] for row in listed] == sorted([*versions, built["version"]])
    for row in listed:
        assert {**row, "source": 0} == {**local[row["version"]], "source": 0}
    assert {row["source"].get("model") for row in listed} == {"m/0", "m/1", "m/2", "m/3", None}
    (back,) = rows(run("index", "rollback", "items", "--json"))
    assert (back["version"], back["before"]) == (built["version"], versions[0])
    overtaken = run("index", "activate", "items", versions[1], "--expected", versions[0])
    assert overtaken.exit_code == 1
    assert f"points at {built['version']}, not at {versions[0]}" in overtaken.stderr
    refused = run("index", "activate", "items", versions[3])
    assert refused.exit_code == 1
    assert "of the 500 ids that should be there are" in refused.stderr


def test_what_is_built_is_watched_and_cancelled(run: Run, admin: AdminClient, var: Path) -> None:
    with locked(var / "indexes" / "items" / ".publishing"):
        operation = admin.build_index("items", files=["small.parquet"]).name
        (row,) = rows(run("index", "operations", "--json"))
        assert (row["operation"], row["index"], row["state"]) == (operation, "items", "builds")
        second = run("index", "build", "items", "--vectors", "small.parquet")
        assert second.exit_code == 1
        assert f"is being built by {operation}" in second.stderr
    watched = run("index", "watch", operation)
    assert watched.exit_code == 0, watched.output
    assert watched.stdout.endswith(": 500 vectors, Flat\n")
    assert "had ended" in run("index", "cancel", operation).stdout
    other = admin.build_index("items", files=["large.parquet"]).name
    assert "what it had made is removed" in run("index", "cancel", other).stdout
    assert [row["state"] for row in rows(run("index", "operations", "--json"))] == ["build cancelled", "built"]


def test_ctrl_c_leaves_the_build_to_the_service(
    running: RunningAdmin, admin: AdminClient, var: Path, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["index", "build", "items", "--vectors", "small.parquet", "--target", running.address]
    command = [sys.executable, "-c", "from recollect.entry import main; main()", *words]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "300"}
    with (
        locked(var / "indexes" / "items" / ".publishing"),
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process,
    ):
        operation = eventually(lambda: next(admin.operations(), None))
        eventually(lambda: any(step.name == "publishing" for step in admin.get_operation(operation.name).steps))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert f"recollect index watch {operation.name} --target {running.address}" in told
        assert not admin.get_operation(operation.name).done
    assert admin.wait_operation(operation.name).result().labels == ("stable",)


def test_models_are_moved_and_the_recommender_with_them(
    start_admin: Callable[..., RunningAdmin], save_model_version: Callable[[int], str], var: Path
) -> None:
    swaps: list[str] = []
    first, second = save_model_version(1), save_model_version(2)
    address = start_admin(followed=FollowedModel.of("dare@stable", swaps.append)).address

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["model", *words, "--target", address], env={"COLUMNS": "200"})

    assert "the service answers with it" in run("activate", "dare", first).stdout
    (moved,) = rows(run("activate", "dare", second, "--json"))
    assert moved == {"name": "dare", "label": "stable", "version": second, "before": first, "answers": True}
    assert f"dare@stable is {first} now, before {second}" in run("rollback", "dare").stdout
    assert swaps == [f"dare/{version}" for version in (first, second, first)]
    listed = rows(run("list", "--json"))
    local = CliRunner().invoke(app, ["model", "list", "--json"], env={"RECOLLECT_VAR": str(var)})
    assert listed == rows(local)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["index", "build", "items", "--vectors", "/etc"], "must be a path below the service's directory"),
        (["index", "build", "items", "--model", "dare@stable"], "there is no model 'dare@stable'"),
        (["index", "activate", "items", "1"], "there is no index 'items'"),
        (["index", "list", "items"], "there is no index 'items'"),
        (["index", "cancel", "operations/1"], "there is no operations/1"),
        (["model", "rollback", "dare"], "there is no model 'dare'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_is_missing_is_told(run: Run, words: list[str], match: str) -> None:
    done = run(*words)
    assert done.exit_code == 1
    assert match in done.stderr


def test_a_service_that_is_not_there_is_named(run: Run) -> None:
    done = CliRunner().invoke(app, ["index", "list", "--target", "127.0.0.1:1"])
    assert done.exit_code == 1
    assert "127.0.0.1:1" in done.stderr
    assert "is `recollect serve --admin-port` running there?" in done.stderr
    unnamed = CliRunner().invoke(app, ["index", "operations"])
    assert unnamed.exit_code == 1
    assert "name the service with --target" in unnamed.stderr


@pytest.mark.parametrize(
    ("port", "admin_port", "match"),
    [
        (50123, 50123, "--admin-port must not be the gateway's port 50123"),
        (0, None, "choose another --admin-port, or 0 for a free one"),
        (0, 0, "another service with --admin-port administers"),
    ],
    ids=["the gateway's own", "taken", "the directory is administered"],
)
def test_an_admin_port_that_cannot_be_is_refused_before_anything_starts(
    running: RunningAdmin, var: Path, port: int, admin_port: int | None, match: str
) -> None:
    words = ["--port", str(port), "--admin-port", str(running.port if admin_port is None else admin_port)]
    parts = ["--no-recommender", "--no-classification"]
    done = CliRunner().invoke(app, ["serve", *parts, *words], env={"RECOLLECT_VAR": str(var)})
    assert done.exit_code == 1
    assert match in done.stderr
    assert not (var / "redis").exists()


def test_the_configured_service_is_asked_where_none_is_named(running: RunningAdmin) -> None:
    done = CliRunner().invoke(app, ["index", "operations", "--json"], env={"RECOLLECT_ADMIN_PORT": str(running.port)})
    assert rows(done) == []
