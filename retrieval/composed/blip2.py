"""Load a published BLIP-2 checkpoint, Salesforce/blip2-itm-vit-g for instance, as a model that knows no boxes yet."""

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from retrieval.composed.directory import CONFIG_FILE, StoredModel, check_vocabulary, read_config
from retrieval.composed.model import AdaFocal, AdaFocalConfig, QFormerConfig, VisionTransformerConfig
from retrieval.composed.modulator import Modulation, ModulatorConfig
from retrieval.composed.text import TOKENIZER_FILE, TextTokenizer
from retrieval.encoders.published import PATTERNS, weight_files
from retrieval.errors import ComposedError, EncoderError

MODEL_TYPE = "blip-2"
"""`model_type` of a published config.json."""
TEXT_TOKENS = 32
"""Most tokens of a text, as AdaFocal was trained."""
_UNUSED = ("itm_head.",)
"""Weights of heads that composed retrieval does not ask."""
_NEW = ("log_temperature",)
"""Weights that no published checkpoint has."""


def fetched(name: str, *, allow_download: bool) -> Path:
    """The directory of the checkpoint called `name` on the hub; ComposedError where it cannot be had.

    Only JSON and safetensors are fetched: nothing that is unpickled.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=not allow_download))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ComposedError(
            f"{name!r} is no directory, and no checkpoint of that name can be had from the hub: {error}; name a "
            "directory, or a model such as Salesforce/blip2-itm-vit-g"
        ) from error


def load_blip2(directory: Path) -> StoredModel:
    """The checkpoint in `directory`, in the published format; its β is 0 until AdaFocal is trained from it.

    ComposedError where it is of another architecture, a file is missing, or weights do not fit.
    """
    sizes = sizes_of(directory)
    model = AdaFocal(sizes)
    load_published_weights(model, directory)
    tokenizer = TextTokenizer.load(directory, longest=sizes.qformer.text_tokens)
    check_vocabulary(directory, tokenizer, model)
    return StoredModel(model.eval(), tokenizer, _fingerprint(directory))


def sizes_of(directory: Path) -> AdaFocalConfig:
    """The sizes that a published config.json gives; ComposedError where it is of another architecture."""
    config = read_config(directory)
    path = directory / CONFIG_FILE
    if config.get("model_type") != MODEL_TYPE:
        raise ComposedError(
            f"{path} must have model_type {MODEL_TYPE!r} or be a model of ours, got {config.get('model_type')!r}; use "
            "a BLIP-2 checkpoint for image–text retrieval, such as Salesforce/blip2-itm-vit-g"
        )
    vision, qformer = config.get("vision_config") or {}, config.get("qformer_config") or {}
    if not qformer.get("use_qformer_text_input", False):
        raise ComposedError(
            f"{path} is of a BLIP-2 without texts in its Q-Former (a captioning model); use one for image–text "
            "retrieval, such as Salesforce/blip2-itm-vit-g"
        )
    for given, name, expected in (
        (vision, "hidden_act", "gelu"),
        (vision, "qkv_bias", True),
        (qformer, "hidden_act", "gelu"),
        (qformer, "cross_attention_frequency", 2),
        (qformer, "layer_norm_eps", 1e-12),
        (qformer, "position_embedding_type", "absolute"),
    ):
        if given.get(name, expected) != expected:
            raise ComposedError(
                f"{path} has {name} {given[name]!r}, only {expected!r} is known; use another checkpoint"
            )
    return AdaFocalConfig(
        vision=VisionTransformerConfig(
            **_given(
                vision,
                image_size="image_size",
                patch="patch_size",
                hidden_size="hidden_size",
                inner="intermediate_size",
                layers="num_hidden_layers",
                heads="num_attention_heads",
                norm_epsilon="layer_norm_eps",
            )
        ),
        qformer=QFormerConfig(
            **_given(
                qformer,
                vocabulary="vocab_size",
                width="hidden_size",
                layers="num_hidden_layers",
                heads="num_attention_heads",
                inner="intermediate_size",
            ),
            **_given(config, query_tokens="num_query_tokens", dimension="image_text_hidden_size"),
            text_tokens=TEXT_TOKENS,
        ),
        modulator=ModulatorConfig(modulation=Modulation.NONE),
    )


def load_published_weights(model: AdaFocal, directory: Path) -> None:
    """Put the weights of `directory` into a model, in fp32; ComposedError with what is missing, unknown or unreadable.

    One file after the other: the published weights are a billion numbers, of which a second copy would be 4 GB.
    """
    missing, unknown = set(model.state_dict()), list[str]()
    try:
        for file in weight_files(directory):
            used = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(_UNUSED)}
            missing -= set(used)
            unknown += model.load_state_dict(used, strict=False).unexpected_keys
    except RuntimeError as error:
        raise ComposedError(f"the weights in {directory} do not fit its config.json: {error}") from error
    except (EncoderError, OSError, SafetensorError) as error:
        raise ComposedError(str(error)) from error
    lacking = sorted(name for name in missing if name not in _NEW and not name.startswith("modulator."))
    if lacking or unknown:
        raise ComposedError(
            f"the weights in {directory} are not those of a BLIP-2 for image–text retrieval: "
            f"{len(lacking)} missing ({', '.join(lacking[:3])}), {len(unknown)} unknown ({', '.join(unknown[:3])})"
        )


def _given(config: dict[str, Any], **names: str) -> dict[str, Any]:
    """Our name → value, of the fields that the configuration gives; the others keep BLIP-2's defaults."""
    return {ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None}


def _fingerprint(directory: Path) -> str:
    digest = hashlib.sha256(MODEL_TYPE.encode())
    for path in (directory / CONFIG_FILE, *weight_files(directory), directory / TOKENIZER_FILE):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
