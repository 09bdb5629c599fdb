"""Run an exported encoder with ONNX Runtime, without torch."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from retrieval.encoders.batching import embed_pixels_in_batches, embed_texts_in_batches
from retrieval.encoders.load import ONNX_MANIFEST_FILE
from retrieval.encoders.preprocessing import Fit, Preprocessing
from retrieval.encoders.protocol import Floats
from retrieval.encoders.published import read_json
from retrieval.encoders.tokenization import Rows, Tokenizer, load_tokenizer
from retrieval.errors import EncoderError

IMAGE_FILE, TEXT_FILE = "image.onnx", "text.onnx"
SCHEMA_VERSION = 1


class OnnxEncoder:
    """Two exported towers. Embeddings of texts of one batch do not depend on each other, nor do those of images."""

    def __init__(self, directory: Path, manifest: dict[str, Any], tokenizer: Tokenizer, *, threads: int | None) -> None:
        self.name = f"onnx {manifest['precision']} {directory}"
        self.precision: str = manifest["precision"]
        self.dimension: int = manifest["dimension"]
        self.logit_scale: float = manifest["logit_scale"]
        self.preprocessing = _preprocessing(manifest["preprocessing"])
        # The manifest holds the digest of every file; what the source was called decides nothing.
        deciding = json.dumps(manifest | {"source": None}, sort_keys=True)
        self.fingerprint = hashlib.sha256(deciding.encode()).hexdigest()
        self._tokenizer = tokenizer
        self._image, self._text = (_session(directory / file, threads) for file in (IMAGE_FILE, TEXT_FILE))

    @classmethod
    def load(cls, directory: Path, *, threads: int | None = None) -> "OnnxEncoder":
        """The encoder that `export_onnx` wrote, every file checked; `threads` of each tower, all cores unless told.

        EncoderError says which file is missing or altered.
        """
        manifest = read_json(directory / ONNX_MANIFEST_FILE)
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise EncoderError(
                f"{directory} has schema {manifest.get('schema_version')}, this release reads {SCHEMA_VERSION}; "
                "export the encoder again"
            )
        for name, wanted in manifest["files"].items():
            path = directory / name
            if not path.is_file() or digest_of(path) != wanted:
                state = "altered" if path.is_file() else "missing"
                raise EncoderError(f"{path} is {state} since it was exported; restore it or export the encoder again")
        return cls(directory, manifest, load_tokenizer(directory), threads=threads)

    def embed_pixels(self, pixels: Floats) -> Floats:
        """As in `Encoder`; ValueError where the pixels are not those of the preprocessing."""
        return embed_pixels_in_batches(pixels, self.preprocessing, self.dimension, self._embed_images)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """As in `Encoder`."""
        return embed_texts_in_batches(texts, self._tokenizer, self.dimension, self._embed_rows)

    def _embed_images(self, pixels: Floats) -> Floats:
        embeddings: Floats = self._image.run(None, {"pixels": np.ascontiguousarray(pixels)})[0]
        return embeddings

    def _embed_rows(self, rows: Rows) -> Floats:
        embeddings: Floats = self._text.run(None, {"rows": rows})[0]
        return embeddings


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _preprocessing(settings: dict[str, Any]) -> Preprocessing:
    mean, std = (tuple(settings[name]) for name in ("mean", "std"))
    return Preprocessing(**settings | {"fit": Fit(settings["fit"]), "mean": mean, "std": std})


def _session(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _cores()
    # Threads that wait for work must not take the cores from whoever else serves on this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise EncoderError(f"{path} cannot be run by ONNX Runtime {onnxruntime.__version__}: {error}") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
