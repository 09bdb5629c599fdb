"""AdaFocal (arXiv 2604.05393): a BLIP-2 Q-Former that looks at a box as strongly as picture and text ask for."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig, Blip2VisionModel
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings

from retrieval.composed.geometry import ImageGeometry
from retrieval.composed.modulator import Modulation, Modulator, ModulatorConfig
from retrieval.composed.text import TextRows
from retrieval.composed.vision import Blip2Vision, CompactVision, CompactVisionConfig

START_TEMPERATURE = 0.07
_LEAST_TEMPERATURE = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class QFormerConfig:
    """Sizes of the Q-Former; the defaults are BLIP-2's."""

    vocabulary: int = 30523
    """Token ids of texts."""
    width: int = 768
    """Size W of a token between the layers."""
    layers: int = 12
    """Layers, every second of which, from the first on, looks at the picture."""
    heads: int = 12
    """Attention heads."""
    inner: int = 3072
    """Width of the feed-forward layers."""
    dropout: float = 0.1
    """Dropout of outputs and attention while training."""
    query_tokens: int = 32
    """Learnable queries V; what an image is embedded as."""
    dimension: int = 256
    """Size d of an embedding."""
    text_tokens: int = 32
    """Most tokens of a text, [CLS] and [SEP] included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerConfig:
    """Sizes of BLIP-2's vision transformer; the defaults are EVA-CLIP's g/14."""

    image_size: int = 224
    """Side of the square that pictures are brought to, pixels."""
    patch: int = 14
    """Side of the square of pixels that a token stands for."""
    hidden_size: int = 1408
    """Size C of a token."""
    inner: int = 6144
    """Width of the feed-forward layers."""
    layers: int = 39
    """Layers."""
    heads: int = 16
    """Attention heads."""
    norm_epsilon: float = 1e-6
    """What layer norms add to the variance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaFocalConfig:
    """Everything that decides the shape of a model."""

    vision: VisionTransformerConfig | CompactVisionConfig = field(default_factory=VisionTransformerConfig)
    """The image encoder."""
    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    """The Q-Former."""
    modulator: ModulatorConfig = field(default_factory=ModulatorConfig)
    """Where β comes from."""

    @property
    def geometry(self) -> ImageGeometry:
        """How pictures are brought to the encoder."""
        return ImageGeometry(size=self.vision.image_size, patch=self.vision.patch)


