"""The causal decoder: the same code carries the tiny policy and a pretrained Llama-family language model.

In: token states, rotary positions, a mask, and optionally keys and values of earlier tokens. Out: states after
the last block and the new tokens' keys and values per layer. Which token may see which is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from drivebyword.model.attention import (
    Attention,
    Kept,
    KeyValue,
    LatentAttention,
    LatentConfig,
    RopeScaling,
    as_bias,
    rotary,
)
from drivebyword.model.experts import MixtureOfExperts, RoutingConfig
from drivebyword.model.layers import SwiGLU
from drivebyword.model.norm import RMSNorm


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes of a decoder. Blocks from `moe_from` on are mixtures of experts; `experts` 0 means none is.

    What is None by default is what one language model family or another does differently.
    """

    width: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 2
    head_width: int = 32
    hidden: int = 384
    theta: float = 10_000.0
    norm_eps: float = 1e-5
    moe_from: int = 3
    experts: int = 4
    experts_per_token: int = 1
    expert_hidden: int = 256
    shared_hidden: int = 256
    balance_rate: float = 1e-3
    routing: RoutingConfig | None = None
    latent: LatentConfig | None = None
    """Multi-head latent attention instead of grouped queries."""
    scaling: RopeScaling | None = None
    qkv_bias: bool | None = None
    head_norm: bool | None = None

    @property
    def rope_width(self) -> int:
        """Width of what turns with the position in a head."""
        return self.head_width if self.latent is None else self.latent.rope_width

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads or self.head_width % 2:
            raise ValueError("heads must be a multiple of kv_heads, and head_width even")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError("experts_per_token must be between 1 and experts")
        if self.routing is not None and self.experts % self.routing.groups:
            raise ValueError(f"{self.experts} experts cannot be put in {self.routing.groups} groups of equal size")


class Block(nn.Module):
    """Attention, then a dense or expert feed-forward, each on the normalised stream."""

    def __init__(self, config: DecoderConfig, index: int, ages: int) -> None:
        super().__init__()
        c = config
        self.norm_attention = RMSNorm(c.width, c.norm_eps)
        self.attention = _attention(c, ages)
        self.norm_feed = RMSNorm(c.width, c.norm_eps)
        self.feed: nn.Module
        if c.experts and index >= c.moe_from:
            self.feed = MixtureOfExperts(
                c.width, c.expert_hidden, c.shared_hidden, c.experts, c.experts_per_token, c.balance_rate, c.routing
            )
        else:
            self.feed = SwiGLU(c.width, c.hidden)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        rope: Float[Tensor, "two L K"],
        bias: Float[Tensor, "#B Q S"],
        ages: Int[Tensor, "#B #Q S"] | None,
        past: Kept | None,
        rows: Int[Tensor, " Q"] | None,
    ) -> tuple[Float[Tensor, "B Q D"], KeyValue]:
        """Return the tokens (only `rows` of them, if given) and all tokens' keys and values."""
        normed = self.norm_attention(x)
        if rows is None:
            queries, query_rope = normed, rope
        else:
            x, queries, query_rope = x[:, rows], normed[:, rows], rope[:, rows]
        attended, own = self.attention(normed, queries, rope, query_rope, bias, ages, past)
        x = x + attended
        return x + self.feed(self.norm_feed(x)), own


def _attention(c: DecoderConfig, ages: int) -> nn.Module:
    sharpness = c.scaling.sharpness if c.scaling is not None else 1.0
    if c.latent is not None:
        return LatentAttention(c.width, c.heads, c.latent, ages, sharpness)
    return Attention(
        c.width, c.heads, c.kv_heads, c.head_width, ages, qkv_bias=bool(c.qkv_bias),
        head_norm=c.norm_eps if c.head_norm else None, sharpness=sharpness,
    )  # fmt: skip


class Decoder(nn.Module):
    """A stack of blocks and a final norm."""

    def __init__(self, config: DecoderConfig, ages: int = 1) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, i, ages) for i in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        positions: Int[Tensor, " L"],
        mask: Bool[Tensor, "#B L S"],
        *,
        ages: Int[Tensor, "#B #L S"] | None = None,
        past: Sequence[Kept] | None = None,
        rows: Int[Tensor, " Q"] | None = None,
    ) -> tuple[Float[Tensor, "B Q D"], list[KeyValue]]:
        """Return normalised final states and per-layer keys and values of x.

        Args:
            x: New tokens.
            positions: Their rotary positions.
            mask: True where a new token may look, over past and new tokens.
            ages: Age of each key's frame; None where all are 0.
            past: Keys and values of earlier tokens, per layer; those of x are written behind them.
            rows: If given, only these tokens are wanted: the last block computes no others.
        """
        rope = rotary(positions, self.config.rope_width, self.config.theta, self.config.scaling)
        bias = as_bias(mask, torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else x.dtype)
        cache: list[KeyValue] = []
        for index, block in enumerate(self.blocks):
            wanted = rows if index == len(self.blocks) - 1 else None
            seen = bias if wanted is None else bias[:, wanted]
            aged = ages if wanted is None or ages is None or ages.shape[1] == 1 else ages[:, wanted]
            x, own = block(x, rope, seen, aged, None if past is None else past[index], wanted)
            cache.append(own)
        return self.norm(x), cache

    def states(
        self, x: Float[Tensor, "B L D"], positions: Int[Tensor, " L"], mask: Bool[Tensor, "#B L L"], layer: int
    ) -> Float[Tensor, "B L D"]:
        """Return the states after `layer` blocks, not normalised: what a reader takes from the middle."""
        rope = rotary(positions, self.config.rope_width, self.config.theta, self.config.scaling)
        bias = as_bias(mask, x.dtype)
        for block in self.blocks[:layer]:
            x, _ = block(x, rope, bias, None, None, None)
        return x
