"""`recollect catalogue` as a person at a shell meets it: imported, listed, shown, refused, rolled back, removed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from recollect.cli import app
from recsys.data.catalogue import key_to_id

Run = Callable[..., Result]
HEADER = "sku,title,price,stock,since"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environment = {"RECOLLECT_VAR": "var", "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, ["catalogue", *map(str, words)], env=environment)


@pytest.fixture
def feed(tmp_path: Path) -> Callable[..., Path]:
    """Write a feed of bowls b0, b1, …, the lines after them as given."""

    def write(count: int, *lines: str, price: float = 12.5) -> Path:
        rows = [
            f"b{number},bowl no. {number},{price},{number % 2},2024-01-0{number % 9 + 1}" for number in range(count)
        ]
        path = tmp_path / "feed.csv"
        path.write_text("\n".join([HEADER, *rows, *lines]) + "\n")
        return path

    return write


OPTIONS = ("--column", "name=title", "--column", "availability=stock", "--currency", "EUR")


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_same_file_again_mends_what_is_damaged(run: Run, feed: Callable[..., Path], tmp_path: Path) -> None:
    (imported,) = rows(run("import", feed(5), *OPTIONS, "--json"))
    path = tmp_path / "var" / "catalogues" / "shop" / imported["version"] / "catalogue" / "items.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert "is altered since it was published" in run("show", "b1").stderr
    (again,) = rows(run("import", feed(5), *OPTIONS, "--json"))
    assert again["version"] == imported["version"]
    (shown,) = rows(run("show", "b1", "--json"))
    assert shown["name"] == "bowl no. 1"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--name", "../../models/dare"], "name of catalogue must be 1 to 100 letters"),
        (["--label", "bad label"], "label must be 1 to 100 letters"),
    ],
    ids=["name", "label"],
)
def test_what_cannot_be_a_name_or_a_label_leaves_nothing(
    run: Run, feed: Callable[..., Path], tmp_path: Path, words: list[str], match: str
) -> None:
    refused = run("import", feed(5), *OPTIONS, *words)
    assert refused.exit_code == 1
    assert match in refused.stderr
    assert {path.name for path in tmp_path.rglob("*")} <= {"feed.csv", "var"}


def test_a_day_after_the_other_and_back(run: Run, feed: Callable[..., Path]) -> None:
    (monday,) = rows(run("import", feed(20), *OPTIONS, "--json"))
    assert (monday["items"], monday["priced"], monday["in_stock"], monday["currencies"]) == (20, 20, 10, ["EUR"])
    assert (monday["columns"], monday["only_in_stock"], monday["bad_rows"]) == (["since"], True, 0)
    (tuesday,) = rows(run("import", feed(18, price=11), *OPTIONS, "--any-availability", "--json"))
    assert (tuesday["coverage"], tuesday["only_in_stock"]) == (0.9, False)
    listed = {row["version"]: row for row in rows(run("list", "--json"))}
    assert listed[monday["version"]]["labels"] == []
    assert listed[tuesday["version"]]["labels"] == ["stable"]
    assert listed[tuesday["version"]]["items"] == 18

    refused = run("import", feed(9), *OPTIONS)
    assert refused.exit_code == 1
    assert "has 50.0% of the items of shop@stable, fewer than 80%" in refused.stderr
    (half,) = {row["version"] for row in rows(run("list", "shop", "--json"))} - listed.keys()
    (activated,) = rows(run("activate", "shop", half, "--expected", tuesday["version"], "--json"))
    assert (activated["version"], activated["before"]) == (half, tuesday["version"])
    (back,) = rows(run("rollback", "shop", "--json"))
    assert back["version"] == tuesday["version"]
    (back,) = rows(run("rollback", "shop", "--json"))
    assert back["version"] == monday["version"]
    (removed,) = rows(run("gc", "--keep", "0", "--json"))
    assert sorted(removed["removed"]) == sorted([tuesday["version"], half])
    assert [row["version"] for row in rows(run("list", "--json"))] == [monday["version"]]


def test_what_is_imported_is_shown_by_key_or_by_id(run: Run, feed: Callable[..., Path]) -> None:
    done = run("import", feed(3), *OPTIONS)
    assert done.exit_code == 0, done.output
    assert "(shop@stable): 3 items, 3 with a price in EUR, 1 in stock, further since; requests" in done.stdout
    assert "get only what is in stock" in done.stdout
    number = key_to_id("b1")
    one, other, missing = rows(run("show", "b1", number, "b7", "--json"))
    assert one == {
        "item": "b1",
        "item_id": number,
        "known": True,
        "item_key": "b1",
        "name": "bowl no. 1",
        "category": None,
        "image": None,
        "price": 12.5,
        "currency": "EUR",
        "availability": "in_stock",
        "since": "2024-01-02",
    }
    assert {**other, "item": "b1"} == one
    assert missing == {"item": "b7", "item_id": key_to_id("b7"), "known": False}
    shown = run("show", "b1", "b7")
    assert "bowl no. 1" in shown.stdout
    assert "not in shop@stable: b7" in shown.stdout


def test_bad_rows_are_told_and_the_good_ones_kept_unless_they_are_many(run: Run, feed: Callable[..., Path]) -> None:
    done = run("import", feed(300, "b300,dear,much,1,", "b1,twice,3,1,"), *OPTIONS, "--rejects", "bad.csv")
    assert done.exit_code == 0, done.output
    told = " ".join(done.stdout.replace("│", " ").split())
    assert "2 of 302 rows cannot be used" in told
    assert "301 price much is no amount; write 12.50, or 12.50 EUR" in told
    assert "302 item b1 row 2 has this item already and is kept; keep one row an item" in told
    assert "300 items" in told
    assert pl.read_csv("bad.csv").select("row", "field", "value").rows() == [
        (301, "price", "much"),
        (302, "item", "b1"),
    ]
    many = run("import", feed(300, *(f"c{number},dear,much,1," for number in range(30))), *OPTIONS)
    assert many.exit_code == 1
    assert "30 of 330 rows cannot be used, here the first 20; all with --rejects CSV" in " ".join(many.stdout.split())
    assert "the whole file is refused and nothing has changed" in many.stderr
    assert len(rows(run("list", "--json"))) == 1


def test_rejects_that_cannot_be_written_are_told_before_anything_changes(run: Run, feed: Callable[..., Path]) -> None:
    done = run("import", feed(3), *OPTIONS, "--rejects", "none/bad.csv")
    assert done.exit_code == 1
    assert "--rejects none/bad.csv cannot be written: No such file or directory" in done.stderr
    assert "there is no 'shop'" in run("list", "shop").stderr


def test_a_damaged_version_hides_no_other(run: Run, feed: Callable[..., Path], tmp_path: Path) -> None:
    (monday,) = rows(run("import", feed(20), *OPTIONS, "--json"))
    (tuesday,) = rows(run("import", feed(19), *OPTIONS, "--json"))
    (tmp_path / "var" / "catalogues" / "shop" / monday["version"] / "catalogue" / "catalogue.json").write_text("{")
    damaged, whole = rows(run("list", "--json"))
    assert (damaged["version"], whole["version"], whole["items"]) == (monday["version"], tuesday["version"], 19)
    assert "catalogue.json cannot be read" in damaged["problem"]
    assert "DAMAGED: " in run("list").stdout


def test_a_number_of_any_length_is_shown_as_unknown(run: Run, feed: Callable[..., Path]) -> None:
    run("import", feed(2), *OPTIONS)
    done = run("show", "9" * 5_000, "9" * 19, str(2**63 - 1))
    assert done.exit_code == 0
    assert f"not in shop@stable: {'9' * 5_000}, {'9' * 19}, {2**63 - 1}" in done.stdout


def test_settings_say_how_many_bad_rows_and_missing_items_are_too_many(
    run: Run, feed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOLLECT_CATALOGUE_MAX_BAD_ROWS", "0.5")
    monkeypatch.setenv("RECOLLECT_CATALOGUE_MIN_COVERAGE", "0.1")
    rows(run("import", feed(10, "b300,dear,much,1,"), *OPTIONS, "--json"))
    (second,) = rows(run("import", feed(2), *OPTIONS, "--json"))
    assert second["coverage"] == 0.2


def test_another_name_and_no_label(run: Run, feed: Callable[..., Path]) -> None:
    (imported,) = rows(run("import", feed(2), *OPTIONS, "--name", "outlet", "--label", "", "--json"))
    (listed,) = rows(run("list", "--json"))
    assert (listed["name"], listed["version"], listed["labels"]) == ("outlet", imported["version"], [])
    (shown,) = rows(run("show", "b1", "--catalogue", f"outlet/{imported['version']}", "--json"))
    assert shown["name"] == "bowl no. 1"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["import", "none.csv"], "none.csv: expected a catalogue"),
        (["import", "feed.csv", "--column", "name"], "--column must look like item=sku, got 'name'"),
        (["import", "feed.csv", "--column", "colour=sku"], "no field 'colour'; it has item, name"),
        (["import", "feed.csv"], "prices tell no currency; say --currency EUR"),
        (["import", "feed.csv", "-f", "tmall"], "unknown format 'tmall'; use one of columns, online-retail"),
        (["list", "shop"], "there is no 'shop'"),
        (["show", "1"], "no catalogue 'shop@stable'"),
        (["activate", "shop", "1"], "no version '1' of 'shop'"),
        (["rollback", "shop"], "shop@stable"),
        (["gc", "shop"], "there is no 'shop'"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told(run: Run, feed: Callable[..., Path], words: list[str], match: str) -> None:
    feed(2)
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert match in " ".join(done.stderr.replace("│", " ").split())


def test_an_altered_version_is_not_activated(run: Run, feed: Callable[..., Path], tmp_path: Path) -> None:
    (imported,) = rows(run("import", feed(3), *OPTIONS, "--json"))
    path = tmp_path / "var" / "catalogues" / "shop" / imported["version"] / "catalogue" / "items.parquet"
    path.write_bytes(path.read_bytes()[::-1])
    done = run("activate", "shop", imported["version"], "--label", "canary")
    assert done.exit_code == 1
    assert "items.parquet is altered since it was published" in done.stderr


def test_serve_names_a_catalogue_that_is_missing_or_that_nobody_would_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path))
    done = CliRunner().invoke(app, ["serve", "--no-recommender", "--catalogue", "shop@stable", "--port", "0"])
    assert done.exit_code == 1
    assert "--catalogue shop@stable is for the recommender" in done.stderr
    from recollect.errors import ArtifactError
    from recollect.serve_app import check
    from recollect.settings import Settings

    class AnyModel:
        def pin(self, reference: str) -> str:
            return reference

    settings = Settings(var=tmp_path, port=0, classification=False, catalogue="shop@stable")
    with pytest.raises(ArtifactError, match="no catalogue 'shop@stable'"):
        check(settings, "any", models=AnyModel())  # type: ignore[arg-type]
