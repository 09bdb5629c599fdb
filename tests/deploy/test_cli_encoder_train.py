"""`recollect data pictures` and `recollect encoder train` as a person runs them, workers and mistakes included."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recollect.cli import app
from retrieval.encoders.load import load_encoder

SMALL = ("--epochs", "1", "--image-size", "32", "--batch-size", "20", "--dimension", "16")
NAMES = ["oak salad bowl", "brass table lamp", "merino scarf", "glass vase"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    from retrieval.shop import write_pictures

    folder = tmp_path_factory.mktemp("shop") / "pictures"
    write_pictures(NAMES, folder, per_item=12, seed=0, size=48)
    return folder


@pytest.fixture
def run(tmp_path):
    environment = {"RECOLLECT_VAR": str(tmp_path / "var"), "COLUMNS": "200", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=environment)


def row(result):
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_pictures_are_drawn_of_every_product_with_their_captions(run, tmp_path, monkeypatch):
    monkeypatch.setattr("recollect.cli.pictures.ITEMS", 60)
    result = run("data", "pictures", "--to", tmp_path / "drawn", "--per-item", "2", "--size", "32")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()) == tmp_path / "drawn" / "captions.csv"
    assert len(list((tmp_path / "drawn").glob("*/*.jpg"))) == 120
    assert len([each for each in (tmp_path / "drawn").iterdir() if each.is_dir()]) == 44


def test_train_publishes_an_encoder_that_later_commands_find(run, pictures, ray_node):
    trained = row(run("encoder", "train", pictures, *SMALL, "--json"))
    assert trained["encoder"].startswith("encoder/")
    assert trained["validation"]["pictures"] == 2
    encoder = load_encoder(trained["directory"])
    assert (encoder.dimension, encoder.preprocessing.height) == (16, 32)
    image = next(pictures.glob("*/*.jpg"))
    for reference in ("encoder@stable", trained["encoder"], trained["directory"]):
        answer = row(run("classify", "images", image, "--encoder", reference, "--json"))
        assert len(answer["hits"]) == 5, reference
    again = row(run("encoder", "train", pictures, *SMALL, "--json"))
    assert again["encoder"] == trained["encoder"], "a finished run is found again"


@pytest.mark.slow
def test_a_class_can_be_held_out_of_labelled_pictures(run, pictures, ray_node):
    words = ("encoder", "train", pictures, "--descriptors", "demo-shop", *SMALL, "--json")
    everything, without = row(run(*words)), row(run(*words, "--hold-out", "scarf"))
    texts = [Path(each["directory"], "words.json").read_text() for each in (everything, without)]
    assert '"scarf"' in texts[0]
    assert '"scarf"' not in texts[1]


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(run, pictures, ray_node):
    options = ("--image-size", "32", "--batch-size", "24", "--dimension", "16", "--epochs", "40", "--json")
    one = row(run("encoder", "train", pictures, *options, "--run", "one"))
    two = row(run("encoder", "train", pictures, *options, "--run", "two", "--workers", "2"))
    for trained in (one, two):
        measured = run(
            "classify",
            "evaluate",
            "--images",
            pictures,
            "--encoder",
            trained["directory"],
            "--json",
            "--repetitions",
            "1",
        )
        assert measured.exit_code == 0, measured.output
        assert json.loads(measured.stdout)["methods"][0]["top1"] > 0.7, trained


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("nowhere.csv",), "nowhere.csv cannot be read", id="no table"),
        pytest.param(("nowhere", "--descriptors", "demo-shop"), "there is no such file", id="no folder"),
        pytest.param(("nowhere", "--preset", "phtos"), "no preset 'phtos'", id="no preset"),
        pytest.param(("nowhere.csv", "--hold-out", "x"), "--hold-out names classes", id="hold out without classes"),
        pytest.param(("nowhere.csv", "--epochs", "0"), "epochs must be at least 1", id="no epochs"),
    ],
)
def test_a_mistake_is_one_line(run, words, message):
    result = run("encoder", "train", *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_an_unknown_label_says_what_there_is(run, pictures):
    result = run("classify", "images", next(pictures.glob("*/*.jpg")), "--encoder", "encoder@stable")
    assert result.exit_code == 1
    assert "no label of 'encoder'" in result.stderr
