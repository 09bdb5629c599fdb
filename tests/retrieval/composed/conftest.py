"""A model of composed retrieval small enough for tests, a world of a few objects, and one thread for both."""

import pytest
import torch

from retrieval.composed.directory import save_model
from retrieval.composed.encoder import ComposedEncoder
from retrieval.composed.model import AdaFocal, AdaFocalConfig, QFormerConfig
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.text import TextTokenizer
from retrieval.composed.vision import CompactVisionConfig
from retrieval.composed.world import tiny, write_world

TEXTS = ("the same place at night", "on a beach by day with a red mug", "here, without the blue vase")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer():
    return TextTokenizer.trained(TEXTS, longest=12)


@pytest.fixture(scope="session")
def make_model(tokenizer):
    """`make_model("vector", seed=1)`: a model with random weights that tell pictures and texts apart."""

    def make(modulation="scalar", *, seed=0, fixed=1.0, query_tokens=4):
        sizes = AdaFocalConfig(
            vision=CompactVisionConfig(image_size=32, widths=(8, 8)),
            qformer=QFormerConfig(
                vocabulary=tokenizer.vocabulary_size,
                width=16,
                layers=2,
                heads=2,
                inner=32,
                dropout=0.1,
                query_tokens=query_tokens,
                dimension=8,
                text_tokens=12,
            ),
            modulator=ModulatorConfig(
                modulation=Modulation(modulation), fixed=fixed, probes=3, layers=1, heads=2, hidden=8
            ),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AdaFocal(sizes).eval()
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
        return model

    return make


@pytest.fixture(scope="session")
def encoder(make_model, tokenizer):
    return ComposedEncoder(make_model(), tokenizer, name="tiny", fingerprint="0" * 64)


@pytest.fixture(scope="session")
def tiny_model_directory(make_model, tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("composed") / "tiny"
    save_model(directory, make_model("none"), tokenizer, training={"note": "random"}, metrics={})
    return directory


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world") / "tiny", tiny())
