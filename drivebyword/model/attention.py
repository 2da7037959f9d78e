"""Attention: rotary positions, grouped queries, and DeepSeek's latent keys and values.

In: token states `[B, L, D]` and what may be seen. Out: the same shape, and what later tokens need of these: keys and
values per head, or, in latent attention, the compressed pair both are made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.model.norm import RMSNorm

HIDDEN = -1e4
"""Added to the score of what may not be seen; finite, so that a row that sees nothing stays finite too."""
KeyValue = tuple[Tensor, Tensor]
"""What is kept of tokens: keys and values, each [B, kv heads, L, K]; latent attention keeps [B, 1, L, rank] and the
rotary part of the keys, [B, 1, L, R]."""


class Kept(NamedTuple):
    """One layer's keys and values of known tokens, and places for new ones behind them."""

    keys: Tensor
    """[B, G, S, K], as `KeyValue` has them."""
    values: Tensor
    at: int
    """Tokens known: new ones are written from here on."""

    def write(self, own: KeyValue) -> KeyValue:
        """Write new tokens' keys and values where they belong; return all up to theirs."""
        end = self.at + own[0].shape[2]
        if torch.onnx.is_in_onnx_export():  # a graph writes nothing into what it is given
            return (
                torch.cat([self.keys[:, :, : self.at], own[0]], 2),
                torch.cat([self.values[:, :, : self.at], own[1]], 2),
            )
        self.keys[:, :, self.at : end], self.values[:, :, self.at : end] = own
        return self.keys[:, :, :end], self.values[:, :, :end]


