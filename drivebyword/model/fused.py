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
from drivebyword.model.experts import MixtureOfExperts
from drivebyword.model.kernels import GELU, PLAIN, SILU, attend, linear, look_back, mixture, pack, pack_experts
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
        """See `Decoder`; ages are a key's, not a query's; rows are the last ones; returned are whole rows of keys."""
        assert ages is None or ages.shape[1] == 1
        assert rows is None or int(rows[0]) + len(rows) == x.shape[1]
        known, c = tuple(positions.tolist()), self.config
        if known not in self._ropes:
            self._ropes[known] = rotary(positions, c.rope_width, c.theta, c.scaling)
        rope, bias, cache = self._ropes[known], as_bias(mask).expand(len(x), -1, -1), []
        extra = None if ages is None or self.by_age is None else self.by_age[..., ages[:, 0]].transpose(1, 2)
        for index, block in enumerate(self.blocks):
            seen = bias if rows is None or index < len(self.blocks) - 1 else bias[:, -len(rows) :]
            x, own = block(
                x, rope, seen, None if extra is None else extra[index], None if past is None else past[index]
            )
            cache.append(own)
        return self.norm(x), cache


class _FusedBlock(nn.Module):
    """A decoder's block in two or three calls."""

    def __init__(self, block: Block, precision: str) -> None:
        super().__init__()
        a = block.attention
        assert isinstance(a, Attention)
        self.heads, self.kv_heads, self.width, self.sharpness = a.heads, a.kv_heads, a.head_width, a.sharpness
        layers = (a.query, a.key_value)
        both = None if a.query.bias is None else torch.cat([layer.bias for layer in layers])
        self.qkv = pack(torch.cat([layer.weight for layer in layers]), both, precision)
        self.out = pack(a.out.weight, None, precision)
        self.norm_attention, self.norm_feed = block.norm_attention, block.norm_feed
        self.feed = self.experts = self.dense = None
        feed = block.feed
        if _limited(feed):
            self.feed = feed
            exchange(feed, precision)
        elif isinstance(feed, MixtureOfExperts):
            self.experts = pack_experts(feed, precision)
        elif isinstance(feed, SwiGLU):
            self.dense = pack(feed.gate_up.weight, None, precision, SILU), pack(feed.down.weight, None, precision)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        rope: Float[Tensor, "two L K"],
        bias: Float[Tensor, "B Q S"],
        extra: Float[Tensor, "B N S"] | None,
        past: Kept | None,
    ) -> tuple[Float[Tensor, "B Q D"], KeyValue]:
        if past is None:
            shape = (len(x), self.kv_heads, x.shape[1], self.width)
            past = Kept(across(x.new_zeros, shape), x.new_empty(shape), 0)
        x = look_back(
            x, self.norm_attention, self.qkv, self.out, self.heads, rope, bias, extra, past, self.sharpness
        )  # fmt: skip
        if self.experts is not None:
            y = mixture(x, self.norm_feed, self.experts)
        elif self.dense is not None:
            y = linear(linear(x, self.dense[0], norm=self.norm_feed), self.dense[1], residual=x)
        else:
            assert self.feed is not None
            y = x + self.feed(self.norm_feed(x))
        return y, (past.keys, past.values)


def _limited(feed: nn.Module) -> bool:
    """Return whether gates and ups are cut off, which no kernel does."""
    return (feed.routing.limit if isinstance(feed, MixtureOfExperts) else feed.limit) is not None
