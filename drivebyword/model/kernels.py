"""Matrix products, rotary positions and attention for few tokens on one core: C++ where a compiler and AVX-512 are.

In: float32 states and weights as `pack` lays them out. Out: float32 states. Weights and activations meet as float32,
bfloat16 or 8-bit integers; in 8 bits every row of activations has its own scale, so a token's value never hangs on the
others. The C++ (`kernels_cpp`) is compiled on first use and kept; elsewhere PyTorch computes the same, slower.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.places import cache_folder
from drivebyword.model import attention
from drivebyword.model.attention import Kept, rotate
from drivebyword.model.experts import MixtureOfExperts, RoutingConfig, route
from drivebyword.model.layers import SwiGLU
from drivebyword.model.norm import RMSNorm

PRECISIONS = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Bytes a number."""
PLAIN, SILU, GELU = range(3)
"""What follows a product: nothing, silu(gate) * up, or GELU in its tanh form."""
LANES = 16


class Packed(NamedTuple):
    """A matrix as the product wants it, with what belongs to it."""

    weight: Tensor
    """For C++, blocks of 16 columns; of each, groups of four bytes of every column: one, two or four numbers along the
    input. For PyTorch, [N, K]."""
    scale: Float[Tensor, " N"]
    bias: Float[Tensor, " N"] | None
    precision: int
    """Bytes a number."""
    kind: int
    columns: int
    """Outputs."""
    laid: bool
    """Whether it is laid out for C++."""


