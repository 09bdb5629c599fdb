"""Which numbers a model is trained in."""

from enum import StrEnum

import torch


class Precision(StrEnum):
    """Numbers that the large products are computed in; the weights themselves are fp32."""

    AUTO = "auto"
    """bf16 where the processor computes with it, else fp32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def computes_bf16(precision: Precision, device: str = "cpu") -> bool:
    """Whether to compute in bf16 on that type of device."""
    if precision is not Precision.AUTO:
        return precision is Precision.BFLOAT16
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())
