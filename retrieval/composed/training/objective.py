"""Loss and gradients of one step, of a whole batch even where only a part of it fits in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from retrieval.composed.model import AdaFocal
from retrieval.composed.training.examples import Examples, Positions


def backward(model: AdaFocal, examples: Examples, batch: Positions, *, parts: int, bf16: bool) -> Tensor:
    """Add the gradients of the batch's loss to the parameters and return the loss.

    With several `parts` each is embedded twice: once to learn what the loss of all wants of its embeddings, once more
    to hand that on to the parameters (arXiv 2101.06983). The loss is that of the whole batch, every query against all
    its targets, which adding up the losses of parts would not be.
    """
    if parts == 1:
        queries, targets = _embedded(model, examples, batch, bf16)
        loss = model.loss(queries, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    shares = np.array_split(batch, parts)
    states, kept = [], []
    with torch.no_grad():
        for share in shares:
            states.append(_random_state(model))
            kept.append(_embedded(model, examples, share, bf16))
    queries, targets = (torch.cat(each).requires_grad_() for each in zip(*kept, strict=True))
    loss = model.loss(queries, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    begin = 0
    for share, state in zip(shares, states, strict=True):
        part = slice(begin, begin + len(share))
        begin += len(share)
        with _replayed(model, state):  # the same dropout as before
            embedded = _embedded(model, examples, share, bf16)
        torch.autograd.backward(embedded, (queries.grad[part], targets.grad[part]))  # type: ignore[index]
    return loss.detach()


def _embedded(model: AdaFocal, examples: Examples, at: Positions, bf16: bool) -> tuple[Tensor, Tensor]:
    """Queries [b, d] and targets [b, V, d], in fp32."""
    device = model.query_tokens.device
    tokens, masks, texts = examples.seen(at)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        queries, _ = model.embed_queries(tokens.to(device), masks.to(device), texts.to(device))
        targets = model.embed_gallery(examples.targets(at).to(device))
    return queries.float(), targets.float()


def _devices(model: AdaFocal) -> list[torch.device]:
    device = model.query_tokens.device
    return [device] if device.type == "cuda" else []


def _random_state(model: AdaFocal) -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in _devices(model)]


@contextmanager
def _replayed(model: AdaFocal, state: tuple[Tensor, list[Tensor]]) -> Iterator[None]:
    """Draw again what was drawn from `state` on, and go on afterwards where the generators were."""
    with torch.random.fork_rng(devices=_devices(model)):
        torch.set_rng_state(state[0])
        for device, drawn in zip(_devices(model), state[1], strict=True):
            torch.cuda.set_rng_state(drawn, device)
        yield
