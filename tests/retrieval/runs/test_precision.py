"""Which numbers a run computes in on which machine."""

import pytest
import torch

from retrieval.runs.precision import Precision, computes_bf16


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_was_chosen_is_done(device):
    assert computes_bf16(Precision.BFLOAT16, device)
    assert not computes_bf16(Precision.FLOAT32, device)


@pytest.mark.parametrize("able", [True, False])
def test_auto_asks_the_device_itself(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: not able)
    assert computes_bf16(Precision.AUTO) is able
    assert computes_bf16(Precision.AUTO, "cuda") is not able
