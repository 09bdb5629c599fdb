"""Embedding image files: those that can be used, in their order, and the others with their reasons."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from retrieval.descriptors.embedding import embed_files
from retrieval.encoders.preprocessing import Fit, Preprocessing

COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}


@dataclass
class MeanColour:
    """Embeds an image as its mean colour, whatever its texts."""

    preprocessing: Preprocessing
    dimension: int = 3
    batches: list = field(default_factory=list)

    def embed_pixels(self, pixels):
        self.batches.append(pixels.shape)
        mean = (pixels / 2 + 0.5).mean(axis=(2, 3))
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


@pytest.fixture
def encoder():
    return MeanColour(Preprocessing(height=16, width=16))


@pytest.fixture
def picture(tmp_path):
    def make(colour, name=None, size=(20, 30)):
        path = tmp_path / (name or f"{colour}.png")
        Image.new("RGB", size, COLOURS[colour]).save(path)
        return path

    return make


def test_images_come_in_their_order_in_batches(encoder, picture):
    heard = []
    paths = [picture(colour) for colour in ("lime", "red", "blue")]
    found = embed_files(encoder, paths, batch_size=2, progress=heard.append)
    np.testing.assert_allclose(found.embeddings, [[0, 1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert (found.kept, found.skipped) == ((0, 1, 2), ())
    assert (encoder.batches, heard) == ([(2, 3, 16, 16), (1, 3, 16, 16)], [2, 1])


def test_what_cannot_be_used_is_named_and_the_rest_is_embedded(encoder, picture, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "torn.png").write_bytes(picture("blue", size=(200, 200)).read_bytes()[:100])
    paths = [
        tmp_path / "gone.png",
        picture("red"),
        tmp_path / "notes.png",
        tmp_path / "torn.png",
        picture("lime"),
        tmp_path,
    ]
    found = embed_files(encoder, paths, batch_size=1)
    np.testing.assert_allclose(found.embeddings, [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    assert found.kept == (1, 4)
    assert [each.path.name for each in found.skipped] == ["gone.png", "notes.png", "torn.png", tmp_path.name]
    assert found.skipped[0].reason == "cannot be read: No such file or directory"
    assert all(each.reason for each in found.skipped)


def test_no_usable_image_leaves_nothing_to_embed(encoder, tmp_path):
    found = embed_files(encoder, [tmp_path / "gone.png"])
    assert (found.embeddings.shape, found.kept, encoder.batches) == ((0, 3), (), [])


@pytest.mark.parametrize(
    ("preprocessing", "decoded"),
    [
        # A JPEG of 400 by 1000 is decoded at 1/8, 1/4 or 1/2, never smaller than what is cut out of it.
        pytest.param(Preprocessing(height=50, width=50), (50, 125), id="the shortest side of a crop"),
        pytest.param(Preprocessing(height=50, width=50, shortest=51), (100, 250), id="a shortest side of its own"),
        pytest.param(Preprocessing(height=200, width=50, fit=Fit.STRETCH), (100, 250), id="each side of a stretch"),
        pytest.param(Preprocessing(height=600, width=300), (400, 1000), id="larger than the picture"),
    ],
)
def test_a_photo_is_decoded_no_larger_than_needed(picture, monkeypatch, preprocessing, decoded):
    sizes = []
    apply_all = Preprocessing.apply_all

    def noting(self, images):
        sizes.extend(image.size for image in images)
        return apply_all(self, images)

    monkeypatch.setattr(Preprocessing, "apply_all", noting)
    embed_files(MeanColour(preprocessing), [picture("red", "red.jpg", size=(400, 1000))])
    assert sizes == [decoded]
