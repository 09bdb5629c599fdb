"""bf16 where it is asked for, and nowhere else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from recsys.data.event_store import EventStore
from recsys.data.samples import make_samples
from recsys.errors import ConfigError
from recsys.models.batch import collate
from recsys.models.kinds import MODELS
from recsys.training.config import TrainConfig
from recsys.training.loop import new_model, train


@pytest.mark.parametrize("kind", MODELS)
def test_only_the_heads_products_are_in_bf16(wide_store: EventStore, wide_config: TrainConfig, kind: str) -> None:
    model = new_model(wide_store, replace(wide_config, model=kind))
    samples = make_samples(wide_store, wide_config.samples, "train")
    batch = collate(wide_store, samples.take(torch.arange(4).numpy()))
    heads = [head for head in (model.head, model.aux_head) if head is not None]
    in_heads = {id(module) for head in heads for module in head.modules()}
    seen: dict[str, set[torch.dtype]] = {"heads' products": set(), "BatchNorm": set(), "elsewhere": set()}

    def note(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.BatchNorm1d):
            seen["BatchNorm"].add(output.dtype)
        elif isinstance(module, nn.Linear):
            seen["heads' products" if id(module) in in_heads else "elsewhere"].add(output.dtype)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    loss = model.loss(batch, l2=1e-6, precision=torch.bfloat16)
    loss.backward()
    for hook in hooks:
        hook.remove()
    assert seen["heads' products"] == {torch.bfloat16}
    assert seen["BatchNorm"] == {torch.float32}
    assert seen["elsewhere"] <= {torch.float32}
    assert loss.dtype == torch.float32
    exact = new_model(wide_store, replace(wide_config, model=kind)).loss(batch, l2=1e-6)
    assert loss.item() != exact.item(), "products in bf16 are rounded"
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == {torch.float32}


def test_a_run_in_bf16_learns(shop_store: EventStore, wide_config: TrainConfig, tmp_path: Path) -> None:
    model = train(
        shop_store,
        replace(wide_config, batch_size=192, learning_rate=0.02, precision="bf16", epochs=6),
        tmp_path / "run",
    )
    assert json.loads((model / "metrics.json").read_text())["test"]["auc"] > 0.9


def test_an_unknown_precision_is_named(wide_config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="precision must be one of fp32, bf16, got 'fp8'"):
        replace(wide_config, precision="fp8")  # type: ignore[arg-type]
