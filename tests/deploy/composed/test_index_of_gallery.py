"""An index of a gallery's pictures as a whole: one vector a picture, which is like another as their vectors are."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from recollect.admin.server import AdminConfig, RunningAdmin
from recollect.cli import app
from recollect.settings import Settings
from recollect_api import InvalidRequest
from recollect_api.admin import AdminClient
from retrieval.index.vector_index import VectorIndex


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a directory of its own: `run("index", …)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECOLLECT_VAR", "var")
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*words):
        return CliRunner().invoke(app, list(map(str, words)))

    return invoke


@pytest.fixture
def gallery(run, shop_pictures, tiny_composed):
    """The gallery `shop`, made by the command; its version."""
    done = run("composed", "index", shop_pictures, "--name", "shop", "--model", tiny_composed(), "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["version"]


def rows(done):
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_pictures_of_a_gallery_are_found_as_a_whole(run, gallery, shop_pictures, vectors, tmp_path, monkeypatch):
    monkeypatch.setattr("recollect.indexes.sources._PICTURES", 3)
    (built,) = rows(run("index", "build", "looks", "--gallery", "shop@stable", "--json"))
    assert built["vectors"] == 10
    index = VectorIndex.open(tmp_path / "var" / "indexes" / "looks" / built["version"] / "index")
    assert index.facts.source["gallery"] == f"shop/{gallery}"
    # Up to lengths, similarity is the mean over all pairs of the pictures' vectors, which a gallery keeps as halves.
    pairs = np.einsum("avd,bwd->ab", vectors, vectors) / vectors.shape[1] ** 2
    lengths = np.sqrt(np.diag(pairs))
    alike = pairs / lengths[:, None] / lengths[None]
    np.fill_diagonal(alike, -1)
    for number in range(10):
        found = rows(run("index", "search", "looks", "--like", f"{number}.png", "-k", 9, "--json"))
        assert [hit["id"] for hit in found][:1] == [f"{int(alike[number].argmax())}.png"]
        scores = {hit["id"]: hit["score"] for hit in found}
        expected = [alike[number, other] for other in range(10) if other != number]
        np.testing.assert_allclose([scores[f"{each}.png"] for each in range(10) if each != number], expected, atol=3e-3)
    (first,) = rows(run("index", "search", "looks", "--image", shop_pictures / "4.png", "-k", 1, "--json"))
    assert first["id"] == "4.png"
    assert first["score"] == pytest.approx(1, abs=1e-3)


def test_a_text_alone_is_nothing_that_a_gallery_s_model_takes(run, gallery):
    rows(run("index", "build", "looks", "--gallery", "shop@stable", "--json"))
    done = run("index", "search", "looks", "--text", "a mug")
    assert done.exit_code == 1
    assert "takes a text only beside a picture" in done.stderr
    assert f"10 × 8 of shop/{gallery}" in run("index", "list", "looks").stdout


def test_a_running_service_builds_one_too(run, gallery, tmp_path):
    config = AdminConfig(settings=Settings(var=tmp_path / "var", build_niceness=0), port=0)
    with RunningAdmin(config) as running, AdminClient(running.address) as admin:
        operation = admin.build_index("looks", gallery="shop@stable")
        assert operation.source.gallery == f"shop/{gallery}"
        version = admin.wait_operation(operation.name).result()
        assert (version.vectors, version.source.gallery) == (10, f"shop/{gallery}")
        with pytest.raises(InvalidRequest, match="must not be the name of a gallery"):
            admin.build_index("shop", gallery="shop@stable")


def test_a_gallery_and_an_index_do_not_share_a_name(run, gallery):
    done = run("index", "build", "shop", "--gallery", "shop@stable")
    assert done.exit_code == 1
    assert "is not index but something else; choose another name" in done.stderr
    missing = run("index", "build", "looks", "--gallery", "none@stable")
    assert missing.exit_code == 1
    assert "no gallery 'none@stable'" in missing.stderr
