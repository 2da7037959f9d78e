"""How our decoder's tensors are made from a file's: an architecture in, a plan out.

A plan names, for each of our tensors, the tensors of the file it is made from, and how. It holds no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from drivebyword.model.architectures import EMBEDDING, HEAD, PARTLY, Architecture
from drivebyword.model.backbone import DecoderConfig


@dataclass(frozen=True, kw_only=True)
class Source:
    """What one of our tensors is made from."""

    names: tuple[str, ...]
    make: Callable[[list[Tensor]], Tensor]
    how: str
    """taken (as it is) or reshaped (joined, cut or put in another order: the same numbers)."""


def plan(found: Architecture, stacked: bool) -> dict[str, Source]:
    """Return the source of each of our tensors; those without one are new.

    Args:
        found: The file's architecture.
        stacked: Whether all experts of a block lie in one tensor (GGUF).
    """
    c, n = found.decoder, found.names
    sources = {EMBEDDING: _as_is(n[EMBEDDING]), "norm.weight": _as_is(n["norm"])}
    if not found.tied:
        sources[HEAD] = _as_is(n[HEAD])
    for i in range(c.layers):
        here = {part: name.replace("{i}", str(i)) for part, name in n.items()}
        block = {"norm_attention.weight": _as_is(here["norm_attention"]), "norm_feed.weight": _as_is(here["norm_feed"])}
        if found.kind not in PARTLY:
            block |= _latent(c, here, found.interleaved) if c.latent else _grouped(c, here, found.interleaved)
        block |= _experts(found, here, stacked) if c.experts and i >= c.moe_from else _dense(here, "feed", "")
        sources |= {f"blocks.{i}.{name}": source for name, source in block.items()}
    return sources


def _as_is(name: str) -> Source:
    return Source(names=(name,), make=lambda parts: parts[0], how="taken")


def _join(*names: str) -> Source:
    return Source(names=names, make=torch.cat, how="reshaped")


def _cut(expert: int, *names: str) -> Source:
    """Return one expert's rows of stacked tensors, joined."""
    return Source(names=names, make=lambda parts: torch.cat([part[expert] for part in parts]), how="reshaped")


def _dense(here: Mapping[str, str], ours: str, theirs: str) -> dict[str, Source]:
    return {
        f"{ours}.gate_up.weight": _join(here[f"{theirs}gate"], here[f"{theirs}up"]),
        f"{ours}.down.weight": _as_is(here[f"{theirs}down"]),
    }


def _grouped(c: DecoderConfig, here: Mapping[str, str], interleaved: bool) -> dict[str, Source]:
    def turned(x: Tensor, heads: int) -> Tensor:
        return half_split(x, heads, c.head_width) if interleaved else x

    found: dict[str, Source] = {"attention.out.weight": _as_is(here["o"] + ".weight")}
    for kind in ("weight", *(["bias"] if c.qkv_bias else [])):
        found[f"attention.query.{kind}"] = Source(
            names=(f"{here['q']}.{kind}",),
            make=lambda parts: turned(parts[0], c.heads),
            how="reshaped" if interleaved else "taken",
        )
        found[f"attention.key_value.{kind}"] = Source(
            names=(f"{here['k']}.{kind}", f"{here['v']}.{kind}"),
            make=lambda parts: torch.cat([turned(parts[0], c.kv_heads), parts[1]]),
            how="reshaped",
        )
    if c.head_norm:
        found["attention.norm_query.weight"] = _as_is(here["norm_query"])
        found["attention.norm_key.weight"] = _as_is(here["norm_key"])
    return found


def _latent(c: DecoderConfig, here: Mapping[str, str], interleaved: bool) -> dict[str, Source]:
    latent = c.latent
    assert latent is not None

    def turned(x: Tensor, heads: int, plain: int) -> Tensor:
        """Reorder the last `rope_width` rows of every head."""
        if not interleaved:
            return x
        parts = x.unflatten(0, (heads, -1)).split([plain, latent.rope_width], dim=1)
        again = half_split(parts[1].flatten(0, 1), heads, latent.rope_width).unflatten(0, (heads, -1))
        return torch.cat([parts[0], again], dim=1).flatten(0, 1)

    asked = here["asked"] if latent.query_rank else here["q"] + ".weight"
    how = "reshaped" if interleaved else "taken"
    found = {
        "attention.query.weight": Source(
            names=(asked,), make=lambda parts: turned(parts[0], c.heads, latent.plain_width), how=how
        ),
        "attention.compress.weight": Source(
            names=(here["compress"],), make=lambda parts: turned(parts[0], 1, latent.rank), how=how
        ),
        "attention.norm_latent.weight": _as_is(here["norm_latent"]),
        "attention.key_value.weight": _as_is(here["expand"]),
        "attention.out.weight": _as_is(here["o"] + ".weight"),
    }
    if latent.query_rank:
        found["attention.squeeze.weight"] = _as_is(here["squeeze"])
        found["attention.norm_query.weight"] = _as_is(here["norm_squeezed"])
    return found


def _experts(found: Architecture, here: Mapping[str, str], stacked: bool) -> dict[str, Source]:
    c = found.decoder
    block = {"feed.router.weight": _as_is(here["router"])}
    if found.kind in ("deepseek_v3", *PARTLY):
        block["feed.bias"] = _as_is(here["router_bias"])
    if c.shared_hidden:
        block |= _dense(here, "feed.shared", "shared_")
    for e in range(c.experts):
        ours = f"feed.experts.{e}"
        if not stacked:
            block |= _dense({k: v.replace("{e}", str(e)) for k, v in here.items()}, ours, "expert_")
            continue
        block[f"{ours}.gate_up.weight"] = _cut(e, here["expert_gate"], here["expert_up"])
        block[f"{ours}.down.weight"] = _cut(e, here["expert_down"])
    return block


def half_split(x: Tensor, heads: int, width: int) -> Tensor:
    """Undo an interleaved rotary order: rows (half, 2) of each head of `width` become (2, half)."""
    return x.unflatten(0, (heads, width // 2, 2)).transpose(1, 2).flatten(0, 2)
