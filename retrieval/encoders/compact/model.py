"""A dual encoder of a few megabytes: a residual network for pictures, attention over words for texts, one space."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

MAX_LOGIT_SCALE = 100.0
"""As CLIP: a steeper softmax only learns the noise of single pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DualEncoderConfig:
    """Sizes of a dual encoder."""

    vocabulary: int
    """Words V that the text tower knows, the one for padding and unknown words included."""
    image_size: int = 96
    """Side of the square that pictures are brought to, pixels."""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of each stage of the image tower; every stage halves the sides."""
    word_dim: int = 128
    """Size of a word's vector."""
    dimension: int = 128
    """Size d of the shared space."""

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise ValueError(f"vocabulary must hold at least one word beside the padding, got {self.vocabulary}")
        if not self.widths or min(self.widths) < 8:
            raise ValueError(f"widths must be at least 8 channels each, got {self.widths}")
        if self.image_size < 2 ** (len(self.widths) + 1):
            raise ValueError(
                f"image_size must be at least {2 ** (len(self.widths) + 1)} for {len(self.widths)} stages, "
                f"got {self.image_size}"
            )


class Block(nn.Module):
    """Two 3×3 convolutions and a way around them (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride)
        self.second = _convolution(outputs, outputs, 1)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            # Averaged first: a strided 1×1 convolution would not look at three of four pixels.
            pooled = nn.AvgPool2d(stride) if stride != 1 else nn.Identity()
            self.around = nn.Sequential(pooled, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Features of the next size."""
        return F.relu(self.second(F.relu(self.first(features))) + self.around(features))


class ImageTower(nn.Module):
    """Pixels → embedding."""

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        first = config.widths[0]
        self.stem = nn.Sequential(
            _convolution(3, first // 2, 2), nn.ReLU(), _convolution(first // 2, first, 1), nn.ReLU(), nn.MaxPool2d(2)
        )
        inputs = (first, *config.widths)
        self.stages = nn.Sequential(
            *(Block(inputs[at], width, stride=1 if at == 0 else 2) for at, width in enumerate(config.widths))
        )
        self.project = nn.Linear(config.widths[-1], config.dimension)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embeddings of unit length."""
        features = self.stages(self.stem(pixels)).mean(dim=(2, 3))  # [B, C]
        return F.normalize(self.project(features), dim=-1)


class TextTower(nn.Module):
    """Word rows → embedding: a text is the sum of its words, each counted as much as it matters.

    A row of 0 is padding or an unknown word and counts nothing, so that a class whose name no model was trained on is
    known by its descriptors alone. Word order is left out on purpose: a few thousand captions cannot teach it.
    """

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary, config.word_dim, padding_idx=0)
        self.weight = nn.Linear(config.word_dim, 1)
        self.project = nn.Linear(config.word_dim, config.dimension)

    def forward(self, words: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """Embeddings of unit length; a text of unknown words alone gets the same one as an empty text."""
        vectors = self.words(words)  # [N, T, W]
        weights = F.softplus(self.weight(vectors)) * (words != 0).unsqueeze(-1)  # [N, T, 1]
        pooled = (weights * vectors).sum(1) / weights.sum(1).clamp_min(1e-6)  # [N, W]
        return F.normalize(self.project(pooled), dim=-1)


class DualEncoder(nn.Module):
    """Two towers into one space."""

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def logit_scale(self) -> Tensor:
        """What cosines are multiplied by, at most MAX_LOGIT_SCALE."""
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs))
