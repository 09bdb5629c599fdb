"""Exported encoders: they embed as their source does, in fp32 and int8, and what does not is not published."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from retrieval.encoders import onnx_export
from retrieval.encoders.compact.words import Vocabulary
from retrieval.encoders.export_parts import ExportParts
from retrieval.encoders.load import load_encoder
from retrieval.encoders.onnx_export import Exported, export_onnx
from retrieval.encoders.onnx_runtime import OnnxEncoder
from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import embed_images
from retrieval.encoders.quantisation import needs_reduced_range
from retrieval.encoders.tokenization import WordTokenizer
from retrieval.errors import EncoderError


class Sums(nn.Module):
    """A text tower: the unit-length sum of its words' vectors."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, 12, padding_idx=0)
        self.project = nn.Linear(12, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.project(self.words(rows).sum(1)), dim=-1)


class Small:
    """An encoder of convolutions and words, such as the compact one."""

    name, fingerprint, dimension, logit_scale = "small", "s1", 10, 20.0
    preprocessing = Preprocessing(height=24, width=24, std=(0.25, 0.25, 0.25))

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.vocabulary = Vocabulary(["bowl", "lamp", "photo", "red"])
            self.text = Sums(len(self.vocabulary)).eval()
            self.image = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
                nn.LazyLinear(10),
            )  # fmt: skip
            self.image(torch.randn(8, 3, 24, 24))
            self.image.eval()

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return F.normalize(self.image(torch.from_numpy(pixels)), dim=-1).numpy()

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            return self.text(torch.from_numpy(self.vocabulary.rows(texts))).numpy()

    def export_parts(self) -> ExportParts:
        class Unit(nn.Module):
            def __init__(self, tower: nn.Module) -> None:
                super().__init__()
                self.tower = tower

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                return F.normalize(self.tower(pixels), dim=-1)

        words = WordTokenizer(self.vocabulary)
        return ExportParts(image=Unit(self.image).eval(), text=self.text, tokenizer=words, convolutional=True)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Smooth pictures of several colours, which is what calibration sees."""
    generator = np.random.default_rng(4)
    small = generator.integers(0, 256, (24, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((40, 30), Image.Resampling.BICUBIC) for each in small]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path, tiny_siglip: Path, photos: list[Image.Image]
) -> Callable[[str, bool], tuple[object, Exported]]:
    """Source and export of each kind and precision, made once."""
    made: dict[tuple[str, bool], tuple[object, Exported]] = {}

    def export(kind: str, int8: bool) -> tuple[object, Exported]:
        if (kind, int8) not in made:
            source = Small() if kind == "small" else load_encoder({"clip": tiny_clip, "siglip": tiny_siglip}[kind])
            where = tmp_path_factory.mktemp("onnx") / "export"
            calibration = photos if kind == "small" else None
            made[kind, int8] = source, export_onnx(source, where, int8=int8, calibration=calibration)
        return made[kind, int8]

    return export


# Each export of a transformer takes some seconds.
EXPORTS = [
    pytest.param("small", False, id="small in fp32"),
    pytest.param("small", True, id="small in int8"),
    pytest.param("clip", False, id="CLIP in fp32"),
    pytest.param("clip", True, id="CLIP in int8", marks=pytest.mark.slow),
    pytest.param("siglip", False, id="SigLIP in fp32", marks=pytest.mark.slow),
    pytest.param("siglip", True, id="SigLIP in int8", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "int8"), EXPORTS)
def test_an_export_embeds_as_its_source_does(
    exported: Callable, kind: str, int8: bool, pictures: list[Image.Image], sentences: list[str],
    photos: list[Image.Image],
) -> None:  # fmt: skip
    least = 0.99 if int8 else 0.99999
    source, export = exported(kind, int8)
    encoder = load_encoder(export.directory)
    assert isinstance(encoder, OnnxEncoder)
    shown = photos if kind == "small" else pictures
    for found, wanted in (
        (embed_images(encoder, shown), embed_images(source, shown)),
        (encoder.embed_texts(sentences), source.embed_texts(sentences)),
    ):
        assert (found.shape, found.dtype) == (wanted.shape, np.float32)
        assert np.vecdot(found, wanted).min() >= least
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        # It is not that all are alike.
        assert (wanted @ wanted.T).min() < 0.99
    assert export.precision == ("int8" if int8 else "fp32")
    assert least <= export.image_cosine <= 1.00001
    assert least <= export.text_cosine <= 1.00001


@pytest.mark.parametrize("kind", ["small", pytest.param("clip", marks=pytest.mark.slow)])
def test_int8_is_in_the_file(exported: Callable, kind: str) -> None:
    sizes = []
    for int8 in (False, True):
        directory = exported(kind, int8)[1].directory
        model = onnx.load(directory / "image.onnx")
        kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) >= 2}
        assert (onnx.TensorProto.INT8 in kinds) is int8
        sizes.append((directory / "image.onnx").stat().st_size)
    assert sizes[1] < sizes[0]


def test_an_export_carries_what_it_needs_to_know(exported: Callable) -> None:
    source, export = exported("clip", False)
    encoder = load_encoder(export.directory, runtime="onnx")
    assert encoder.preprocessing == source.preprocessing
    assert encoder.logit_scale == source.logit_scale
    assert encoder.dimension == source.dimension == 24
    assert encoder.name == f"onnx fp32 {export.directory}"
    manifest = json.loads((export.directory / "recollect_onnx.json").read_text())
    assert (manifest["source"], manifest["source_fingerprint"]) == (source.name, source.fingerprint)
    assert export.bytes == sum(path.stat().st_size for path in export.directory.iterdir())


def test_fingerprints_tell_exports_apart(exported: Callable, tmp_path: Path) -> None:
    source, plain = exported("small", False)
    small = exported("small", True)[1]
    fingerprints = {load_encoder(each.directory).fingerprint for each in (plain, small)} | {source.fingerprint}
    assert len(fingerprints) == 3
    moved = shutil.copytree(plain.directory, tmp_path / "moved")
    assert load_encoder(moved).fingerprint == load_encoder(plain.directory).fingerprint


def test_nothing_of_the_machine_is_in_an_export(exported: Callable) -> None:
    for path in exported("clip", False)[1].directory.glob("*.onnx"):
        assert b".py" not in path.read_bytes()


def test_batches_and_lengths_of_any_size(exported: Callable, sentences: list[str]) -> None:
    source, export = exported("clip", False)
    encoder = load_encoder(export.directory)
    pixels = np.random.default_rng(1).standard_normal((33, 3, 32, 32), dtype=np.float32)
    for n in (0, 1, 33):
        np.testing.assert_allclose(encoder.embed_pixels(pixels[:n]), source.embed_pixels(pixels[:n]), atol=1e-5)
    many = (sentences * 20)[:101]
    np.testing.assert_allclose(encoder.embed_texts(many), source.embed_texts(many), atol=1e-5)
    assert encoder.embed_texts([]).shape == (0, 24)
    with pytest.raises(ValueError, match="pixels must be"):
        encoder.embed_pixels(pixels[:, :2])


def test_pixels_that_are_a_view_are_fine(exported: Callable) -> None:
    source, export = exported("clip", False)
    pixels = np.random.default_rng(1).standard_normal((2, 32, 32, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(
        load_encoder(export.directory).embed_pixels(pixels), source.embed_pixels(pixels), atol=1e-5
    )


@pytest.mark.parametrize("kind", ["clip", pytest.param("siglip", marks=pytest.mark.slow)])
def test_threads_share_an_export(exported: Callable, kind: str, sentences: list[str]) -> None:
    encoder = OnnxEncoder.load(exported(kind, False)[1].directory, threads=1)
    wanted = encoder.embed_texts(sentences)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: encoder.embed_texts(sentences), range(24)):
            np.testing.assert_array_equal(found, wanted)


def test_serving_clip_needs_neither_torch_nor_transformers(exported: Callable) -> None:
    directory = exported("clip", False)[1].directory
    script = (
        "import sys; from retrieval.encoders.load import load_encoder\n"
        f"print(load_encoder({str(directory)!r}).embed_texts(['a lamp']).shape)\n"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1, 24)", "[]"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda d: (d / "text.onnx").unlink(), "text.onnx is missing since", id="missing"),
        pytest.param(lambda d: (d / "image.onnx").write_bytes(b"x"), "image.onnx is altered since", id="altered"),
        pytest.param(lambda d: (d / "tokenizer.json").write_text("{}"), "tokenizer.json is altered", id="tokenizer"),
        pytest.param(
            lambda d: (d / "recollect_onnx.json").write_text('{"schema_version": 9}'), "has schema 9, this", id="schema"
        ),
        pytest.param(lambda d: (d / "recollect_onnx.json").write_text("["), "cannot be read", id="manifest"),
    ],
)
def test_a_damaged_export_is_refused(
    exported: Callable, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    directory = Path(shutil.copytree(exported("clip", False)[1].directory, tmp_path / "copy"))
    change(directory)
    with pytest.raises(EncoderError, match=message):
        load_encoder(directory)


def test_an_export_runs_on_onnx_alone(exported: Callable) -> None:
    directory = exported("clip", False)[1].directory
    with pytest.raises(EncoderError, match="was exported for ONNX Runtime on a CPU"):
        load_encoder(directory, runtime="torch")


def test_an_export_takes_the_threads_it_is_given(exported: Callable) -> None:
    encoder = load_encoder(exported("clip", False)[1].directory, threads=1)
    assert encoder._image.get_session_options().intra_op_num_threads == 1
    assert encoder._text.get_session_options().intra_op_num_threads == 1


def test_what_embeds_otherwise_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Small()
    parts = source.export_parts()
    other = Sums(len(source.vocabulary)).eval()
    monkeypatch.setattr(source, "export_parts", lambda: replace(parts, text=other))
    with pytest.raises(EncoderError, match=r"must embed in fp32 with a cosine of 0.9999 .* got 1.0000 for images and"):
        export_onnx(source, tmp_path / "deep" / "export")
    assert list((tmp_path / "deep").iterdir()) == []


def test_numbers_that_are_none_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_agreement", lambda *_: (float("nan"), 1.0))
    with pytest.raises(EncoderError, match="got nan for images"):
        export_onnx(Small(), tmp_path / "export")


def test_an_existing_destination_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(EncoderError, match=re.escape(f"{tmp_path} exists; name a directory that does not")):
        export_onnx(Small(), tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"


def test_convolutions_in_int8_need_pictures(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="needs pictures to be calibrated on for int8"):
        export_onnx(Small(), tmp_path / "export", int8=True)


def test_an_encoder_without_parts_cannot_be_exported(exported: Callable, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot be exported"):
        export_onnx(exported("clip", False)[1].directory, tmp_path / "again")


@pytest.mark.parametrize(
    ("flags", "reduced"),
    [
        pytest.param("flags\t: fpu sse2 avx2 avx512f avx512_vnni", False, id="AVX-512 VNNI"),
        pytest.param("flags\t: fpu sse2 avx2 avx_vnni", False, id="AVX VNNI"),
        pytest.param("flags\t: fpu sse2 avx2 avx512f", True, id="x86 without"),
        pytest.param("Features\t: fp asimd asimddp", False, id="ARM"),
    ],
)
def test_a_bit_is_left_unused_where_products_would_overflow(tmp_path: Path, flags: str, reduced: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert needs_reduced_range(tmp_path / "cpuinfo") is reduced
    assert needs_reduced_range(tmp_path / "missing") is False
