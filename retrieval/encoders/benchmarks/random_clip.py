"""A CLIP of the published size with random weights: it takes as long as a trained one and need not be downloaded."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import CLIPConfig, CLIPModel

from retrieval.encoders.benchmarks.inputs import WORDS

_START, _END = 49_406, 49_407
"""Ids of the published vocabulary, whose size decides the size of the text tower."""


def write_random_clip(directory: Path) -> None:
    """Write a ViT-B/32 with random weights, in the published layout; a word is one token, as most are for CLIP."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig())
    model.config.save_pretrained(directory)
    save_file(model.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})
    preprocessing = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "</s>"}
    settings = special | {"model_max_length": 77, "tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    _tokenizer().save(str(directory / "tokenizer.json"))


def _tokenizer() -> Tokenizer:
    vocabulary = {word: at for at, word in enumerate((",", *WORDS))} | {"<s>": _START, "</s>": _END}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", _START), ("</s>", _END)]
    )
    return tokenizer
