"""Turn a target and its pooled history into the logits of "not interested" and "interested"."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class PredictionHead(nn.Sequential):
    """BatchNorm → (Linear → PReLU with one shared slope) for each width in `hidden` → Linear 2."""

    def __init__(self, features: int, hidden: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.BatchNorm1d(features)]
        width = features
        for size in hidden:
            layers += [nn.Linear(width, size), nn.PReLU()]
            width = size
        super().__init__(*layers, nn.Linear(width, 2))

    def forward(self, inputs: Float[Tensor, "b t f"]) -> Float[Tensor, "b t 2"]:
        """Logits of every target."""
        logits: Tensor = super().forward(  # type: ignore[no-untyped-call]
            inputs.flatten(0, 1)
        )  # [B·T, 2]
        return logits.view(*inputs.shape[:2], 2)