# --------------------------------------------------------------------------- rotary positions


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the length a language model was trained with."""

    kind: str
    """linear (all alike), llama3 (long waves only, Llama 3.1) or yarn (arXiv 2309.00071)."""
    factor: float
    original: int = 0
    """Positions it was trained with."""
    slow: float = 1.0
    """Turns over `original` positions below which a frequency is divided by `factor`."""
    fast: float = 32.0
    """Turns above which it is left alone; between both it is blended."""
    amplitude: float = 1.0
    """Of cosines and sines."""
    sharpness: float = 1.0
    """Factor on attention scores."""
    whole: bool = True
    """yarn: blend between whole dimensions."""

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "llama3", "yarn"):
            raise ValueError(f"rope scaling {self.kind!r} is unknown: linear, llama3 or yarn")


def frequencies(width: int, theta: float, scaling: RopeScaling | None = None) -> Float[Tensor, " half"]:
    """Return radians a position of every pair of a head of `width`."""
    step = theta ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    if scaling is None:
        return step
    s = scaling
    if s.kind == "linear":
        return step / s.factor
    if s.kind == "llama3":
        turns = s.original * step / (2 * pi)
        kept = ((turns - s.slow) / (s.fast - s.slow)).clamp(0.0, 1.0)
    else:
        ends = [width * log(s.original / (turns * 2 * pi)) / (2 * log(theta)) for turns in (s.fast, s.slow)]
        low, high = (float(int(ends[0] // 1)), float(-int(-ends[1] // 1))) if s.whole else ends
        low, high = max(low, 0.0), min(high, width - 1.0)
        ramp = (torch.arange(width // 2, dtype=torch.float32) - low) / max(high - low, 1e-3)
        kept = 1.0 - ramp.clamp(0.0, 1.0)
    return step / s.factor * (1.0 - kept) + step * kept


def rotary(
    positions: Int[Tensor, " L"], width: int, theta: float, scaling: RopeScaling | None = None
) -> Float[Tensor, "two L K"]:
    """Return cosines and sines for a head of `width`, in the half-split order of Llama."""
    angle = positions.float()[:, None] * frequencies(width, theta, scaling).to(positions.device)
    angle = torch.cat([angle, angle], dim=-1)
    turn = torch.stack([angle.cos(), angle.sin()])
    return turn if scaling is None else turn * scaling.amplitude


def rotate(x: Float[Tensor, "B N L K"], rope: Float[Tensor, "two L K"]) -> Float[Tensor, "B N L K"]:
    """Turn queries or keys by their positions."""
    cos, sin = rope.to(x.dtype)
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


# --------------------------------------------------------------------------- attending


def attend(
    q: Float[Tensor, "B N Q K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S V"],
    bias: Float[Tensor, "#B #N #Q S"],
    sharpness: float = 1.0,
) -> Float[Tensor, "B Q width"]:
    """Return softmax(sharpness q k' / sqrt(K) + bias) v with heads joined; N / G heads share a key and its value.

    Heads that share are rows of one product, so that keys are not copied for each of them.
    Two batched products and a softmax: on CPUs in bfloat16 the backward pass of PyTorch's fused attention takes
    five to seven times as long as this (measured at 76 to 220 tokens), and it gives a bias no gradient.
    """
    batch, heads, length, width = q.shape
    with torch.autocast(q.device.type, enabled=False):
        rows = (batch * k.shape[1], heads // k.shape[1] * length)
        spread = bias.to(q.dtype).expand(batch, heads, length, -1).reshape(*rows, -1)
        k, v = k.to(q.dtype).flatten(0, 1), v.to(q.dtype).flatten(0, 1)
        scores = torch.baddbmm(spread, q.reshape(*rows, width), k.transpose(1, 2), alpha=sharpness * width**-0.5)
        y = torch.bmm(scores.softmax(-1), v)
    return y.view(batch, heads, length, -1).transpose(1, 2).flatten(2)


def as_bias(mask: Bool[Tensor, "*B"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*B"]:
    """Return 0 where a token may look, and elsewhere a number so low that the softmax is exactly 0."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, HIDDEN)


class _Aged(nn.Module):
    """What both kinds of attention share: a bias per head and frame age, on request."""

    def __init__(self, heads: int, ages: int) -> None:
        super().__init__()
        self.heads = heads
        # Age 0 needs no bias: only differences count.
        self.age_bias = nn.Parameter(torch.zeros(heads, ages - 1)) if ages > 1 else None

    def spread(self, bias: Float[Tensor, "#B Q S"], ages: Int[Tensor, "#B #Q S"] | None) -> Float[Tensor, "#B #N Q S"]:
        """Return the bias of every head."""
        if ages is None or self.age_bias is None:
            return bias[:, None]
        return bias[:, None] + self.by_age(ages).to(bias.dtype)

    def by_age(self, ages: Int[Tensor, "#B #Q S"]) -> Float[Tensor, "#B N #Q S"]:
        """Return what every head adds for the age of a key's frame."""
        assert self.age_bias is not None
        return F.pad(self.age_bias, (1, 0))[:, ages].transpose(0, 1)


def _split(x: Float[Tensor, "B L D"], heads: int) -> Float[Tensor, "B N L K"]:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Attention(_Aged):
    """Grouped-query attention with rotary positions.

    `qkv_bias` is Qwen2's, `head_norm` (a norm of every query and key before they turn) is Qwen3's.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        ages: int = 1,
        *,
        qkv_bias: bool = False,
        head_norm: float | None = None,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__(heads, ages)
        self.kv_heads, self.head_width, self.sharpness = kv_heads, head_width, sharpness
        self.query = nn.Linear(width, heads * head_width, bias=qkv_bias)
        self.key_value = nn.Linear(width, 2 * kv_heads * head_width, bias=qkv_bias)
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.norm_query = RMSNorm(head_width, head_norm) if head_norm is not None else None
        self.norm_key = RMSNorm(head_width, head_norm) if head_norm is not None else None

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        queries: Float[Tensor, "B Q D"],
        rope: Float[Tensor, "two L K"],
        query_rope: Float[Tensor, "two Q K"],
        bias: Float[Tensor, "#B Q S"],
        ages: Int[Tensor, "#B #Q S"] | None,
        past: Kept | None,
    ) -> tuple[Float[Tensor, "B Q D"], KeyValue]:
        """Attend from `queries` to `past` and `x`; return the result and x's own keys and values, now in `past` too.

        Args:
            x: New tokens.
            queries: The rows of x that ask (x itself, or fewer in the last layer).
            rope: Positions of x.
            query_rope: Positions of the queries.
            bias: From `as_bias`, over past and new tokens.
            ages: Age of each key's frame; None where all are 0.
            past: Keys and values of earlier tokens.
        """
        q = _split(self.query(queries), self.heads)
        k, v = (_split(part, self.kv_heads) for part in self.key_value(x).chunk(2, dim=-1))
        if self.norm_query is not None and self.norm_key is not None:
            q, k = self.norm_query(q).to(q.dtype), self.norm_key(k).to(k.dtype)
        own = rotate(k, rope), v
        k, v = own if past is None else past.write(own)
        return self.out(attend(rotate(q, query_rope), k, v, self.spread(bias, ages), self.sharpness)), own


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """Sizes of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""

    rank: int
    """Width of the pair keys and values are made from."""
    query_rank: int | None = None
    """Width queries are squeezed through; None: not squeezed."""
    plain_width: int = 128
    """Part of a head's queries and keys that knows no position."""
    rope_width: int = 64
    """Part that turns; all heads share these of the keys."""
    value_width: int = 128


class LatentAttention(_Aged):
    """Attention whose keys and values are made anew from a narrow latent, which is all that is kept of a token."""

    def __init__(self, width: int, heads: int, latent: LatentConfig, ages: int = 1, sharpness: float = 1.0) -> None:
        super().__init__(heads, ages)
        self.latent, self.sharpness = latent, sharpness
        asked = heads * (latent.plain_width + latent.rope_width)
        squeezed = latent.query_rank is not None
        self.squeeze = nn.Linear(width, latent.query_rank, bias=False) if latent.query_rank is not None else None
        self.norm_query = RMSNorm(latent.query_rank, 1e-6) if latent.query_rank is not None else None
        self.query = nn.Linear(latent.query_rank if squeezed and latent.query_rank else width, asked, bias=False)
        self.compress = nn.Linear(width, latent.rank + latent.rope_width, bias=False)
        self.norm_latent = RMSNorm(latent.rank, 1e-6)
        self.key_value = nn.Linear(latent.rank, heads * (latent.plain_width + latent.value_width), bias=False)
        self.out = nn.Linear(heads * latent.value_width, width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        queries: Float[Tensor, "B Q D"],
        rope: Float[Tensor, "two L R"],
        query_rope: Float[Tensor, "two Q R"],
        bias: Float[Tensor, "#B Q S"],
        ages: Int[Tensor, "#B #Q S"] | None,
        past: Kept | None,
    ) -> tuple[Float[Tensor, "B Q D"], KeyValue]:
        """Attend as `Attention` does; what is kept of x is its latent and the turned part of its keys."""
        c = self.latent
        if self.squeeze is not None and self.norm_query is not None:
            queries = self.norm_query(self.squeeze(queries))
        plain, turning = _split(self.query(queries), self.heads).split([c.plain_width, c.rope_width], dim=-1)
        q = torch.cat([plain, rotate(turning, query_rope)], dim=-1)
        narrow, shared = self.compress(x).split([c.rank, c.rope_width], dim=-1)
        own = self.norm_latent(narrow)[:, None].to(q.dtype), rotate(shared[:, None], rope).to(q.dtype)
        latent, turned = own if past is None else past.write(own)
        k, v = _split(self.key_value(latent[:, 0]), self.heads).split([c.plain_width, c.value_width], dim=-1)
        k = torch.cat([k, turned.to(k.dtype).expand(-1, self.heads, -1, -1)], dim=-1)
        return self.out(attend(q, k, v, self.spread(bias, ages), self.sharpness)), own
