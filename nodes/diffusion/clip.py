"""The text encoder of CLIP and OpenCLIP, with the names of transformers.

Source: Radford et al. 2021 (arXiv:2103.00020), section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nodes.diffusion.architecture import ClipConfig

END = 49407  # the token that ends a text

Vectors = Iterable[tuple[int, int, Tensor]]
"""Row, column and [D]: what stands in a place of the texts instead of a token's embedding."""


class Encoded(NamedTuple):
    """What a text encoder makes of texts.

    Attributes:
        hidden: [B, T, D], the states of the layer asked for.
        pooled: [B, P], the last layer's state at the end of the text, projected where there is a projection.
    """

    hidden: Tensor
    pooled: Tensor


class ClipTextModel(nn.Module):
    """Encodes token ids [B, T]."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = _Transformer(config)
        self.text_projection = None
        if config.projection is not None:
            self.text_projection = nn.Linear(config.hidden, config.projection, bias=False)

    def forward(self, tokens: Tensor, layer: int = -1, final_norm: bool = True, vectors: Vectors = ()) -> Encoded:
        """Runs all layers and returns the states of one.

        Args:
            tokens: [B, T] integers, T up to 77, each row with an end token.
            layer: -1 for the last layer, -2 for the one before it, ...; beyond the first it is the last one, normed.
            final_norm: apply the final norm to the states, whichever layer they are of.
            vectors: take the places of tokens (textual inversion, Gal et al. 2022, arXiv:2208.01618).
        """
        if -layer > self.config.layers:  # as in ComfyUI
            layer, final_norm = -1, True
        states = self.text_model(tokens, vectors)
        last = self.text_model.final_layer_norm(states[-1])
        ends = (tokens == END).int().argmax(dim=-1)  # the first: padding may repeat it
        pooled = last[torch.arange(len(tokens), device=tokens.device), ends]
        if self.text_projection is not None:
            pooled = self.text_projection(pooled)
        hidden = states[layer]
        return Encoded(self.text_model.final_layer_norm(hidden) if final_norm else hidden, pooled)


class _Transformer(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden)

    def forward(self, tokens: Tensor, vectors: Vectors) -> list[Tensor]:
        """Returns the states after each layer, [B, T, D] each."""
        return self.encoder(self.embeddings(tokens, vectors))


class _Embeddings(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        # Zeros, because drawing random numbers on the meta device imports 900 modules of torch (0.9 s, 150 MB).
        self.token_embedding = nn.Embedding.from_pretrained(torch.zeros(config.vocab, config.hidden), freeze=False)
        self.position_embedding = nn.Embedding.from_pretrained(
            torch.zeros(config.positions, config.hidden), freeze=False
        )

    def forward(self, tokens: Tensor, vectors: Vectors) -> Tensor:
        embedded = self.token_embedding(tokens)
        for row, column, vector in vectors:
            embedded[row, column] = vector.to(embedded)
        return embedded + self.position_embedding.weight[: tokens.shape[1]]


class _Encoder(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        states: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        return states


class _Layer(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden)
        self.mlp = _Mlp(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Attention(nn.Module):
    """Attention in which a token sees those before it and itself."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden, config.hidden) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, T, D / heads]
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(h.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.is_quick = config.activation == "quick_gelu"
        self.fc1 = nn.Linear(config.hidden, config.intermediate)
        self.fc2 = nn.Linear(config.intermediate, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h) if self.is_quick else F.gelu(h))
