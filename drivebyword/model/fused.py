"""A policy whose layers compute by `kernels`: a policy in, a copy with packed weights in one precision out.

What is fused: a norm with the product after it, a product with its activation or with the sum it ends in, positions
with the places keys are kept in, attention. What no kernel knows (latent attention, routers) stays PyTorch's around it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.model.attention import Attention, Kept, KeyValue, as_bias, rotary
from drivebyword.model.backbone import Block, Decoder
from drivebyword.model.experts import MixtureOfExperts, route
from drivebyword.model.kernels import GELU, PLAIN, SILU, attend, linear, mixture, pack, place
from drivebyword.model.layers import CrossAttention, EncoderBlock, SwiGLU
from drivebyword.model.policy import Policy
from drivebyword.model.ring import across


def fused(policy: Policy, precision: str) -> Policy:
    """Return the copy; the policy itself stays as it is.

    Args:
        policy: In float32.
        precision: One of `kernels.PRECISIONS`.
    """
    twin = copy.deepcopy(policy).eval().requires_grad_(False)
    exchange(twin, precision)
    return twin


def exchange(module: nn.Module, precision: str) -> None:
    """Exchange a module's layers, in place, for such as compute by kernels."""
    for name, child in module.named_children():
        made = _made(child, precision, name)
        if made is not None:
            setattr(module, name, made)
        else:
            exchange(child, precision)


def _made(module: nn.Module, precision: str, name: str = "") -> nn.Module | None:
    match module:
        case EncoderBlock():
            return _FusedEncoderBlock(module, precision)
        case CrossAttention():
            return _FusedCross(module, precision)
        case Decoder() if all(isinstance(b.attention, Attention) and not b.attention.norm_query for b in module.blocks):
            return _FusedDecoder(module, precision)
        case MixtureOfExperts() if module.routing.limit is None:
            return _FusedMixture(module, precision)
        case SwiGLU() if module.limit is None:
            return _FusedFeed(module, precision)
        case nn.Linear() if name != "router":
            return _FusedLinear(module, precision)
    return None


