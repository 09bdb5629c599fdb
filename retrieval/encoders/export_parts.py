"""What an encoder hands over so that another runtime can run it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from retrieval.encoders.protocol import Encoder
from retrieval.encoders.tokenization import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportParts:
    """The two towers as modules, in evaluation mode and on the CPU."""

    image: nn.Module
    """Pixels [n, 3, height, width] float32 → embeddings [n, d] of unit length."""
    text: nn.Module
    """Token rows [n, t] int64 → embeddings [n, d] of unit length."""
    tokenizer: Tokenizer
    """Cuts texts into those rows."""
    convolutional: bool = False
    """Whether the image tower spends its time in convolutions, whose int8 form needs images to be calibrated on."""


@runtime_checkable
class Exportable(Encoder, Protocol):
    """An encoder that can be exported."""

    def export_parts(self) -> ExportParts:
        """Its towers; sharing weights with it is fine."""
        ...
