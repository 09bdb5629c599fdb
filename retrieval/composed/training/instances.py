"""Tell objects apart by what stands in their boxes: the loss that gives tokens of a picture their object's identity."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class BoxHead(nn.Module):
    """Tokens and the mask of a box → embedding of the object; needed while training alone."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, dimension)

    def forward(self, tokens: Float[Tensor, "b p c"], mask: Float[Tensor, "b p"]) -> Float[Tensor, "b d"]:
        """The mean of what the box covers, of unit length."""
        inside = (tokens * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)
        return F.normalize(self.project(inside), dim=-1)


def same_instance_loss(
    objects: Float[Tensor, "b d"], instances: Int[Tensor, " b"], *, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Supervised contrastive loss (arXiv 2004.11362): each object picks the others of its instance among all.

    Objects that are alone in their instance teach nothing by themselves and are wrong answers for others.
    """
    return _picked(objects @ objects.T / temperature, instances)


def same_instance_of_sets_loss(
    pictures: Float[Tensor, "b v d"], instances: Int[Tensor, " b"], *, temperature: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The same for pictures of V vectors each, as similar as their two most similar vectors are.

    What two pictures of an object share is the object, so one vector of each must hold it.
    """
    pairs = torch.einsum("avd,bwd->abvw", pictures, pictures).flatten(2).amax(dim=-1)
    return _picked(pairs / temperature, instances)


def _picked(logits: Tensor, instances: Tensor) -> Tensor:
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    own = (instances[:, None] == instances) & ~itself
    counted = own.any(dim=1)
    log_shares = F.log_softmax(logits.masked_fill(itself, float("-inf")), dim=1).masked_fill(~own, 0.0)
    return -(log_shares.sum(dim=1) / own.sum(dim=1).clamp_min(1))[counted].mean()
