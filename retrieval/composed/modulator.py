"""Decide from picture and text how strongly a query looks at its box: β of arXiv 2604.05393."""

from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Modulation(StrEnum):
    """Where β comes from."""

    NONE = "none"
    """β = 0: the box is not looked at."""
    FIXED = "fixed"
    """One number for all queries."""
    SCALAR = "scalar"
    """One number a query, from its picture and text."""
    VECTOR = "vector"
    """One number for each query token, from picture and text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModulatorConfig:
    """The Context-Aware Attention Modulator."""

    modulation: Modulation = Modulation.SCALAR
    """Where β comes from."""
    fixed: float = 1.0
    """β of FIXED."""
    probes: int = 8
    """Learnable tokens that take the place of the query tokens while picture and text are looked over."""
    layers: int = 2
    """Transformer layers over the probes' outputs."""
    heads: int = 8
    """Attention heads of these layers."""
    hidden: int = 512
    """Width between the last layer and β."""
    inner: int | None = None
    """Width of the layers' feed-forward part; None is four times the model's. As released: 2048."""

    def __post_init__(self) -> None:
        for name in ("probes", "layers", "heads", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.inner is not None and self.inner < 1:
            raise ValueError(f"inner must be at least 1, or None, got {self.inner}")
        if not 0 <= self.fixed < float("inf"):
            raise ValueError(f"fixed must be a finite number of at least 0, got {self.fixed}")

    @property
    def learned(self) -> bool:
        """Whether a query's own picture and text decide."""
        return self.modulation in (Modulation.SCALAR, Modulation.VECTOR)


class Modulator(nn.Module):
    """Outputs of the probes → β ≥ 0: a learnable CLS gathers them, two linear layers and a softplus judge."""

    def __init__(self, config: ModulatorConfig, *, width: int, query_tokens: int) -> None:
        super().__init__()
        self.probes = nn.Parameter(torch.zeros(1, config.probes, width))
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.probes, std=0.02)
        nn.init.normal_(self.cls, std=0.02)
        inner = 4 * width if config.inner is None else config.inner
        layer = nn.TransformerEncoderLayer(width, config.heads, dim_feedforward=inner, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        outputs = query_tokens if config.modulation is Modulation.VECTOR else 1
        self.judge = nn.Sequential(nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, outputs))

    def forward(self, outputs: Float[Tensor, "b p w"]) -> Float[Tensor, "b n"]:
        """β of each query: n is 1, or one for each query token."""
        tokens = torch.cat([self.cls.expand(len(outputs), -1, -1), outputs], dim=1)  # [B, 1 + p, W]
        return F.softplus(self.judge(self.encoder(tokens)[:, 0]))
