"""The parts decoders and encoders are made of: norm, rotary positions, attention, feed-forward, experts.

In: token states `[B, L, D]`. Out: the same shape. Everything is plain PyTorch, so that it exports, and RMSNorm
is written by hand, because exporters do not know the fused one.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Part = TypeVar("Part", bound=nn.Module)
HIDDEN = -1e4
"""Added to the score of what may not be seen; finite, so that a row that sees nothing stays finite too."""
KeyValue = tuple[Tensor, Tensor]
"""Keys and values, each [B, kv heads, L, K]."""


class RMSNorm(nn.Module):
    """Scale to unit root mean square, times a learned weight."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return the normalised states."""
        x = x.float()
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def rotary(positions: Int[Tensor, " L"], width: int, theta: float) -> Float[Tensor, "two L K"]:
    """Return cosines and sines for a head of `width`, in the half-split order of Llama."""
    step = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angle = positions.float()[:, None] * theta**-step
    angle = torch.cat([angle, angle], dim=-1)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Float[Tensor, "B N L K"], rope: Float[Tensor, "two L K"]) -> Float[Tensor, "B N L K"]:
    """Turn queries or keys by their positions."""
    cos, sin = rope.to(x.dtype)
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


def attend(
    q: Float[Tensor, "B N Q K"],
    k: Float[Tensor, "B N S K"],
    v: Float[Tensor, "B N S K"],
    bias: Float[Tensor, "#B #N #Q S"],
) -> Float[Tensor, "B Q width"]:
    """Return softmax(q k' / sqrt(K) + bias) v with heads joined.

    Two batched products and a softmax: on CPUs in bfloat16 the backward pass of PyTorch's fused attention takes
    five to seven times as long as this (measured at 76 to 220 tokens), and it gives a bias no gradient.
    """
    batch, heads, length, width = q.shape
    with torch.autocast(q.device.type, enabled=False):
        spread = bias.to(q.dtype).expand(batch, heads, length, -1).flatten(0, 1)
        k, v = k.to(q.dtype).flatten(0, 1), v.to(q.dtype).flatten(0, 1)
        scores = torch.baddbmm(spread, q.flatten(0, 1), k.transpose(1, 2), alpha=width**-0.5)
        y = torch.bmm(scores.softmax(-1), v)
    return y.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)


