"""SDIM: hash buckets instead of a search: what shares a target's hash is summed up (arXiv 2205.10249).

m fixed random hyperplanes give an embedding m bits, taken together by τ into m/τ signatures. For each signature the
behaviours with the target's own are added up and scaled to length 1, and the sums averaged. A behaviour at angle θ from
the target shares a signature with probability (1 − θ/π)^τ, which is therefore the attention that is sampled. No
behaviours are searched for, so that there is no auxiliary head. One embedding set compares and represents; positions
are represented only.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.models.batch import Batch, used_items
from recsys.models.embeddings import FeatureEmbeddings
from recsys.models.model import Found, Model, Pooled, rows_of, target_values
from recsys.models.rectangle import Rectangle
from recsys.models.sizes import ModelSizes


@dataclass(frozen=True, kw_only=True, slots=True)
class SdimConfig(ModelSizes):
    """Sizes of an SDIM model; `search_k` only says how many behaviours explain a score."""

    hash_bits: int = 48
    """m, hyperplanes in all."""
    signature_bits: int = 3
    """τ, bits of a signature; more of them make attention steeper."""

    def __post_init__(self) -> None:
        ModelSizes.__post_init__(self)
        if self.signature_bits > 16 or self.hash_bits % self.signature_bits:
            raise ConfigError(
                f"hash_bits must be a multiple of signature_bits, and that at most 16; got {self.hash_bits} and "
                f"{self.signature_bits}"
            )


class Sdim(Model):
    """Pools by collisions of hashes."""

    kind = "sdim"
    sizes = SdimConfig
    auxiliary = False
    searches = False
    config: SdimConfig
    hyperplanes: Tensor

    def make_tables(self, generator: torch.Generator) -> None:
        """One embedding set, and the hyperplanes."""
        rows = self.config.n_items, self.config.n_categories, self.config.n_positions
        dim = self.config.representation_dim
        self.shared = FeatureEmbeddings(*rows, dim, generator=generator)
        planes = torch.randn(2 * dim, self.config.hash_bits, generator=generator)
        self.register_buffer("hyperplanes", planes)  # [2·d, m]

    def pool(self, batch: Batch, *, whole: bool) -> Pooled:  # noqa: ARG002 - there is no auxiliary head
        """Pool each history for each target by what shares its signatures; nothing shared pools to zero."""
        used = used_items(batch, self.config.n_items + 1)
        joined = self.shared.joined(used.items, self.category_of_item)  # [U, 2·d]
        first, others = self.shared.position.weight[0], self.shared.position.weight[1:]
        histories = Rectangle.of(used.rows, batch.offsets)
        positions = histories.position_values(others).expand(len(histories.rows), -1, -1)
        behaviours = torch.cat([rows_of(joined, histories.rows), positions], dim=-1)  # [B, L, 3·d]
        signatures = self.signatures(joined.detach())  # [U, S]
        of_target = signatures[used.targets].transpose(1, 2)  # [B, S, T]
        of_behaviour = signatures[histories.rows].transpose(1, 2)  # [B, S, L]
        shared = of_target.unsqueeze(3) == of_behaviour.unsqueeze(2)  # [B, S, T, L]
        shared &= histories.real.view(len(histories.rows), 1, 1, -1)
        sums = (shared.to(joined.dtype).flatten(1, 2) @ behaviours).view(*shared.shape[:3], -1)  # [B, S, T, 3·d]
        return Pooled(
            target=target_values(rows_of(joined, used.targets), first),
            best=nn.functional.normalize(sums, dim=-1).mean(dim=1),
            whole=None,
            found=self._found(histories, shared),
        )

    def signatures(self, embeddings: Float[Tensor, "u a"]) -> Int64[Tensor, "u s"]:
        """m/τ numbers of τ bits each; a bit is 1 on a hyperplane or above it."""
        bits = (embeddings @ self.hyperplanes >= 0).long().view(len(embeddings), -1, self.config.signature_bits)
        places = torch.arange(self.config.signature_bits, device=bits.device)
        return (bits << places).sum(-1)

    def _found(self, histories: Rectangle, shared: Bool[Tensor, "b s t l"]) -> Found:
        """The behaviours that share the most signatures, weighted by how many they share."""
        k = self.config.search_k
        counts = shared.sum(dim=1).float()  # [B, T, L]
        columns, found = histories.best_columns(counts, counts > 0, k)
        kept = counts.gather(-1, columns) * found
        weights = kept / kept.sum(-1, keepdim=True).clamp(min=1)
        return Found(histories.positions(columns, found, k), nn.functional.pad(weights, (0, k - weights.shape[-1])))