def pack(
    weight: Float[Tensor, "N K"], bias: Tensor | None, precision: str, kind: int = PLAIN, laid: bool | None = None
) -> Packed:
    """Pack a linear layer. With SILU the upper half of its outputs are gates, the lower are ups.

    Args:
        weight: A row an output.
        bias: Or none.
        precision: One of PRECISIONS.
        kind: What follows the product.
        laid: For C++; None: where there is C++.
    """
    laid, size, rows = compiled() if laid is None else laid, PRECISIONS[precision], len(weight)
    weight, bias = weight.detach().float(), None if bias is None else bias.detach().float()
    columns = rows // 2 if kind == SILU else rows
    if laid:
        if kind == SILU:  # blocks of gates and of ups in turn
            halves = F.pad(weight.unflatten(0, (2, -1)), (0, 0, 0, -columns % LANES))
            weight = halves.unflatten(1, (-1, LANES)).transpose(0, 1).flatten(0, 2)
        weight = F.pad(weight, (0, -weight.shape[1] % (4 // size), 0, -len(weight) % LANES))
    scale, numbers = torch.ones(len(weight)), weight
    if precision == "int8":
        scale = weight.abs().amax(1) / 127.0
        numbers = (weight / scale.clamp(min=1e-30)[:, None]).round().to(torch.int8)
    elif precision == "bfloat16":
        numbers = weight.to(torch.bfloat16)
    if laid:
        if precision == "int8":
            numbers = numbers.to(torch.int16).add(128).to(torch.uint8)
        cut = numbers.unflatten(0, (-1, LANES)).unflatten(2, (-1, 4 // size)).transpose(1, 2).contiguous()
        numbers = cut.view(torch.uint8).reshape(len(weight) // LANES, -1, 4 * LANES)
        bias = None if bias is None else F.pad(bias, (0, len(weight) - len(bias)))
    return Packed(numbers, scale, bias, size, kind, columns, laid)


class Experts(NamedTuple):
    """A mixture of experts, packed; routed in float32, because near ties must not turn on rounding."""

    router: Packed
    weight: Float[Tensor, "E D"]
    """The router's."""
    bias: Float[Tensor, " E"]
    top: int
    how: RoutingConfig
    shared: tuple[Packed, Packed] | None
    pairs: list[tuple[Packed, Packed]]
    """Every expert's gate and up in one, and down."""
    ups: list[Tensor]
    """Weights and scales of the pairs, in turn."""
    downs: list[Tensor]


def pack_experts(given: MixtureOfExperts, precision: str, laid: bool | None = None) -> Experts:
    """Pack a mixture of experts."""

    def both(feed: nn.Module) -> tuple[Packed, Packed]:
        assert isinstance(feed, SwiGLU)
        return pack(feed.gate_up.weight, None, precision, SILU, laid), pack(
            feed.down.weight, None, precision, laid=laid
        )

    pairs = [both(expert) for expert in given.experts]
    ups, downs = ([part for pair in pairs for part in pair[k][:2]] for k in (0, 1))
    weight = given.router.weight.detach()
    return Experts(
        pack(weight, None, "float32", laid=laid), weight, given.bias, given.top, given.routing,
        None if given.shared is None else both(given.shared), pairs, ups, downs,
    )  # fmt: skip


@functools.cache
def compiled() -> bool:
    """Return whether the C++ is there: compiled now if it must be, and fit for this processor."""
    capable = torch.backends.cpu.get_cpu_capability() == "AVX512"
    if not capable or shutil.which("ninja") is None or shutil.which("c++") is None:
        return False
    from torch.utils.cpp_extension import load

    sources = sorted((Path(__file__).parent / "kernels_cpp").iterdir())
    content = b"".join(source.read_bytes() for source in sources)
    folder = cache_folder("kernels") / hashlib.sha256(content + torch.__version__.encode()).hexdigest()[:20]
    folder.mkdir(parents=True, exist_ok=True)
    files = [str(source) for source in sources if source.suffix == ".cpp"]
    load("kernels", files, extra_cflags=["-O3"], is_python_module=False, build_directory=str(folder))
    return bool(torch.ops.drivebyword.supported())


# --------------------------------------------------------------------------- what is computed


def linear(
    x: Float[Tensor, "*B K"],
    packed: Packed,
    *,
    norm: RMSNorm | None = None,
    residual: Float[Tensor, "*B N"] | None = None,
) -> Float[Tensor, "*B N"]:
    """Return residual + kind(normalised(x) W' + bias)."""
    weight, eps = (None, 0.0) if norm is None else (norm.weight, norm.eps)
    p = packed
    if p.laid:
        return torch.ops.drivebyword.linear(  # type: ignore[no-any-return]
            x, p.weight, p.scale, p.bias, weight, eps, p.precision, p.kind, p.columns, residual
        )
    x = x if norm is None else norm(x)
    if p.precision == 1:
        most = x.abs().amax(-1, keepdim=True)
        numbers = (x * torch.where(most > 0, 127.0 / most, 0.0)).round().to(torch.int8)
        sums = torch._int_mm(numbers.reshape(-1, x.shape[-1]), p.weight.T).float().unflatten(0, x.shape[:-1])
        y = sums * (most / 127.0 * p.scale)
    else:
        y = (x.to(p.weight.dtype) @ p.weight.T).float()
    y = y if p.bias is None else y + p.bias
    if p.kind == SILU:
        gate, up = y.chunk(2, dim=-1)
        y = F.silu(gate) * up
    elif p.kind == GELU:
        y = F.gelu(y, approximate="tanh")
    return y if residual is None else y + residual


def mixture(x: Float[Tensor, "B L D"], norm: RMSNorm, experts: Experts) -> Float[Tensor, "B L D"]:
    """Return x + shared(x) + the sum over every token's chosen experts of gate * expert(x), all on the normalised x."""
    e, how = experts, experts.how
    if e.pairs[0][0].laid and how.scores == "sigmoid" and how.groups == 1:
        up = e.pairs[0][0]
        return torch.ops.drivebyword.mixture(  # type: ignore[no-any-return]
            x, norm.weight, norm.eps, e.router[:2], e.bias, e.top, how.shares, how.scale,
            [] if e.shared is None else [*e.shared[0][:2], *e.shared[1][:2]],
            0 if e.shared is None else e.shared[0].columns, e.ups, e.downs, up.columns, up.precision,
        )  # fmt: skip
    normed = norm(x).flatten(0, 1)
    gate, chosen = route(normed, e.weight, e.bias, e.top, how)
    y = (
        x.flatten(0, 1).clone()
        if e.shared is None
        else linear(linear(x, e.shared[0], norm=norm), e.shared[1], residual=x)
    )
    y = y.reshape(normed.shape)
    for number, (up, down) in enumerate(e.pairs):
        rows, place = (chosen == number).nonzero(as_tuple=True)
        if len(rows):
            y.index_add_(0, rows, linear(linear(normed[rows], up), down) * gate[rows, place, None])
    return y.reshape(x.shape)


def look_back(
    x: Float[Tensor, "B L D"],
    norm: RMSNorm,
    qkv: Packed,
    out: Packed,
    heads: int,
    rope: Float[Tensor, "two L K"],
    bias: Float[Tensor, "B Q S"],
    extra: Float[Tensor, "B N S"] | None,
    kept: Kept,
    sharpness: float = 1.0,
) -> Float[Tensor, "B Q D"]:
    """Return x + attention(normalised(x)) of the last Q tokens; the new keys and values are put in their places."""
    wanted, width = bias.shape[1], kept.keys.shape[3]
    if qkv.laid and width % LANES == 0:
        return torch.ops.drivebyword.look_back(  # type: ignore[no-any-return]
            x, [qkv.weight, qkv.scale, out.weight, out.scale], qkv.bias, norm.weight, norm.eps, rope, bias, extra,
            kept.keys, kept.values, kept.at, heads, wanted, sharpness * width**-0.5, qkv.precision,
        )  # fmt: skip
    rows, known = linear(x, qkv, norm=norm), kept.at + x.shape[1]
    new = slice(kept.at, known)
    place(rows, rope, heads, kept.keys[:, :, new], kept.values[:, :, new])
    q = rows[:, -wanted:, : heads * width].unflatten(-1, (heads, width))
    seen = attend(q, kept.keys[:, :, :known], kept.values[:, :, :known], bias, extra, sharpness)
    return linear(seen, out, residual=x[:, -wanted:].contiguous())


def place(
    qkv: Float[Tensor, "B L W"],
    rope: Float[Tensor, "two L K"] | None,
    heads: int,
    keys: Float[Tensor, "B G L K"],
    values: Float[Tensor, "B G L K"],
) -> None:
    """Turn queries where they lie in `qkv`, and write its keys, turned, and its values where they are kept."""
    if compiled():
        torch.ops.drivebyword.place(qkv, rope, heads, keys, values)
        return
    groups, width = keys.shape[1], keys.shape[3]
    parts = qkv.unflatten(-1, (-1, width)).transpose(1, 2)
    if rope is not None:
        parts[:, : heads + groups] = rotate(parts[:, : heads + groups], rope)
    keys.copy_(parts[:, heads : heads + groups])
    values.copy_(parts[:, heads + groups :])


def attend(
    q: Float[Tensor, "B Q N K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S K"],
    bias: Float[Tensor, "B Q S"],
    extra: Float[Tensor, "B N S"] | None = None,
    sharpness: float = 1.0,
) -> Float[Tensor, "B Q W"]:
    """Return softmax(sharpness q k' / sqrt(K) + bias + extra) v with heads joined; all may be strided."""
    if compiled() and q.shape[-1] % LANES == 0:
        factor = sharpness * q.shape[-1] ** -0.5
        return torch.ops.drivebyword.attend(q, k, v, bias, extra, factor)  # type: ignore[no-any-return]
    wide = bias[:, None] if extra is None else bias[:, None] + extra[:, :, None]
    return attention.attend(q.transpose(1, 2), k, v, wide, sharpness)
