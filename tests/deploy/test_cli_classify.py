"""`recollect classify`, as a person at a shell meets it, over a CLIP checkpoint that is tiny and knows nothing."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from recollect.cli.classify import classify_app

COLOURS = {"red": (220, 30, 30), "lime": (60, 230, 40), "blue": (20, 40, 210)}
BIRDS = {"hen": ["a red comb", "two legs"], "owl": ["round eyes"], "emu": []}
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP of 16-pixel images that reads letter by letter, with random weights, as a checkpoint on disk."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    directory = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    end = len(vocabulary) - 1
    words = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    files = {
        "vocab.json": {token: at for at, token in enumerate(vocabulary)},
        "tokenizer_config.json": words
        | {"unk_token": "<|endoftext|>", "model_max_length": 64, "tokenizer_class": "CLIPTokenizer"},
        "preprocessor_config.json": {
            "crop_size": 16,
            "size": 16,
            "resample": 3,
            "do_resize": True,
            "do_center_crop": True,
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "feature_extractor_type": "CLIPFeatureExtractor",
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    tokens = {"vocab_size": end + 1, "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(
        text_config=LAYERS | tokens | {"max_position_embeddings": 64},
        vision_config=LAYERS | {"image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = CLIPModel(config)
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.3)
        model.save_pretrained(directory)
    return directory


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory to work in, with three photos of birds in folders by class, one photo of nothing known, and a set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECOLLECT_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("COLUMNS", "200")
    for at, (folder, colour) in enumerate([("hen", "red"), ("HEN", "lime"), ("owl", "blue"), ("dodo", "red")]):
        path = tmp_path / "photos" / folder / f"{at}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (20 + 4 * at, 24), COLOURS[colour]).save(path)
    (tmp_path / "birds.json").write_text(json.dumps(BIRDS))
    (tmp_path / "notes.png").write_text("no picture")
    return tmp_path


@pytest.fixture
def run(here, clip):
    def call(command, *args):
        return CliRunner().invoke(classify_app, [command, *map(str, args), "--encoder", str(clip)])

    return call


@pytest.fixture
def cosines(clip):
    """Cosines [images, texts] straight from the encoder."""
    from retrieval.encoders.load import load_encoder
    from retrieval.encoders.protocol import embed_images
    from retrieval.images import decode_image

    encoder = load_encoder(clip)

    def of(paths, texts):
        images = embed_images(encoder, [decode_image(path) for path in paths])
        return images @ encoder.embed_texts(texts).T

    return of


def test_each_image_gets_its_classes_scores_and_reasons(run, here, cosines):
    photos = [here / "photos/hen/0.png", here / "photos/owl/2.png"]
    result = run("images", *photos, "--descriptors", "birds.json", "--explain", "--top-k", "3", "--json")
    assert result.exit_code == 0, result.output
    texts = ["hen, which is a red comb", "hen, which has two legs", "owl, which has round eyes", "emu"]
    for line, path, found in zip(result.stdout.splitlines(), photos, cosines(photos, texts), strict=True):
        answer = json.loads(line)
        scores = {"hen": (found[0] + found[1]) / 2, "owl": found[2], "emu": found[3]}
        assert answer["image"] == str(path)
        assert [hit["name"] for hit in answer["hits"]] == sorted(scores, key=scores.get, reverse=True)
        for hit in answer["hits"]:
            assert hit["score"] == pytest.approx(scores[hit["name"]], abs=1e-5)
            assert sum(reason["contribution"] for reason in hit["reasons"]) == pytest.approx(hit["score"], abs=1e-5)
        hen = next(hit for hit in answer["hits"] if hit["name"] == "hen")
        assert {reason["descriptor"]: reason["similarity"] for reason in hen["reasons"]} == {
            "a red comb": pytest.approx(found[0], abs=1e-5),
            "two legs": pytest.approx(found[1], abs=1e-5),
        }
        assert sum(hit["probability"] for hit in answer["hits"]) == pytest.approx(1.0)


def test_the_answer_by_names_alone_stands_beside(run, here, cosines):
    photo = here / "photos/hen/0.png"
    (found,) = cosines([photo], ["a photo of a hen.", "a photo of a owl.", "a photo of a emu."])
    best = ["hen", "owl", "emu"][int(found.argmax())]
    answer = json.loads(run("images", photo, "--descriptors", "birds.json", "--json").stdout)
    assert answer["by_name"] == {"name": best, "score": pytest.approx(float(found.max()), abs=1e-5)}
    assert "reasons" not in answer["hits"][0]
    named = json.loads(run("images", photo, "--classes", "hen, owl,emu", "--top-k", "1", "--json").stdout)
    assert [hit["name"] for hit in named["hits"]] == [best]


def test_tables_say_why(run, here):
    photo = here / "photos/hen/0.png"
    shown = run("images", photo, "--descriptors", "birds.json", "--explain", "--contrast", "OWL")
    assert shown.exit_code == 0, shown.output
    for text in ("photos/hen/0.png", "probability", "a red comb", "two legs", "By names alone it would be"):
        assert text in shown.stdout
    best = json.loads(run("images", photo, "--descriptors", "birds.json", "--json").stdout)["hits"][0]["name"]
    if best == "owl":
        assert "owl is the best class itself" in shown.stdout
    else:
        assert f"Why {best} and not owl: +" in shown.stdout


def test_a_contrast_adds_up_and_the_best_class_has_none(run, here):
    photo = here / "photos/hen/0.png"
    plain = json.loads(run("images", photo, "--descriptors", "birds.json", "--json").stdout)
    best, second, _ = plain["hits"]
    assert plain["contrast"] is None
    found = json.loads(
        run("images", photo, "--descriptors", "birds.json", "--contrast", second["name"], "--json").stdout
    )
    contrast = found["contrast"]
    assert (contrast["winner"], contrast["rival"]) == (best["name"], second["name"])
    assert contrast["difference"] == pytest.approx(best["score"] - second["score"], abs=1e-6)
    assert sum(term["contribution"] for term in contrast["terms"]) == pytest.approx(contrast["difference"], abs=1e-6)
    itself = run("images", photo, "--descriptors", "birds.json", "--contrast", best["name"])
    assert f"{best['name']} is the best class itself" in itself.stdout


def test_an_unusable_image_is_named_and_the_others_are_answered(run, here):
    files = [here / "gone.png", here / "photos/hen/0.png", here / "notes.png"]
    result = run("images", *files, "--descriptors", "birds.json", "--json")
    assert result.exit_code == 1
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first == {"image": str(files[0]), "error": "cannot be read: No such file or directory"}
    assert len(second["hits"]) == 3
    assert third["error"]
    assert [line.split(":")[0] for line in result.stderr.splitlines() if "png:" in line] == [
        str(files[0]),
        str(files[2]),
    ]
    assert "photos/hen/0.png" in run("images", *files, "--descriptors", "birds.json").stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(["--descriptors", "nowhere"], "no descriptor set 'nowhere'", id="no such set"),
        pytest.param(["--descriptors", "birds.json", "--classes", "hen"], "give one of them", id="classes said twice"),
        pytest.param(["--classes", "hen,,owl"], "a class name must not be blank", id="a blank class"),
        pytest.param(["--descriptors", "birds.json", "--contrast", "hem"], "no class 'hem'; it has 'hen'", id="a slip"),
        pytest.param(
            ["--descriptors", "birds.json", "--scoring", "median"],
            "mean, renormalised, max, got 'median'",
            id="scoring",
        ),
    ],
)
def test_mistakes_are_explained_in_a_line(run, here, args, said):
    result = run("images", here / "photos/hen/0.png", *args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_evaluating_shows_tables_and_writes_the_report(run, here):
    result = run("evaluate", "--images", "photos", "--descriptors", "birds.json", "--output", "report", "--seed", "3")
    assert result.exit_code == 0, result.output
    for text in ("what they must beat", "class name", "prompt ensemble", "random words", "dodo (1)", "emu"):
        assert text in result.stdout
    report = json.loads((here / "report/report.json").read_text())
    assert (report["scored"], report["unknown"], report["extra"], report["seed"]) == (3, {"dodo": 1}, ["emu"], 3)
    assert [row["images"] for row in report["classes"]] == [2, 1]
    assert sum(count for _, _, count in report["confusion"]) == 3
    assert [each["descriptor"] for each in report["effects"]] == ["a red comb", "two legs", "round eyes"]
    text = (here / "report/report.md").read_text()
    assert text.startswith("# Descriptor set birds on photos\n")
    for line in re.findall(r"\| (?:class name|random words) .*", text):
        assert line.count("|") == 7
    with Image.open(here / "report/confusion.png") as picture:
        assert picture.format == "PNG"
    assert sorted(path.name for path in (here / "report").iterdir()) == ["confusion.png", "report.json", "report.md"]


def test_accuracy_is_that_of_the_cosines(run, here, cosines):
    photos = [here / "photos/hen/0.png", here / "photos/HEN/1.png", here / "photos/owl/2.png"]
    found = cosines(photos, ["hen, which is a red comb", "hen, which has two legs", "owl, which has round eyes", "emu"])
    scores = np.stack([found[:, :2].mean(axis=1), found[:, 2], found[:, 3]], axis=1)
    right = float((scores.argmax(axis=1) == [0, 0, 1]).mean())
    report = json.loads(run("evaluate", "--images", "photos", "--descriptors", "birds.json", "--json").stdout)
    assert report["methods"][0]["name"] == "descriptors"
    assert report["methods"][0]["top1"] == pytest.approx(right)


def test_removing_descriptors_is_compared_image_by_image(run, here, cosines):
    removed = ["--remove", "HEN: Two legs", "--remove", "owl:round eyes"]
    report = json.loads(run("evaluate", "--images", "photos", "--descriptors", "birds.json", *removed, "--json").stdout)
    photos, truth = ["photos/hen/0.png", "photos/HEN/1.png", "photos/owl/2.png"], np.array([0, 0, 1])
    texts = ["hen, which is a red comb", "hen, which has two legs", "owl, which has round eyes", "owl", "emu"]
    comb, legs, eyes, owl, emu = cosines([here / path for path in photos], texts).T
    before = np.stack([(comb + legs) / 2, eyes, emu]).argmax(axis=0) == truth
    after = np.stack([comb, owl, emu]).argmax(axis=0) == truth
    assert set(report["edit"]["turn_right"]) == {
        path for path, moved in zip(photos, after & ~before, strict=True) if moved
    }
    assert set(report["edit"]["turn_wrong"]) == {
        path for path, moved in zip(photos, before & ~after, strict=True) if moved
    }
    assert report["removed"] == ["HEN: Two legs", "owl:round eyes"]
    assert [each["name"] for each in report["methods"]][:2] == ["descriptors", "descriptors, edited"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(["--remove", "two legs"], "must be `CLASS: DESCRIPTOR`", id="no class"),
        pytest.param(
            ["--remove", "hen: three legs"],
            "'hen' has no descriptor 'three legs'; it has 'a red comb'",
            id="no such descriptor",
        ),
        pytest.param(["--format", "zip"], "--format must be one of folder, table, grocery, got 'zip'", id="format"),
        pytest.param(["--images", "nowhere"], "there is no such file", id="no such folder"),
    ],
)
def test_mistakes_in_evaluating_are_explained_in_a_line(run, here, args, said):
    result = run("evaluate", "--images", "photos", "--descriptors", "birds.json", *args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr


def test_a_table_with_columns_of_its_own_and_images_that_are_gone(run, here):
    (here / "photos.csv").write_text("file,kind\nphotos/hen/0.png,hen\ngone.png,hen\nnotes.png,owl\n")
    columns = ("--image-column", "file", "--label-column", "kind")
    result = run("evaluate", "--images", "photos.csv", "--descriptors", "birds.json", *columns, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["scored"] == 1
    assert [each["image"] for each in report["skipped"]] == ["gone.png", "notes.png"]
    assert "gone.png: is missing" in result.stderr
