"""CLIP and SigLIP as published: embeddings equal those of transformers, and what is not right is refused."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from retrieval.encoders.hugging_face import HuggingFaceEncoder, load_hugging_face
from retrieval.encoders.load import load_encoder
from retrieval.encoders.preprocessing import Fit
from retrieval.encoders.protocol import embed_images
from retrieval.encoders.published import read_preprocessing
from retrieval.errors import EncoderError

PEERS = {
    "clip": (transformers.CLIPModel, CLIPImageProcessorPil, {"padding": True}),
    "siglip": (transformers.SiglipModel, SiglipImageProcessorPil, {"padding": "max_length"}),
}


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> HuggingFaceEncoder:
    return load_hugging_face(tiny_clip)


@pytest.fixture(params=PEERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def checkpoint(kind: str, tiny_clip: Path, tiny_siglip: Path) -> Path:
    return {"clip": tiny_clip, "siglip": tiny_siglip}[kind]


@pytest.fixture
def copy(tiny_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_clip, tmp_path / "copy"))


def published_texts(directory: Path, kind: str, texts: list[str]) -> np.ndarray:
    """What transformers makes of `texts` by its default processing, attention mask included where there is one."""
    model = PEERS[kind][0].from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(texts, truncation=True, return_tensors="pt", **PEERS[kind][2])
    with torch.inference_mode():
        return F.normalize(model.get_text_features(**inputs).pooler_output, dim=-1).numpy()


def test_images_are_embedded_as_transformers_does(kind: str, checkpoint: Path, pictures: list[Image.Image]) -> None:
    model = PEERS[kind][0].from_pretrained(checkpoint).eval()
    processor = PEERS[kind][1].from_pretrained(checkpoint)
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        wanted = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1).numpy()
    encoder = load_hugging_face(checkpoint)
    np.testing.assert_allclose(encoder.preprocessing.apply_all(pictures), pixels.numpy(), atol=1e-5)
    embeddings = embed_images(encoder, pictures)
    assert embeddings.shape == (len(pictures), encoder.dimension)
    np.testing.assert_allclose(embeddings, wanted, atol=1e-5)


@pytest.mark.parametrize("fit", [Fit.CROP, Fit.STRETCH])
def test_pixels_of_every_shape_are_those_of_transformers(fit: Fit, tiny_clip: Path, tiny_siglip: Path) -> None:
    # The longer side is sometimes a whole number that floating point just misses: 150 by 300 at 224, 75 by 150 at 32.
    shapes = [(150, 300), (75, 150), (49, 147), (93, 31), (32, 32), (31, 640), (207, 103), (1, 2)]
    directory, processor = (
        (tiny_clip, CLIPImageProcessorPil) if fit is Fit.CROP else (tiny_siglip, SiglipImageProcessorPil)
    )
    generator = np.random.default_rng(2)
    images = [Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]
    for size in (32, 33, 224):
        whole = {"height": size, "width": size}
        peer = processor.from_pretrained(
            directory, size={"shortest_edge": size} if fit is Fit.CROP else whole, crop_size=whole
        )
        ours = replace(
            read_preprocessing(directory), height=size, width=size, shortest=size if fit is Fit.CROP else None
        )
        assert ours.fit is fit
        for image in images:
            wanted = peer(image, return_tensors="np")["pixel_values"][0]
            np.testing.assert_allclose(ours.apply(image), wanted, atol=1e-5, err_msg=f"{image.size} to {size}")


def test_texts_are_embedded_as_transformers_does(kind: str, checkpoint: Path, sentences: list[str]) -> None:
    encoder = load_hugging_face(checkpoint)
    embeddings = encoder.embed_texts(sentences)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, published_texts(checkpoint, kind, sentences), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    # Texts of different meaning are told apart, so that the equality above says something.
    assert np.abs(embeddings[0] - embeddings[1]).max() > 0.01


def test_the_tokenizer_of_siglip_2_is_run_as_transformers_does_on_texts_in_lower_case(
    tiny_siglip2: Path, sentences: list[str]
) -> None:
    encoder = load_hugging_face(tiny_siglip2)
    lowered = [sentence.lower() for sentence in sentences]
    np.testing.assert_allclose(
        encoder.embed_texts(lowered), published_texts(tiny_siglip2, "siglip", lowered), atol=1e-5
    )
    np.testing.assert_array_equal(encoder.embed_texts(["A Red LAMP"]), encoder.embed_texts(["a red lamp"]))


def test_a_legacy_end_token_pools_where_transformers_does(make_clip: Callable[..., Path], sentences: list[str]) -> None:
    directory = make_clip(eos_token_id=2)
    wanted = published_texts(directory, "clip", sentences)
    np.testing.assert_allclose(load_hugging_face(directory).embed_texts(sentences), wanted, atol=1e-5)


def test_a_text_is_embedded_alike_alone_and_among_longer_ones(
    kind: str, checkpoint: Path, sentences: list[str]
) -> None:
    encoder = load_hugging_face(checkpoint)
    many = (sentences * 30)[:151]
    together = encoder.embed_texts(many)
    for at in (0, 1, 2, 3, 63, 64, 150):
        np.testing.assert_allclose(together[at], encoder.embed_texts([many[at]])[0], atol=1e-5)


def test_many_images_are_embedded_in_batches(clip: HuggingFaceEncoder) -> None:
    pixels = np.random.default_rng(1).standard_normal((70, 3, 32, 32), dtype=np.float32)
    together = clip.embed_pixels(pixels)
    for at in (0, 31, 32, 69):
        np.testing.assert_allclose(together[at], clip.embed_pixels(pixels[at : at + 1])[0], atol=1e-5)


def test_nothing_gives_nothing(clip: HuggingFaceEncoder) -> None:
    assert clip.embed_texts([]).shape == (0, 24)
    assert clip.embed_pixels(np.empty((0, 3, 32, 32), np.float32)).shape == (0, 24)


def test_pixels_of_another_shape_are_refused(clip: HuggingFaceEncoder) -> None:
    with pytest.raises(ValueError, match=r"pixels must be \[n, 3, 32, 32\] float32, got \[2, 3, 31, 32\] float32"):
        clip.embed_pixels(np.zeros((2, 3, 31, 32), np.float32))
    with pytest.raises(ValueError, match="float64"):
        clip.embed_pixels(np.zeros((2, 3, 32, 32)))


def test_it_says_what_it_is(clip: HuggingFaceEncoder, tiny_clip: Path, tiny_siglip: Path) -> None:
    assert clip.name == f"clip {tiny_clip}"
    assert clip.dimension == 24
    assert clip.logit_scale == pytest.approx(np.exp(2.6592), rel=1e-4)
    siglip = load_hugging_face(tiny_siglip)
    assert (siglip.dimension, siglip.preprocessing.fit) == (32, Fit.STRETCH)


def test_threads_share_an_encoder(checkpoint: Path, sentences: list[str], pictures: list[Image.Image]) -> None:
    encoder = load_hugging_face(checkpoint)
    texts, images = encoder.embed_texts(sentences), embed_images(encoder, pictures)
    with ThreadPoolExecutor(8) as pool:
        many = [pool.submit(encoder.embed_texts, sentences) for _ in range(24)]
        shown = [pool.submit(embed_images, encoder, pictures) for _ in range(8)]
    for found in many:
        np.testing.assert_allclose(found.result(), texts, atol=1e-6)
    for found in shown:
        np.testing.assert_allclose(found.result(), images, atol=1e-6)


def test_the_fingerprint_is_of_what_decides_an_embedding(tiny_clip: Path, copy: Path) -> None:
    original = load_hugging_face(tiny_clip).fingerprint
    assert len(original) == 64
    assert load_hugging_face(copy).fingerprint == original
    (copy / "README.md").write_text("does not count")
    assert load_hugging_face(copy).fingerprint == original
    seen = {original}
    for name in ("preprocessor_config.json", "tokenizer_config.json", "config.json"):
        (copy / name).write_text((copy / name).read_text() + "\n")
        seen.add(load_hugging_face(copy).fingerprint)
    weights = load_file(copy / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    seen.add(load_hugging_face(copy).fingerprint)
    assert len(seen) == 5


def test_weights_in_several_files_are_read(tiny_clip: Path, copy: Path, sentences: list[str]) -> None:
    (copy / "model.safetensors").unlink()
    transformers.CLIPModel.from_pretrained(tiny_clip).save_pretrained(copy, max_shard_size="40KB")
    assert len(list(copy.glob("model-*.safetensors"))) > 1
    wanted = load_hugging_face(tiny_clip).embed_texts(sentences)
    np.testing.assert_allclose(load_hugging_face(copy).embed_texts(sentences), wanted, atol=1e-6)
    next(copy.glob("model-00002*")).unlink()
    with pytest.raises(EncoderError, match=r"lacks model-00002-of-.*which model.safetensors.index.json names"):
        load_hugging_face(copy)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        pytest.param(["config.json"], "config.json cannot be read", id="configuration"),
        pytest.param(["model.safetensors"], "lacks model.safetensors; download it", id="weights"),
        pytest.param(["preprocessor_config.json"], "lacks preprocessor_config.json", id="preprocessing"),
        pytest.param(["vocab.json", "merges.txt"], "lacks a tokenizer: tokenizer.json, vocab.json", id="tokenizer"),
    ],
)
def test_a_missing_file_is_named(copy: Path, missing: list[str], message: str) -> None:
    for name in missing:
        (copy / name).unlink()
    with pytest.raises(EncoderError, match=message):
        load_hugging_face(copy)


def test_pickled_weights_are_refused_unread(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(
        EncoderError, match=r"must have its weights as safetensors, got pytorch_model.bin, which can run code"
    ):
        load_hugging_face(copy)


def test_weights_that_lack_a_tensor_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack visual_projection.weight, and 0 more"):
        load_hugging_face(copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderError, match=r"the weights in .* cannot be read"):
        load_hugging_face(copy)


def test_code_of_a_checkpoint_is_not_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    config["auto_map"] = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    (copy / "config.json").write_text(json.dumps(config))
    load_hugging_face(copy)
    assert not (copy / "ran").exists()


def test_another_kind_of_model_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EncoderError, match="model_type of clip or siglip, got 'bert'"):
        load_encoder(copy)


def test_preprocessing_for_another_size_is_refused(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"crop_size": 32', '"crop_size": 24'))
    with pytest.raises(EncoderError, match="must prepare images of 32 by 32, which its model takes, got 24 by 24"):
        load_hugging_face(copy)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"size": {"shortest_edge": 32, "longest_edge": 64}}, id="two edges"),
        pytest.param({"size": {"shortest_edge": 16}}, id="smaller than its crop"),
        pytest.param({"do_center_crop": False, "size": {"shortest_edge": 32}}, id="any shape"),
        pytest.param({"do_rescale": False}, id="not scaled"),
        pytest.param({"rescale_factor": 1 / 127.5}, id="scaled otherwise"),
        pytest.param({"do_pad": True}, id="padded"),
        pytest.param({"image_std": None}, id="no deviation"),
    ],
)
def test_preprocessing_that_is_not_done_here_is_refused(copy: Path, change: dict[str, object]) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EncoderError, match="must resize to a fixed size, scale by 1/255 and normalise"):
        read_preprocessing(copy)


def test_preprocessing_within_a_processor_is_read(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    wanted = read_preprocessing(copy)
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(path.read_text())}))
    path.unlink()
    assert read_preprocessing(copy) == wanted


def test_an_unreachable_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EncoderError, match=r"'nobody/nothing-such' cannot be fetched from the hub.*name its directory"):
        load_encoder("nobody/nothing-such")


def test_without_downloads_nothing_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was touched"))
    with pytest.raises(EncoderError, match="cannot be found among what was downloaded"):
        load_encoder("nobody/nothing-such", allow_download=False)


def test_a_directory_never_touches_the_network(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, sentences: list[str]
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was touched"))
    assert load_encoder(checkpoint).embed_texts(sentences).shape[0] == len(sentences)


@pytest.mark.parametrize("reference", ["no/such/directory", "./nothing", "a b"])
def test_what_is_neither_directory_nor_name_is_told(reference: str) -> None:
    with pytest.raises(EncoderError, match="a directory, open_clip:ARCHITECTURE@FILE or a name on the hub"):
        load_encoder(reference)


def test_onnx_needs_an_exported_directory(tiny_clip: Path) -> None:
    with pytest.raises(EncoderError, match=f"recollect encoder export {tiny_clip} --output"):
        load_encoder(tiny_clip, runtime="onnx")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """A hub with one repository, whose files lie in a directory; it keeps the names of the files that were fetched."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Repository)
        self.directory, self.fetched = directory, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Repository(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, *, send_body: bool) -> None:
        path = self.server.directory / self.path.split("?")[0].rsplit("/", 1)[-1]
        if "/resolve/" in self.path:
            body, headers = path.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{path.name}"'}
            if send_body:
                self.server.fetched.append(path.name)
        elif self.path.startswith("/api/models/somebody/clip/tree/"):
            files = sorted(self.server.directory.iterdir())
            entries = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
            body, headers = json.dumps(entries).encode(), {"Content-Type": "application/json"}
        else:
            files = [{"rfilename": file.name} for file in sorted(self.server.directory.iterdir())]
            info = {"id": "somebody/clip", "sha": COMMIT, "siblings": files}
            body, headers = json.dumps(info).encode(), {"Content-Type": "application/json"}
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_name_on_the_hub_is_fetched_once_and_only_what_is_needed(copy: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "flax_model.msgpack", "README.md", "open_clip_model.safetensors"):
        (copy / name).write_bytes(b"not wanted")

    def loaded(endpoint: str, allow_download: bool) -> list[str]:
        script = (
            "from retrieval.encoders.load import load_encoder\n"
            f"encoder = load_encoder('somebody/clip', allow_download={allow_download})\n"
            "print(encoder.name, encoder.fingerprint, sep='\\n')"
        )
        # Where the hub is, is read from the environment when its client is imported.
        environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()

    with Hub(copy) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        first = loaded(hub.url, allow_download=True)
        hub.shutdown()
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json", "vocab.json", "merges.txt"}
    assert sorted(hub.fetched) == sorted(wanted | {"tokenizer_config.json", "special_tokens_map.json"})
    assert first == ["clip somebody/clip", load_hugging_face(copy).fingerprint]
    assert loaded("http://127.0.0.1:9", allow_download=False) == first
