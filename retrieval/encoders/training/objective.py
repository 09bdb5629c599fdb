"""The loss of a dual encoder when pictures share captions: each picks its own among all, and is picked by them."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def contrastive_loss(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "c d"],
    own: Bool[Tensor, "b c"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Mean of both directions of the contrastive loss (arXiv 2103.00020) with several right answers.

    Embeddings have unit length. `own` says which captions are true of which picture; the target of a picture is spread
    evenly over its captions, and that of a caption over its pictures. A caption that no picture of the step has takes
    part as a wrong answer. With one caption a picture, all different, this is CLIP's loss.
    """
    logits = logit_scale * images @ texts.T  # [B, C]
    true = own.to(logits.dtype)
    to_text = -(true / true.sum(1, keepdim=True) * F.log_softmax(logits, dim=1)).sum(1).mean()
    pictured = own.any(0)
    true = true[:, pictured]
    to_image = -(true / true.sum(0) * F.log_softmax(logits[:, pictured], dim=0)).sum(0).mean()
    return (to_text + to_image) / 2
