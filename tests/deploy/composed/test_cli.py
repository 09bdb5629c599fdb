"""`recollect composed index | add | delete | galleries | search`, as a person at a shell meets them."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from recollect.artifacts import GALLERIES, ArtifactStore
from recollect.cli import app

TEXT = "at night on a beach"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a directory of its own: `run("index", …)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECOLLECT_VAR", "var")
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*words):
        return CliRunner().invoke(app, ["composed", *map(str, words)])

    return invoke


@pytest.fixture
def gallery(run, shop_pictures, tiny_composed):
    """The gallery `shop`, made by the command; its version."""
    metadata = shop_pictures.parent / "metadata.csv"
    done = run("index", shop_pictures, "--name", "shop", "--model", tiny_composed(), "--metadata", metadata, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["version"]


def test_a_gallery_is_made_listed_changed_and_searched(run, gallery, shop_pictures, tmp_path):
    done = run("search", shop_pictures / "3.png", "--text", TEXT, "--gallery", "shop", "-k", "3", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert len(answer["hits"]) == 3
    assert (answer["gallery"], answer["gallery_version"], answer["model_name"]) == ("shop", gallery, "tiny-scalar-0")
    assert answer["explanation"] is None
    found = json.loads(run("search", "--id", "3.png", "--text", TEXT, "--gallery", "shop", "--json").stdout)
    assert {hit["image_id"] for hit in found["hits"]} == {f"{number}.png" for number in range(10) if number != 3}
    new = tmp_path / "new"
    new.mkdir()
    (new / "10.png").write_bytes((shop_pictures / "3.png").read_bytes())
    added = run("add", "shop", new)
    assert added.exit_code == 0, added.output
    assert "11 pictures" in added.stdout
    deleted = json.loads(run("delete", "shop", "1.png", "2.png", "--json").stdout)
    assert deleted["images"] == 9
    twin = json.loads(run("search", "--id", "3.png", "--text", TEXT, "--gallery", "shop", "--json").stdout)
    assert {hit["image_id"] for hit in twin["hits"]} == {
        *(f"{number}.png" for number in (0, 4, 5, 6, 7, 8, 9)),
        "10.png",
    }
    rows = [json.loads(line) for line in run("galleries", "--json").stdout.splitlines()]
    images = {row["version"]: row["images"] for row in rows}
    assert (len(rows), images[gallery], images[deleted["version"]]) == (3, 10, 9)
    assert [row["version"] for row in rows if row["labels"] == ["stable"]] == [deleted["version"]]
    table = run("galleries")
    assert "colour, price" in table.stdout


def test_the_service_and_this_process_give_the_same_answer(run, gallery, start_searching, tmp_path, shop_pictures):
    address = start_searching(indexes=tmp_path / "var" / "indexes").address
    words = ["search", shop_pictures / "3.png", "--box", "8,4,30,30", "--text", TEXT, "--gallery", "shop", "--explain"]
    here, there = (json.loads(run(*words, "--json", *more).stdout) for more in ((), ("--target", address)))
    assert (here.pop("model_name"), there.pop("model_name")) == ("tiny-scalar-0", "tiny")
    assert here == there
    assert len(here["explanation"]["words"]) == 5
    listed = json.loads(run("galleries", "--target", address, "--json").stdout)
    assert (listed["name"], listed["version"], listed["images"]) == ("shop", gallery, 10)


def test_the_tables_show_hits_beta_words_and_what_had_no_effect(run, gallery):
    done = run("search", "--id", "0.png", "--box", "0,0,4,40", "--text", TEXT, "--gallery", "shop", "--explain")
    assert done.exit_code == 0, done.output
    for text in (f"shop/{gallery}", "colour", "vector", "β ", "attention on the box", "beach", "sees the middle"):
        assert text in done.stdout


def test_filters_keep_what_fits(run, gallery):
    words = ["search", "--id", "0.png", "--text", TEXT, "--gallery", "shop", "--json"]
    found = json.loads(run(*words, "--filter", "colour=red,blue", "--filter", "price=3,5,7").stdout)
    assert {hit["image_id"] for hit in found["hits"]} == {"3.png", "5.png"}


def test_the_search_is_drawn(run, gallery, shop_pictures):
    words = ["search", shop_pictures / "3.png", "--text", TEXT, "--gallery", "shop"]
    done = run(*words, "--box", "8,4,30,30", "--picture", "drawn/found.png", "-k", "7")
    assert done.exit_code == 0, done.output
    drawn = Image.open("drawn/found.png")
    # The reference and where it was looked, above two rows of hits.
    assert drawn.height > 3 * 200
    red = np.all(np.asarray(drawn) == (230, 30, 30), axis=-1)
    assert red.any()
    assert red[:, drawn.width // 2 :].sum() == 0
    run(*words, "--picture", "without.png", "-k", "7")
    assert not np.all(np.asarray(Image.open("without.png")) == (230, 30, 30), axis=-1).any()


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        pytest.param((), 2, "give either a picture or --id", id="no reference"),
        pytest.param(("a.png", "--id", "0.png"), 2, "give either a picture or --id", id="two references"),
        pytest.param(("nowhere.png",), 1, "nowhere.png cannot be read", id="no such file"),
        pytest.param(("--id", "0.png", "--box", "1,2,3"), 2, "four numbers", id="half a box"),
        pytest.param(("--id", "0.png", "--box", "1,2,3,x"), 2, "four numbers", id="box of letters"),
        pytest.param(
            ("--id", "0.png", "--box", "900,0,950,9"),
            1,
            "error: box must lie in the picture of 64 by 40 pixels",
            id="box outside",
        ),
        pytest.param(("--id", "0.png", "--box", "nan,0,9,9"), 1, "box.x1 must be a finite number", id="box of NaN"),
        pytest.param(("--id", "0.png", "--filter", "colour"), 2, "COLUMN=VALUE", id="half a filter"),
        pytest.param(("--id", "0.png", "--filter", "size=1"), 1, "there is 'colour', 'price'", id="unknown column"),
        pytest.param(("--id", "0.png", "--beta", "-1"), 1, "beta must be finite and 0 or more", id="beta"),
        pytest.param(("--id", "99.png"), 1, "no picture '99.png' in gallery 'shop'", id="unknown id"),
        pytest.param(("--id", "0.png", "--gallery", "shp"), 1, "no gallery 'shp@stable'", id="unknown gallery"),
        pytest.param(("--id", "0.png", "--target", "127.0.0.1:1"), 1, "is `recollect serve", id="no service"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(run, gallery, words, status, says):
    gallery_words = () if "--gallery" in words else ("--gallery", "shop")
    done = run("search", *words, "--text", TEXT, *gallery_words)
    assert done.exit_code == status, done.output
    assert says in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output


def test_the_model_must_be_the_one_that_made_the_gallery(run, gallery, tiny_composed, shop_pictures):
    other = tiny_composed(seed=1)
    done = run("search", "--id", "0.png", "--text", TEXT, "--gallery", "shop", "--model", other)
    assert done.exit_code == 1
    assert "was made with the model tiny-scalar-0" in done.stderr


def test_pictures_that_cannot_be_used_are_listed(run, tiny_composed, shop_pictures, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.png").write_bytes((shop_pictures / "0.png").read_bytes())
    (photos / "bad.png").write_bytes(b"no picture")
    done = run("index", "photos", "--name", "shop", "--model", tiny_composed(), "--label", "")
    assert done.exit_code == 0, done.output
    assert "1 pictures" in done.stdout
    assert "bad.png" in done.stderr
    store = ArtifactStore(tmp_path / "var" / "indexes", kind=GALLERIES)
    assert (len(store.versions("shop")), store.labels("shop")) == (1, {})


def test_a_published_model_is_remembered_by_its_version(run, tiny_composed, shop_pictures, tmp_path):
    models = ArtifactStore(tmp_path / "var" / "models")
    first = models.publish("adafocal", tiny_composed())
    models.set_label("adafocal", "stable", first.version)
    assert run("index", shop_pictures, "--name", "shop").exit_code == 0
    models.set_label("adafocal", "stable", models.publish("adafocal", tiny_composed(seed=1)).version)
    done = run("search", "--id", "0.png", "--text", TEXT, "--gallery", "shop", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model_name"] == f"adafocal/{first.version}"


def test_a_service_does_not_start_without_the_model_that_it_was_told(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path))
    models = ArtifactStore(tmp_path / "models")
    (tmp_path / "dare").mkdir()
    (tmp_path / "dare" / "config.json").write_text("{}")
    models.set_label("dare", "stable", models.publish("dare", tmp_path / "dare").version)
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--no-classification", "--composed", "adafocal@stable"])
    assert done.exit_code == 1
    assert "no model 'adafocal@stable'" in done.stderr
