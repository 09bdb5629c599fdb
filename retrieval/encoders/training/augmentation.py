"""Show the image tower every photo a little differently each time: other crop, angle, side, light."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How far a training picture may stray from its photo."""

    least_scale: float = 0.5
    """Smallest side of a crop, as a share of the photo's."""
    most_stretch: float = 1.2
    """Largest change of the proportion of sides."""
    most_turn: float = 15.0
    """Largest rotation, degrees."""
    light: float = 0.3
    """Largest change of brightness, contrast and saturation, as a share."""
    mirror: bool = True
    """Whether left and right may be exchanged; not where texts say which side something is on."""

    def __post_init__(self) -> None:
        if not 0 < self.least_scale <= 1 or self.most_stretch < 1 or self.most_turn < 0 or not 0 <= self.light < 1:
            raise ValueError(
                "least_scale must be in (0, 1], most_stretch at least 1, most_turn at least 0 and light in [0, 1); got "
                f"{self.least_scale}, {self.most_stretch}, {self.most_turn}, {self.light}"
            )

    def apply(
        self, pixels: UInt8[Tensor, "b h0 w0 3"], size: int, generator: torch.Generator
    ) -> Float[Tensor, "b 3 h w"]:
        """Training pictures of `size` × `size` in [0, 1]."""
        count = len(pixels)

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(count, generator=generator) * (high - low) + low

        images = pixels.permute(0, 3, 1, 2).float().div_(255)  # [B, 3, H0, W0]
        scale = uniform(self.least_scale, 1.0)
        stretch = torch.exp(uniform(-1.0, 1.0) * math.log(self.most_stretch) / 2)
        turn = torch.deg2rad(uniform(-self.most_turn, self.most_turn))
        side = torch.where((uniform(0, 1) < 0.5) & self.mirror, -1.0, 1.0)
        across, down = scale * stretch, scale / stretch
        cos, sin = turn.cos(), turn.sin()
        # Rows of the affine map from the picture's square to the photo's, both from −1 to 1.
        maps = torch.stack(
            [
                torch.stack([across * cos * side, -down * sin, uniform(-1, 1) * (1 - scale)], dim=1),
                torch.stack([across * sin * side, down * cos, uniform(-1, 1) * (1 - scale)], dim=1),
            ],
            dim=1,
        )  # [B, 2, 3]
        grid = F.affine_grid(maps, [count, 3, size, size], align_corners=False)
        taken = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        return self._relit(taken, uniform)

    def _relit(self, images: Tensor, uniform: Callable[[float, float], Tensor]) -> Tensor:
        def factor() -> Tensor:
            return uniform(1 - self.light, 1 + self.light)[:, None, None, None]

        images = images * factor()
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - middle) * factor() + middle
        grey = images.mean(dim=1, keepdim=True)
        return ((images - grey) * factor() + grey).clamp_(0, 1)
