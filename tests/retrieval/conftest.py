"""Tiny checkpoints in the layouts that are published, with random weights."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WORDS = ["a", "photo", "of", "red", "green", "lamp", "bowl", "which", "has", "is", "wide", "handle", "shade", "the"]
IMAGE = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def write_clip_tokenizer(directory: Path) -> int:
    """vocab.json and merges.txt as OpenAI published them, for few words; returns the id of the end."""
    vocabulary = [chr(at) for at in range(33, 127)] + [f"{chr(at)}</w>" for at in range(33, 127)]
    merges = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merge, joined = f"{pieces[0]} {pieces[1]}", pieces[0] + pieces[1]
            if merge not in merges:
                merges.append(merge)
            if joined not in vocabulary:
                vocabulary.append(joined)
            pieces = [joined, *pieces[2:]]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    write_json(directory / "vocab.json", {token: at for at, token in enumerate(vocabulary)})
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    write_json(directory / "special_tokens_map.json", special | {"unk_token": "<|endoftext|>"})
    write_json(
        directory / "tokenizer_config.json",
        special | {"unk_token": "<|endoftext|>", "model_max_length": 16, "tokenizer_class": "CLIPTokenizer"},
    )
    return len(vocabulary) - 1


def write_siglip_tokenizer(directory: Path) -> int:
    """spiece.model as Google published it, trained on few words; returns the size of the vocabulary."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 20),
        model_writer=model,
        vocab_size=50,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        add_dummy_prefix=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (directory / "spiece.model").write_bytes(model.getvalue())
    write_json(
        directory / "tokenizer_config.json",
        {
            "do_lower_case": True,
            "eos_token": "</s>",
            "model_input_names": ["input_ids"],
            "model_max_length": 12,
            "pad_token": "</s>",
            "sp_model_kwargs": {},
            "tokenizer_class": "SiglipTokenizer",
            "unk_token": "<unk>",
        },
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a CLIP of 32-pixel images; `text` overrides settings of the text tower."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    def make(**text: object) -> Path:
        directory = tmp_path_factory.mktemp("clip")
        end = write_clip_tokenizer(directory)
        tokens = {"vocab_size": end + 1, "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
        config = CLIPConfig(
            text_config=LAYERS | tokens | {"max_position_embeddings": 16} | text,
            vision_config=LAYERS | {"image_size": 32, "patch_size": 8},
            projection_dim=24,
        )
        with torch.random.fork_rng():
            torch.manual_seed(11)
            model = CLIPModel(config)
            for weight in model.parameters():  # as large as trained ones, so that texts and images differ
                if weight.ndim > 1:
                    torch.nn.init.normal_(weight, std=0.2)
            model.save_pretrained(directory)
        write_json(
            directory / "preprocessor_config.json",
            {
                "crop_size": 32,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor",
                **IMAGE,
                "resample": 3,
                "size": 32,
            },
        )
        return directory

    return make


@pytest.fixture(scope="session")
def tiny_clip(make_clip: Callable[..., Path]) -> Path:
    """A CLIP checkpoint; its embeddings have 24 numbers."""
    return make_clip()


def write_siglip(directory: Path, vocabulary: int) -> Path:
    """Weights and preprocessing of a SigLIP of 32-pixel images."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    tokens = {"vocab_size": vocabulary, "pad_token_id": 1, "bos_token_id": None, "eos_token_id": 1}
    config = SiglipConfig(
        text_config=LAYERS | tokens | {"max_position_embeddings": 12},
        vision_config=LAYERS | {"image_size": 32, "patch_size": 8},
    )
    with torch.random.fork_rng():
        torch.manual_seed(12)
        SiglipModel(config).save_pretrained(directory)
    write_json(
        directory / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": 32, "width": 32},
        },
    )
    return directory


@pytest.fixture(scope="session")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP checkpoint; its embeddings have 32 numbers and its texts 12 positions."""
    directory = tmp_path_factory.mktemp("siglip")
    return write_siglip(directory, write_siglip_tokenizer(directory))


@pytest.fixture(scope="session")
def tiny_siglip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the tokenizer of SigLIP 2, which is Gemma's: a letter is a token, and capitals are unknown."""
    from transformers import GemmaTokenizer

    directory = tmp_path_factory.mktemp("siglip2")
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *sorted(set("".join(WORDS)))]
    vocabulary = {token: at for at, token in enumerate(tokens)}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[], add_bos_token=False, add_eos_token=True)
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    published = {"model_input_names": ["input_ids"], "padding_side": "right", "model_max_length": 12}
    write_json(path, json.loads(path.read_text()) | published)
    return write_siglip(directory, len(vocabulary))


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """RGB pictures of several shapes."""
    generator = np.random.default_rng(7)
    shapes = [(40, 60), (60, 40), (33, 33), (32, 200), (90, 31), (300, 150), (1, 5)]
    return [Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Texts of several lengths, one longer than any tower takes, one that is empty."""
    return ["a photo of a lamp", "a red bowl, which has a wide handle", "lamp", "", "the green shade " * 9, "LAMP!?"]
