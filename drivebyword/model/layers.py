"""The blocks sensor encoders are made of, and the feed-forward they share with the decoder.

In: token states `[B, L, D]`. Out: the same shape. Everything is plain PyTorch, so that it exports.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.model.attention import as_bias, attend
from drivebyword.model.norm import RMSNorm


class _Gated(torch.autograd.Function):
    """silu(gate) * up of both side by side, whose gradient is written side by side in one go."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, dim=-1)
        found = torch.empty_like(both)
        first, second = found.chunk(2, dim=-1)
        torch.mul(gradients[0], F.silu(gate), out=second)
        torch.ops.aten.silu_backward.grad_input(gradients[0] * up, gate, grad_input=first)
        return found


class SwiGLU(nn.Module):
    """Gated feed-forward."""

    def __init__(self, width: int, hidden: int, limit: float | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return down(silu(gate) * up); with a limit, gate and up are cut off at it (DeepSeek-V4)."""
        return self.down(self.activate(self.gate_up(x)))

    def activate(self, both: Float[Tensor, "*B twoH"]) -> Float[Tensor, "*B H"]:
        """Return silu(gate) * up of both, side by side."""
        gate, up = both.chunk(2, dim=-1)
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return _Gated.apply(both) if torch.is_grad_enabled() and self.limit is None else F.silu(gate) * up


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
