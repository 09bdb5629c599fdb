"""A real model of composed retrieval with random weights, pictures, and galleries made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recollect.composed.building import GalleryBuilder, GalleryOptions
from recollect.composed.config import ComposedConfig
from recollect.composed.galleries import MadeWith
from recollect.composed.service import ComposedService
from recollect.composed.sources import read_source
from retrieval.composed.encoder import load_composed
from retrieval.images import ImageLimits, decode_image

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="session")
def tiny_composed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Directory of a model of composed retrieval with random weights: `tiny_composed(seed=1, modulation="vector")`."""
    import torch

    from retrieval.composed.directory import save_model
    from retrieval.composed.model import AdaFocal, AdaFocalConfig, QFormerConfig
    from retrieval.composed.modulator import Modulation, ModulatorConfig
    from retrieval.composed.text import TextTokenizer
    from retrieval.composed.vision import CompactVisionConfig

    made: dict[tuple[int, str], Path] = {}

    def make(*, seed: int = 0, modulation: str = "scalar") -> Path:
        if (seed, modulation) not in made:
            tokenizer = TextTokenizer.trained(["at night on a beach with a second cup"], longest=8)
            sizes = AdaFocalConfig(
                vision=CompactVisionConfig(image_size=32, widths=(8, 16)),
                qformer=QFormerConfig(
                    vocabulary=tokenizer.vocabulary_size,
                    width=16,
                    layers=2,
                    heads=2,
                    inner=32,
                    query_tokens=4,
                    dimension=8,
                    text_tokens=8,
                ),
                modulator=ModulatorConfig(modulation=Modulation(modulation), probes=2, layers=1, heads=2, hidden=8),
            )
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = AdaFocal(sizes).eval()
                # As it is initialised, every picture has nearly the same vectors.
                for parameter in model.parameters():
                    if parameter.ndim > 1:
                        torch.nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
            directory = tmp_path_factory.mktemp("composed") / f"tiny-{modulation}-{seed}"
            save_model(directory, model, tokenizer, training={}, metrics={})
            made[seed, modulation] = directory
        return made[seed, modulation]

    return make


@pytest.fixture(scope="session")
def shop_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten pictures, `0.png` to `9.png`, wide and high ones among them, with `metadata.csv` beside it."""
    directory = tmp_path_factory.mktemp("shop") / "pictures"
    directory.mkdir()
    generator = np.random.default_rng(7)
    rows = ["image,colour,price"]
    for number in range(10):
        height, width = 40 + 12 * (number % 3), 64 - 8 * (number % 4)
        colours = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        colours.resize((width, height), Image.Resampling.NEAREST).save(directory / f"{number}.png")
        rows.append(f"{number}.png,{COLOURS[number % 3]},{'' if number == 4 else number}")
    (directory.parent / "metadata.csv").write_text("\n".join(rows) + "\n")
    return directory


@pytest.fixture(scope="session")
def encoder(tiny_composed):
    return load_composed(tiny_composed())


@pytest.fixture
def make_gallery(tmp_path, shop_pictures, encoder):
    """Publish a gallery of the shop's pictures: `make_gallery("shop", encoder=…, keep_features=…)`."""

    def make(
        name="shop", *, encoder=encoder, label="stable", source=shop_pictures, model="tiny", shared=None, **options
    ):
        builder = GalleryBuilder(root=tmp_path / "indexes", label=label, limits=ImageLimits(), shared=shared)
        pictures = read_source(source, metadata=shop_pictures.parent / "metadata.csv")
        made = MadeWith(model=model, model_name=model, fingerprint=encoder.fingerprint)
        return builder.make(name, pictures, encoder, made, GalleryOptions(**options)).artifact

    return make


@pytest.fixture
def start_searching(start_gateway, tmp_path, encoder):
    """Start a gateway that searches: `start_searching(references=…)`."""

    def start(*, encoder=encoder, **config):
        settings = {"model": "tiny", "model_name": "tiny", "indexes": tmp_path / "indexes", "look_s": 0.05, **config}
        return start_gateway(composed=ComposedService(ComposedConfig(**settings), encoder))

    return start


@pytest.fixture(scope="session")
def vectors(encoder, shop_pictures):
    """[10, V, d] of the pictures, made without any of the service's code."""
    images = [decode_image(shop_pictures / f"{number}.png") for number in range(10)]
    return encoder.embed_gallery(encoder.image_tokens(np.stack([encoder.prepare(image).pixels for image in images])))
