"""CLIP and SigLIP checkpoints in the published Hugging Face layout, run by transformers on torch."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from retrieval.encoders.batching import embed_pixels_in_batches, embed_texts_in_batches
from retrieval.encoders.export_parts import ExportParts
from retrieval.encoders.preprocessing import Preprocessing
from retrieval.encoders.protocol import Floats
from retrieval.encoders.published import (
    CONFIG_FILE,
    PATTERNS,
    fingerprint_of,
    read_json,
    read_preprocessing,
    tokenizer_files,
    weight_files,
)
from retrieval.encoders.tokenization import Padding, Rows, SubwordTokenizer, Tokenizer, TransformersTokenizer
from retrieval.errors import EncoderError

MODEL_TYPES = ("clip", "siglip")
"""What config.json may call itself. The fixed-size checkpoints of SigLIP 2 call themselves siglip."""


class HuggingFaceEncoder:
    """Two towers of transformers. Texts become what transformers makes of them by default:

    CLIP pools at the end token and looks only back, so padding to the longest text of a batch changes nothing. SigLIP
    was trained with every text in lower case and padded to one length, and pools the last position, padding or not,
    without a mask.
    """

    def __init__(
        self, name: str, model: Any, tokenizer: Tokenizer, preprocessing: Preprocessing, directory: Path
    ) -> None:
        self.name = name
        self.preprocessing = preprocessing
        self._model, self._tokenizer, self._directory = model, tokenizer, directory
        self._image, self._text = _ImageTower(model).eval(), _TextTower(model).eval()
        self.dimension = int(
            model.config.projection_dim if _is_clip(model) else model.config.text_config.projection_size
        )
        self.logit_scale = float(model.logit_scale.detach().exp())

    @cached_property
    def fingerprint(self) -> str:
        """As in `Encoder`."""
        return fingerprint_of(self._directory)

    def embed_pixels(self, pixels: Floats) -> Floats:
        """As in `Encoder`; ValueError where the pixels are not those of the preprocessing."""
        return embed_pixels_in_batches(
            pixels, self.preprocessing, self.dimension, lambda batch: self._run(self._image, batch)
        )

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """As in `Encoder`."""
        return embed_texts_in_batches(texts, self._tokenizer, self.dimension, lambda rows: self._run(self._text, rows))

    def export_parts(self) -> ExportParts:
        """As in `Exportable`; EncoderError where the encoder is on a GPU."""
        if self._model.device.type != "cpu":
            raise EncoderError(
                f"{self.name} must be on the CPU to be exported, got {self._model.device}; load it there"
            )
        return ExportParts(image=self._image, text=self._text, tokenizer=self._tokenizer)

    def _run(self, tower: nn.Module, batch: Floats | Rows) -> Floats:
        with torch.inference_mode():
            embeddings: Floats = tower(torch.from_numpy(batch).to(self._model.device)).cpu().numpy()
        return embeddings


def load_hugging_face(reference: str | Path, *, device: str = "cpu", allow_download: bool = True) -> HuggingFaceEncoder:
    """The encoder in a local directory or, where that does not exist, under that name on the hub.

    A local directory and `allow_download=False` never touch the network. Only safetensors are read and no code of the
    checkpoint is run. EncoderError says what is missing or wrong.
    """
    directory = Path(reference)
    name = str(reference)
    if not directory.is_dir():
        directory = _fetched(name, allow_download=allow_download)
    config = read_json(directory / CONFIG_FILE)
    if config.get("model_type") not in MODEL_TYPES:
        raise EncoderError(
            f"{directory / CONFIG_FILE} must have a model_type of {' or '.join(MODEL_TYPES)}, "
            f"got {config.get('model_type')!r}; use another checkpoint"
        )
    preprocessing = read_preprocessing(directory)
    weight_files(directory)
    tokenizer_files(directory)
    with _quiet():
        model = _model(directory, config["model_type"]).to(device)
        tokenizer = _tokenizer(directory, model)
    image_size = model.config.vision_config.image_size
    if (preprocessing.height, preprocessing.width) != (image_size, image_size):
        raise EncoderError(
            f"{directory} must prepare images of {image_size} by {image_size}, which its model takes, "
            f"got {preprocessing.height} by {preprocessing.width}; restore its preprocessor_config.json"
        )
    return HuggingFaceEncoder(f"{config['model_type']} {name}", model, tokenizer, preprocessing, directory)


def _fetched(name: str, *, allow_download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=not allow_download))
    except HFValidationError as error:
        raise EncoderError(f"{name!r} is neither a directory nor a name on the hub: {error}") from error
    except Exception as error:  # of the hub, of its HTTP client, of the file system
        how = "fetched from the hub" if allow_download else "found among what was downloaded, and downloads are off"
        raise EncoderError(
            f"{name!r} cannot be {how}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; "
            "check the name and the network, or download it elsewhere and name its directory"
        ) from error


def _model(directory: Path, model_type: Literal["clip", "siglip"]) -> Any:
    kind: Any = transformers.CLIPModel if model_type == "clip" else transformers.SiglipModel
    try:
        model, report = kind.from_pretrained(
            directory,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # of safetensors, of the configuration, of shapes
        raise EncoderError(f"the weights in {directory} cannot be read: {error}; download them again") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        wrong = sorted(map(str, report["missing_keys"])) + sorted(map(str, report["mismatched_keys"]))
        raise EncoderError(
            f"the weights in {directory} lack {wrong[0]}, and {len(wrong) - 1} more; download them again"
        )
    return model.eval()


def _tokenizer(directory: Path, model: Any) -> Tokenizer:
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except ImportError as error:
        missing = str(error).strip().splitlines()[0]
        raise EncoderError(
            f"the tokenizer in {directory} cannot be run: {missing}; pip install sentencepiece"
        ) from error
    except Exception as error:
        raise EncoderError(f"the tokenizer in {directory} cannot be read: {error}; download it again") from error
    most = model.config.text_config.max_position_embeddings
    padding = Padding(
        token=tokenizer.pad_token_id,
        to=None if _is_clip(model) else most,
        left=not _is_clip(model) and tokenizer.padding_side == "left",
    )
    length = min(most, tokenizer.model_max_length)
    subwords = getattr(tokenizer, "backend_tokenizer", None)
    if subwords is None:
        return TransformersTokenizer(tokenizer, max_length=length, padding=padding)
    # CLIP's own tokenizer lowers case; SigLIP 2 was trained on lowered texts too, and borrows one that does not.
    return SubwordTokenizer(subwords, max_length=length, padding=padding, lower=not _is_clip(model))


def _is_clip(model: Any) -> bool:
    return isinstance(model, transformers.CLIPModel)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what is wrong is raised."""
    with _QUIET:
        verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity(logging.ERROR)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


_QUIET = threading.Lock()
"""Their switches are the whole process's."""


class _ImageTower(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


class _TextTower(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(self.model.get_text_features(input_ids=rows).pooler_output, dim=-1)