class AdaFocal(nn.Module):
    """The model: tokens of pictures and rows of texts in, embeddings of unit length out.

    Parameters are called as in the published BLIP-2 checkpoints; what AdaFocal adds is under `modulator`.
    """

    def __init__(self, config: AdaFocalConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.qformer
        self.vision_model: CompactVision | Blip2Vision = _vision(config.vision)
        qformer = Blip2QFormerConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.inner,
            hidden_dropout_prob=sizes.dropout,
            attention_probs_dropout_prob=sizes.dropout,
            encoder_hidden_size=config.vision.hidden_size,
            use_qformer_text_input=True,
        )
        # Eager: the maps of attention are read, and β learns through the mask.
        qformer._attn_implementation = "eager"
        self.query_tokens = nn.Parameter(torch.zeros(1, sizes.query_tokens, sizes.width))
        nn.init.normal_(self.query_tokens, std=0.02)
        self.embeddings = Blip2TextEmbeddings(qformer)  # type: ignore[no-untyped-call]
        for table in (self.embeddings.word_embeddings, self.embeddings.position_embeddings):
            nn.init.normal_(table.weight, std=0.02)
        self.qformer = Blip2QFormerModel(qformer)
        self.vision_projection = nn.Linear(sizes.width, sizes.dimension)
        self.text_projection = nn.Linear(sizes.width, sizes.dimension)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(START_TEMPERATURE)))
        self.modulator = (
            Modulator(config.modulator, width=sizes.width, query_tokens=sizes.query_tokens)
            if config.modulator.learned
            else None
        )

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by in the loss."""
        return self.log_temperature.exp().clamp_min(_LEAST_TEMPERATURE)

    def image_tokens(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b p c"]:
        """What the image encoder makes of pictures; frozen while AdaFocal trains, so that it can be kept on disk."""
        tokens: Tensor = self.vision_model(pixels)
        return tokens

    def embed_gallery(self, tokens: Float[Tensor, "b p c"]) -> Float[Tensor, "b v d"]:
        """The V vectors of each picture, of unit length: queries that look at the whole of it."""
        seen = self._seen(tokens)
        outputs = self.qformer(
            query_embeds=self.query_tokens.expand(len(seen), -1, -1), encoder_hidden_states=seen
        ).last_hidden_state
        return F.normalize(self.vision_projection(outputs), dim=-1)

    def embed_texts(self, texts: TextRows) -> Float[Tensor, "b d"]:
        """Texts that stand for themselves, without a picture, of unit length."""
        outputs = self.qformer(
            query_embeds=self.embeddings(input_ids=texts.ids), query_length=0, attention_mask=texts.kept.long()
        ).last_hidden_state
        return F.normalize(self.text_projection(outputs[:, 0]), dim=-1)

    def beta(self, tokens: Float[Tensor, "b p c"], texts: TextRows) -> Float[Tensor, "b n"]:
        """How strongly each query looks at its box: n is 1, or V for a VECTOR modulator."""
        return self._beta(self._seen(tokens), texts)

    def embed_queries(
        self,
        tokens: Float[Tensor, "b p c"],
        mask: Float[Tensor, "b p"],
        texts: TextRows,
        *,
        beta: Float[Tensor, "b n"] | None = None,
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n"]]:
        """One vector of unit length for each query, and the β that it was made with.

        `mask` is M: 1 for the tokens that the query's box covers, all 0 where it has none. `beta` overrules the model.
        """
        seen = self._seen(tokens)
        if beta is None:
            beta = self._beta(seen, texts)
        outputs = self._asked(self.query_tokens, seen, texts, attention_bias(beta, mask))
        first = outputs[:, self.config.qformer.query_tokens]  # the text's [CLS]
        return F.normalize(self.text_projection(first), dim=-1), beta

    def cross_attention(
        self,
        tokens: Float[Tensor, "b p c"],
        mask: Float[Tensor, "b p"],
        texts: TextRows,
        beta: Float[Tensor, "b n"],
    ) -> Float[Tensor, "b p"]:
        """Where the queries look with this β: attention, the mean over layers, heads and query tokens."""
        seen = self._seen(tokens)
        bias = attention_bias(beta, mask)
        maps: list[Tensor] = []
        layers: list[Any] = list(self.qformer.encoder.layer)
        hooks = [
            layer.crossattention.attention.register_forward_hook(lambda _module, _given, made: maps.append(made[1]))
            for layer in layers
            if layer.has_cross_attention
        ]
        try:
            self._asked(self.query_tokens, seen, texts, bias)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(maps).mean(dim=(0, 2, 3))

    def loss(self, queries: Float[Tensor, "b d"], targets: Float[Tensor, "g v d"]) -> Float[Tensor, ""]:
        """Cross-entropy of each query against all targets, its own at the same place; targets may outnumber queries."""
        right = torch.arange(len(queries), device=queries.device)
        return F.cross_entropy(similarity(queries, targets) / self.temperature, right)

    def _seen(self, tokens: Tensor) -> Tensor:
        seen: Tensor = self.vision_model.post_layernorm(tokens)
        return seen

    def _beta(self, seen: Tensor, texts: TextRows) -> Tensor:
        if self.modulator is not None:
            probes = self._asked(self.modulator.probes, seen, texts, None)[:, : self.config.modulator.probes]
            beta: Tensor = self.modulator(probes)
            return beta
        fixed = self.config.modulator.fixed if self.config.modulator.modulation is Modulation.FIXED else 0.0
        return seen.new_full((len(seen), 1), fixed)

    def _asked(self, queries: Tensor, seen: Tensor, texts: TextRows, bias: Tensor | None) -> Tensor:
        """Outputs [B, Q + T, W] of queries and text that look at a picture together."""
        queries = queries.expand(len(seen), -1, -1)
        kept = torch.cat([texts.kept.new_ones(len(seen), queries.shape[1]), texts.kept], dim=1)
        outputs: Tensor = self.qformer(
            query_embeds=self.embeddings(input_ids=texts.ids, query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=kept.long(),
            encoder_hidden_states=seen,
            # Four dimensions go through to the attention function as they are and are added to its scores.
            encoder_attention_mask=bias,
        ).last_hidden_state
        return outputs


def attention_bias(beta: Float[Tensor, "b n"], mask: Float[Tensor, "b p"]) -> Float[Tensor, "b 1 n p"]:
    """β · M, to be added to the scores of every head: n is 1, or one for each query token."""
    return beta[:, None, :, None] * mask[:, None, None, :]


def similarity(queries: Float[Tensor, "b d"], targets: Float[Tensor, "g v d"]) -> Float[Tensor, "b g"]:
    """Of each query with each image: that of the best of the image's V vectors."""
    return torch.einsum("bd,gvd->bgv", queries, targets).amax(dim=-1)


def _vision(config: VisionTransformerConfig | CompactVisionConfig) -> CompactVision | Blip2Vision:
    if isinstance(config, CompactVisionConfig):
        return CompactVision(config)
    published = Blip2VisionConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.inner,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        image_size=config.image_size,
        patch_size=config.patch,
        layer_norm_eps=config.norm_epsilon,
    )
    return Blip2Vision(Blip2VisionModel(published))
