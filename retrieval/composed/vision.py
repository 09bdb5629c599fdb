"""Image encoders of composed retrieval: BLIP-2's, and a compact one of our own with the same form of output.

Both stop before their final layer norm, `post_layernorm`: what comes before is frozen and kept on disk.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Blip2VisionModel

from retrieval.encoders.compact.model import Block


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactVisionConfig:
    """Sizes of the compact image encoder; what one token sees is 4 · 2^(stages − 1) pixels wide."""

    image_size: int = 128
    """Side of the square that pictures are brought to, pixels."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of each stage; every stage but the first halves the sides."""

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 8:
            raise ValueError(f"widths must be at least 8 channels each, got {self.widths}")
        if self.image_size % self.patch:
            raise ValueError(
                f"image_size must be a multiple of {self.patch} for {len(self.widths)} stages, got {self.image_size}"
            )

    @property
    def patch(self) -> int:
        """Side of the square of pixels that a token stands for."""
        return 4 << (len(self.widths) - 1)

    @property
    def hidden_size(self) -> int:
        """Size C of a token."""
        return self.widths[-1]


class CompactVision(nn.Module):
    """A residual network whose last feature map is the grid of tokens, their mean before them as CLS."""

    def __init__(self, config: CompactVisionConfig) -> None:
        super().__init__()
        first = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        inputs = (first, *config.widths)
        self.stages = nn.Sequential(
            *(Block(inputs[at], width, stride=1 if at == 0 else 2) for at, width in enumerate(config.widths))
        )
        side = config.image_size // config.patch
        self.position = nn.Parameter(torch.zeros(1, side * side, config.hidden_size))
        nn.init.normal_(self.position, std=0.02)
        self.post_layernorm = nn.LayerNorm(config.hidden_size)

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t c"]:
        """Tokens of each picture: CLS and the grid, row by row."""
        grid = self.stages(self.stem(pixels)).flatten(2).transpose(1, 2)  # [B, side², C]
        return torch.cat([grid.mean(dim=1, keepdim=True), grid + self.position], dim=1)


class Blip2Vision(nn.Module):
    """BLIP-2's vision transformer, put together from the parts of transformers' `Blip2VisionModel`."""

    def __init__(self, published: Blip2VisionModel) -> None:
        super().__init__()
        self.embeddings = published.embeddings
        self.encoder = published.encoder
        self.post_layernorm = published.post_layernorm

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t c"]:
        """Tokens of each picture: CLS and the grid, row by row."""
        tokens: Tensor = self.encoder(inputs_embeds=self.embeddings(pixels)).last_hidden_state
        return tokens
