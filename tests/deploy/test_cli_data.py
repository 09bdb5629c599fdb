"""`recollect data`, as a person at a shell meets it."""

import json
import subprocess
import sys

import polars as pl
import pytest
from typer.testing import CliRunner

from recollect.cli.data import Format, data_app
from recsys.data.event_store import EventStore
from recsys.data.sources import SOURCES

LOG = "1,2,3,pv,100\n1,2,3,buy,200\n2,4,3,cart,50\n2,4,,wink,60\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(data_app, [str(arg) for arg in args])


def test_import_into_var_and_describe(run, tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    result = run("import", "log.csv", "--format", "taobao", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["rows_read"], report["rows_kept"]) == (4, 3)
    assert report["rejections"] == [{"reason": "unknown event type", "rows": 1, "examples": [4]}]
    assert (report["first_time_ms"], report["last_time_ms"]) == (50_000, 200_000)
    assert len(EventStore(tmp_path / "var" / "data" / "log")) == 3

    described = run("describe", "var/data/log", "--json")
    row = json.loads(described.stdout)
    assert (row["n_users"], row["n_items"], row["first_time_ms"], row["last_time_ms"]) == (2, 2, 50_000, 200_000)
    assert row["history_length"] == {"min": 1, "p10": 1, "p50": 1, "p90": 2, "p99": 2, "max": 2}
    assert row["top_categories"] == [{"category": "3", "events": 3, "share": 1.0}]

    shown = run("describe", "var/data/log").stdout
    assert "1970-01-01 00:00:50 UTC" in shown
    assert "unknown event type" in shown


def test_import_shows_what_was_rejected(run, tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    result = run("import", "log.csv", "--format", "taobao", "--to", "s", "--event-types", "click,purchase")
    assert result.exit_code == 0
    for text in ("rows read", "other event types", "unknown event type"):
        assert text in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert any("first event" in line and "1970-01-01 00:01:40 UTC" in line for line in lines)
    assert any("last event" in line and "1970-01-01 00:03:20 UTC" in line for line in lines)
    assert json.loads(run("describe", "s", "--json").stdout)["source"]["event_types"] == ["click", "purchase"]


def test_import_columns(run, tmp_path):
    (tmp_path / "log.tsv").write_text("who\tsku\tat\tdid\nann\tmug\t2020-01-01\tseen\nann\tbowl\t2020-01-02\tbought\n")
    mapping = ("--user", "who", "--item", "sku", "--time", "at", "--type", "did", "--delimiter", "\\t")
    result = run(
        *("import", "log.tsv", "--format", "columns", *mapping, "--type-values", "seen=click, bought=purchase"),
        *("--to", "s", "--json"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["event_types"] == {"click": 1, "purchase": 1}
    assert EventStore(tmp_path / "s").catalogue.item_keys.to_list()[0] == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("import", "none.csv", "-f", "taobao"), "no such file"),
        (("import", "log.csv", "-f", "tmall"), "found no column 'user_id'"),
        (("import", "log.csv", "-f", "taobao", "--year", "2015"), "format taobao has no option year"),
        (("import", "log.csv", "-f", "taobao", "--event-types", "wink"), "unknown event type 'wink'"),
        (("import", "log.csv", "-f", "columns", "--type-values", "a"), "--type-values must look like"),
        (("import", "days.csv", "-f", "columns"), "found numbers as 20171125"),
        (("describe", "."), "no event store at"),
        (("generate", "--users", "0"), "users must be at least 1"),
        (("generate", "--as", "taobao-csv", "--to", "log.csv"), "log.csv exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_told_in_one_line(run, tmp_path, args, message):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "days.csv").write_text("user,item,time\nann,7,20171125\n")
    result = run(*args)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.output


def test_overwrite(run, tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    first = ("import", "log.csv", "-f", "taobao", "--to", "s")
    assert run(*first).exit_code == 0
    refused = run(*first)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert run(*first, "--overwrite").exit_code == 0


def test_generate_a_store_and_a_log(run, tmp_path):
    small = ("--users", 20, "--items", 60, "--categories", 4, "--events", 30, "--days", 20, "--seed", 7)
    result = run("generate", *small, "--json")
    assert result.exit_code == 0, result.output
    store = EventStore(tmp_path / "var" / "data" / "demo")
    assert store.n_users == 20
    assert json.loads(result.stdout)["rows_kept"] == len(store)
    assert store.manifest.source["options"]["seed"] == 7
    assert "salad bowl" in run("describe", "var/data/demo").stdout

    assert run("generate", *small, "--as", "taobao-csv", "--to", "log.csv").exit_code == 0
    assert run("import", "log.csv", "-f", "taobao", "--to", "s").exit_code == 0
    assert len(EventStore(tmp_path / "s")) == len(store)


def test_sources_lists_every_format(run):
    shown = run("sources").stdout
    rows = [json.loads(line) for line in run("sources", "--json").stdout.splitlines()]
    assert [row["format"] for row in rows] == list(SOURCES) == [kind.value for kind in Format]
    for row in rows:
        assert row["example"] in shown
        assert all(column in shown for column in row["columns"])


@pytest.mark.parametrize("command", ["import", "generate", "describe", "sources"])
def test_help_has_an_example(run, command):
    assert f"recollect data {command}" in " ".join(run(command, "--help").stdout.split())


def test_help_imports_nothing_heavy():
    program = "import sys, recollect.cli.data; print(sorted({'polars', 'numpy', 'torch', 'ray'} & set(sys.modules)))"
    package = "import sys, types; cli = types.ModuleType('recollect.cli'); import recollect; "
    package += "cli.__path__ = [recollect.__path__[0] + '/cli']; sys.modules['recollect.cli'] = cli; "
    done = subprocess.run([sys.executable, "-c", package + program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_pictures_of_a_store_s_items_are_told_in_its_catalogue(run, tmp_path):
    small = ("--users", 6, "--items", 12, "--categories", 4, "--events", 20, "--days", 20)
    assert run("generate", *small, "--to", "s").exit_code == 0
    drawn = run("pictures", "--store", "s", "--to", "drawn", "--per-item", 2, "--size", 16)
    assert drawn.exit_code == 0, drawn.output
    assert drawn.stdout.splitlines() == ["drawn/captions.csv", "drawn/catalogue.parquet"]
    before, after = (pl.read_parquet(tmp_path / folder / "catalogue.parquet") for folder in ("s", "drawn"))
    assert after.drop("image").equals(before)
    # What nobody looked at is in no log, and is not drawn.
    items = EventStore(tmp_path / "s").catalogue
    seen = [items.name_of(item_id) for item_id in items.item_ids[1:]]
    assert set(after.drop_nulls("image")["name"]) == set(seen)
    for image in after["image"].drop_nulls():
        assert (tmp_path / "drawn" / image).read_bytes().startswith(b"\xff\xd8")
