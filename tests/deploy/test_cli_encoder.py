"""`recollect encoder export` and `info` as a person runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from recollect.cli import app
from retrieval.encoders.load import load_encoder
from retrieval.encoders.protocol import embed_images


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    environment = {"COLUMNS": "80", "TERM": "dumb"}
    return lambda *words: CliRunner().invoke(app, ["encoder", *map(str, words)], env=environment)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with twelve pictures in it and below, one file that is none, and one that is called one."""
    generator = np.random.default_rng(4)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for at in range(12):
        small = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        path = folder / ("more" if at % 2 else "") / f"{at}.png"
        Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC).save(path)
    (folder / "notes.txt").write_text("not a picture")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_info_says_what_an_encoder_is(run: Callable[..., Result]) -> None:
    result = run("info", "demo-shop")
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("compact:demo-shop", "logit scale", "image width", "fingerprint"))
    row = json.loads(run("info", "demo-shop", "--json").stdout)
    encoder = load_encoder("demo-shop")
    assert row == {
        "name": "compact:demo-shop",
        "dimension": encoder.dimension,
        "logit_scale": round(encoder.logit_scale, 4),
        "image_width": encoder.preprocessing.width,
        "image_height": encoder.preprocessing.height,
        "image_fit": encoder.preprocessing.fit.value,
        "mean": list(encoder.preprocessing.mean),
        "std": list(encoder.preprocessing.std),
        "fingerprint": encoder.fingerprint,
    }


def test_export_writes_a_directory_that_embeds_alike(run: Callable[..., Result], photos: Path) -> None:
    result = run("export", "demo-shop", "--output", "made", "--int8", "--calibrate", photos, "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert (row["directory"], row["precision"]) == ("made", "int8")
    assert row["image_cosine"] > 0.95
    assert row["text_cosine"] > 0.99
    assert "broken.jpg: " in result.stderr
    assert "notes.txt" not in result.stderr
    source, made = load_encoder("demo-shop"), load_encoder("made", runtime="onnx")
    pictures = [Image.open(path).convert("RGB") for path in photos.rglob("*.png")]
    assert np.vecdot(embed_images(source, pictures), embed_images(made, pictures)).min() > 0.95
    assert json.loads(run("info", "made", "--json").stdout)["name"].startswith("onnx int8")


def test_export_in_fp32_says_how_well_it_embeds(run: Callable[..., Result]) -> None:
    result = run("export", "demo-shop", "-o", "made")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("made: fp32, ")
    assert result.stdout.endswith("with a cosine of at least 1.0000 for pictures and 1.0000 for texts\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("demo-shop", "--int8"), "needs pictures to be calibrated on for int8", id="no pictures"),
        pytest.param(("demo-shop", "--int8", "--calibrate", "."), "--calibrate must be a folder", id="none there"),
        pytest.param(("nothing such",), "encoder must be demo-shop (shipped), a directory", id="no such encoder"),
        pytest.param(("encoder@stable",), "encoder@stable", id="no such label"),
    ],
)  # fmt: skip
def test_mistakes_are_told_and_write_nothing(
    run: Callable[..., Result], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = run("export", *words, "--output", "made")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "made").exists()


def test_an_existing_output_is_left_alone(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    result = run("export", "demo-shop", "--output", "made")
    assert result.exit_code == 1
    assert "made exists; name a directory that does not" in result.stderr