def as_bias(mask: Bool[Tensor, "*B"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*B"]:
    """Return 0 where a token may look, and elsewhere a number so low that the softmax is exactly 0."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, HIDDEN)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions and, on request, a bias per head and frame age."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_width: int, ages: int = 1) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * kv_heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)
        # Age 0 needs no bias: only differences count.
        self.age_bias = nn.Parameter(torch.zeros(heads, ages - 1)) if ages > 1 else None

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        queries: Float[Tensor, "B Q D"],
        rope: Float[Tensor, "two L K"],
        query_rope: Float[Tensor, "two Q K"],
        bias: Float[Tensor, "#B Q S"],
        ages: Int[Tensor, "Q S"] | None,
        past: KeyValue | None,
    ) -> tuple[Float[Tensor, "B Q D"], KeyValue]:
        """Attend from `queries` to `past` and `x`; return the result and x's own keys and values.

        Args:
            x: New tokens.
            queries: The rows of x that ask (x itself, or fewer in the last layer).
            rope: Positions of x.
            query_rope: Positions of the queries.
            bias: From `as_bias`, over past and new tokens.
            ages: Age of each key's frame; None where all are 0.
            past: Keys and values of earlier tokens.
        """
        q = rotate(self._split(self.query(queries), self.heads), query_rope)
        k, v = self.key_value(x).chunk(2, dim=-1)
        own = rotate(self._split(k, self.kv_heads), rope), self._split(v, self.kv_heads)
        k, v = own if past is None else (torch.cat([past[0], own[0]], 2), torch.cat([past[1], own[1]], 2))
        group = self.heads // self.kv_heads
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        spread = bias[:, None]
        if ages is not None and self.age_bias is not None:
            spread = spread + F.pad(self.age_bias, (1, 0))[:, ages].to(bias.dtype)
        return self.out(attend(q, k, v, spread)), own

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)


class SwiGLU(nn.Module):
    """Gated feed-forward."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return down(silu(gate) * up)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class _Reorder(torch.autograd.Function):
    """Rows in another order; the gradient takes the way back, a gather instead of a slow scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return gradients[0].index_select(0, back), None, None


def _reorder(x: Tensor, order: Tensor, back: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return _Reorder.apply(x, order, back)  # type: ignore[no-any-return]
    return x.index_select(0, order)


class MixtureOfExperts(nn.Module):
    """A shared expert and routed ones, balanced by a bias on the router instead of an extra loss (DeepSeek).

    Affinities are sigmoids; the bias takes part in choosing only. In training each forward pass moves it by
    `balance_rate` towards the experts that got too little.
    """

    bias: Tensor

    def __init__(
        self, width: int, hidden: int, shared_hidden: int, experts: int, top: int, balance_rate: float = 1e-3
    ) -> None:
        super().__init__()
        self.top, self.balance_rate = top, balance_rate
        self.router = nn.Linear(width, experts, bias=False)
        self.register_buffer("bias", torch.zeros(experts))
        self.shared = SwiGLU(width, shared_hidden)
        self.experts = nn.ModuleList(SwiGLU(width, hidden) for _ in range(experts))

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return shared(x) + sum of gate * expert(x) over the chosen experts."""
        flat = x.reshape(-1, x.shape[-1])
        with torch.autocast(x.device.type, enabled=False):  # near ties must not turn on rounding
            affinity = torch.sigmoid(F.linear(flat.float(), self.router.weight))
        chosen = (affinity.detach() + self.bias).topk(self.top, dim=-1).indices
        gate = affinity.gather(1, chosen)
        if self.top > 1:
            gate = gate / gate.sum(-1, keepdim=True)
        load = torch.bincount(chosen.flatten(), minlength=len(self.experts))
        if self.training and torch.is_grad_enabled():
            self.bias += self.balance_rate * (load.float().mean() - load).sign()
        # Tokens sorted by expert: one gather in, two matrix products per expert, one gather out.
        order = chosen.flatten().argsort(stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        if torch.is_autocast_enabled(x.device.type):
            flat = flat.to(torch.get_autocast_dtype(x.device.type))
        sorted_tokens = _reorder(flat.repeat_interleave(self.top, 0) if self.top > 1 else flat, order, back)
        parts = sorted_tokens.split(load.tolist())
        done = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True) if len(part)])
        routed = _reorder(done, back, order) * gate.to(done.dtype).reshape(-1, 1)
        mixed = routed.unflatten(0, (-1, self.top)).sum(1) if self.top > 1 else routed
        return self.shared(x) + mixed.reshape(x.shape)


def halve(module: Part) -> Part:
    """Keep the matrices in bfloat16, for passes under autocast; routers stay exact."""
    routers = {id(part.router) for part in module.modules() if isinstance(part, MixtureOfExperts)}
    for part in module.modules():
        if isinstance(part, nn.Linear) and id(part) not in routers:
            part.to(torch.bfloat16)
    return module


class EncoderBlock(nn.Module):
    """One block of the sensor encoders: full attention within a set of tokens, then a feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed = RMSNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "B L D"], bias: Float[Tensor, "#B #L L"]) -> Float[Tensor, "B L D"]:
        """Return the refined tokens; `bias` is from `as_bias`."""
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attend(q, k, v, bias[:, None]))
        return x + self.down(F.gelu(self.up(self.norm_feed(x)), approximate="tanh"))


class CrossAttention(nn.Module):
    """Attention from one set of tokens to another; its map can be read."""

    def __init__(self, width: int, heads: int, source_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(source_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B Q D"], source: Float[Tensor, "B S Ds"], mask: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B Q D"]:
        """Return what each token of x reads from the source; masked source tokens are not read."""
        q, k, v = self._project(x, source)
        return self.out(attend(q, k, v, as_bias(mask[:, None, None])))

    def map(
        self, x: Float[Tensor, "B Q D"], source: Float[Tensor, "B S Ds"], mask: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B Q S"]:
        """Return how much each token of x looks at each source token, averaged over heads; rows sum to 1."""
        q, k, _ = self._project(x, source)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1).mean(1)

    def _project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v