class _FusedLinear(nn.Module):
    def __init__(self, layer: nn.Linear, precision: str) -> None:
        super().__init__()
        self.packed = pack(layer.weight, layer.bias, precision)

    def forward(self, x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B N"]:
        return linear(x, self.packed)


class _FusedFeed(nn.Module):
    def __init__(self, feed: SwiGLU, precision: str) -> None:
        super().__init__()
        self.gate_up = pack(feed.gate_up.weight, None, precision, SILU)
        self.down = pack(feed.down.weight, None, precision)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return linear(linear(x, self.gate_up), self.down)


class _FusedMixture(nn.Module):
    """Routed as ever, in float32: near ties must not turn on rounding."""

    def __init__(self, given: MixtureOfExperts, precision: str) -> None:
        super().__init__()
        self.router, self.bias, self.routing, self.top = given.router, given.bias, given.routing, given.top
        self.shared = None if given.shared is None else _FusedFeed(given.shared, precision)
        self.experts = [
            (pack(e.gate_up.weight, None, precision, SILU), pack(e.down.weight, None, precision))
            for e in given.experts
            if isinstance(e, SwiGLU)
        ]

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        flat = x.reshape(-1, x.shape[-1])
        gate, chosen = route(flat, self.router.weight, self.bias, self.top, self.routing)
        base = torch.zeros_like(flat) if self.shared is None else self.shared(flat)
        return mixture(flat, base, gate.contiguous(), chosen, self.experts).reshape(x.shape)


class _FusedEncoderBlock(nn.Module):
    def __init__(self, block: EncoderBlock, precision: str) -> None:
        super().__init__()
        self.heads = block.heads
        self.norm_attention, self.norm_feed = block.norm_attention, block.norm_feed
        self.qkv, self.out, self.up, self.down = (
            pack(layer.weight, layer.bias, precision, kind)
            for layer, kind in ((block.qkv, PLAIN), (block.out, PLAIN), (block.up, GELU), (block.down, PLAIN))
        )

    def forward(self, x: Float[Tensor, "B L D"], bias: Float[Tensor, "#B #L L"]) -> Float[Tensor, "B L D"]:
        q, k, v = linear(x, self.qkv, norm=self.norm_attention).unflatten(-1, (3, self.heads, -1)).unbind(2)
        wide = bias.expand(len(x), x.shape[1], -1)
        x = linear(attend(q, k.transpose(1, 2), v.transpose(1, 2), wide), self.out, residual=x.contiguous())
        return linear(linear(x, self.up, norm=self.norm_feed), self.down, residual=x)


class _FusedCross(nn.Module):
    def __init__(self, cross: CrossAttention, precision: str) -> None:
        super().__init__()
        self.heads = cross.heads
        layers = (cross.query, cross.key_value, cross.out)
        self.query, self.key_value, self.out = (pack(layer.weight, layer.bias, precision) for layer in layers)

    def forward(
        self, x: Float[Tensor, "B Q D"], source: Float[Tensor, "B S Ds"], mask: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B Q D"]:
        q = linear(x, self.query).unflatten(-1, (self.heads, -1))
        k, v = linear(source, self.key_value).unflatten(-1, (2, self.heads, -1)).unbind(2)
        bias = as_bias(mask[:, None]).expand(-1, x.shape[1], -1)
        return linear(attend(q, k.transpose(1, 2), v.transpose(1, 2), bias), self.out)


class _FusedDecoder(nn.Module):
    """What all blocks have in common is worked out once a pass, and what is common to all passes once."""

    def __init__(self, decoder: Decoder, precision: str) -> None:
        super().__init__()
        self.config, self.norm = decoder.config, decoder.norm
        blocks = [block for block in decoder.blocks if isinstance(block, Block)]
        self.blocks = nn.ModuleList(_FusedBlock(block, precision) for block in blocks)
        biases = [F.pad(a, (1, 0)) for b in blocks if isinstance(a := getattr(b.attention, "age_bias", None), Tensor)]
        self.by_age = torch.stack(biases) if biases else None
        self._ropes: dict[tuple[int, ...], Float[Tensor, "two L K"]] = {}

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
        """See `Decoder`; ages are a key's, not a query's."""
        assert ages is None or ages.shape[1] == 1
        known, c = tuple(positions.tolist()), self.config
        if known not in self._ropes:
            self._ropes[known] = rotary(positions, c.rope_width, c.theta, c.scaling)
        rope, bias, cache = self._ropes[known], as_bias(mask).expand(len(x), -1, -1), []
        extra = None if ages is None or self.by_age is None else self.by_age[..., ages[:, 0]].transpose(1, 2)
        for index, block in enumerate(self.blocks):
            wanted = rows if index == len(self.blocks) - 1 else None
            seen = bias if wanted is None else bias[:, wanted]
            x, own = block(
                x, rope, seen, None if extra is None else extra[index], None if past is None else past[index], wanted
            )
            cache.append(own)
        return self.norm(x), cache


class _FusedBlock(nn.Module):
    """A decoder's block: six calls, or PyTorch's routing around the experts' four."""

    def __init__(self, block: Block, precision: str) -> None:
        super().__init__()
        a = block.attention
        assert isinstance(a, Attention)
        self.heads, self.kv_heads, self.width, self.sharpness = a.heads, a.kv_heads, a.head_width, a.sharpness
        query, key_value = a.query, a.key_value
        both = None if query.bias is None else torch.cat([query.bias, key_value.bias])
        self.qkv = pack(torch.cat([query.weight, key_value.weight]), both, precision)
        self.query, self.key_value, self.out = (
            pack(layer.weight, layer.bias, precision) for layer in (query, key_value, a.out)
        )
        self.norm_attention, self.norm_feed = block.norm_attention, block.norm_feed
        self.feed: nn.Module | None = None
        if isinstance(block.feed, SwiGLU) and block.feed.limit is None:
            self.gate_up = pack(block.feed.gate_up.weight, None, precision, SILU)
            self.down = pack(block.feed.down.weight, None, precision)
        else:
            self.feed = _made(block.feed, precision)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        rope: Float[Tensor, "two L K"],
        bias: Float[Tensor, "B Q S"],
        extra: Float[Tensor, "B N S"] | None,
        past: Kept | None,
        rows: Int[Tensor, " Q"] | None,
    ) -> tuple[Float[Tensor, "B Q D"], KeyValue]:
        batch, length, _ = x.shape
        start = 0 if past is None else past.at
        if past is None:
            shape = (batch, self.kv_heads, length, self.width)
            k, v = across(x.new_zeros, shape), x.new_empty(shape)
        else:
            k, v = past.keys[:, :, : start + length], past.values[:, :, : start + length]
        own = k[:, :, start:], v[:, :, start:]
        if rows is None:
            q = linear(x, self.qkv, norm=self.norm_attention)
            place(q, rope, self.heads, *own)
        else:
            place(linear(x, self.key_value, norm=self.norm_attention), rope, 0, *own)
            x = x[:, rows]
            q = linear(x, self.query, norm=self.norm_attention)
            nothing = q.new_empty(batch, 0, x.shape[1], self.width)
            place(q, rope[:, rows].contiguous(), self.heads, nothing, nothing)
        q = q[..., : self.heads * self.width].unflatten(-1, (self.heads, self.width))
        seen = attend(q, k, v, bias, extra, self.sharpness)
        x = linear(seen, self.out, residual=x.contiguous())
        if self.feed is not None:
            return x + self.feed(self.norm_feed(x)), own
        return linear(linear(x, self.gate_up, norm=self.norm_feed), self.down, residual=x), own
