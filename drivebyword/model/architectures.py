"""Language model architectures: what a file says of itself in, our decoder's configuration and its parts' names out.

Known: Llama (SmolLM2 too), Qwen2, Qwen3 with and without experts, DeepSeek-V2 and -V3, from Hugging Face's config.json
or GGUF metadata; of DeepSeek-V4 what can be carried over (its attention and its residual streams cannot).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np

from drivebyword.model.attention import LatentConfig, RopeScaling
from drivebyword.model.backbone import DecoderConfig
from drivebyword.model.experts import RoutingConfig

LLAMA_LIKE = ("llama", "qwen2", "qwen3", "qwen3_moe")
DEEPSEEK = ("deepseek_v2", "deepseek_v3")
PARTLY = ("deepseek_v4",)
KNOWN = (*LLAMA_LIKE, *DEEPSEEK, *PARTLY)
EMBEDDING, HEAD = "embedding", "head"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A language model as its file describes it."""

    kind: str
    decoder: DecoderConfig
    vocabulary: int
    tied: bool
    """Whether the head is the embedding."""
    names: Mapping[str, str]
    """The file's name of each part; {i} is the block, {e} the expert."""
    interleaved: bool
    """Whether rotary pairs lie side by side; ours are half a head apart."""


# --------------------------------------------------------------------------- what a file calls its parts

_HF = {
    EMBEDDING: "model.embed_tokens.weight", HEAD: "lm_head.weight", "norm": "model.norm.weight",
    "norm_attention": "model.layers.{i}.input_layernorm.weight",
    "norm_feed": "model.layers.{i}.post_attention_layernorm.weight",
    **{part: f"model.layers.{{i}}.self_attn.{part}_proj" for part in "qkvo"},
    "norm_query": "model.layers.{i}.self_attn.q_norm.weight", "norm_key": "model.layers.{i}.self_attn.k_norm.weight",
    "squeeze": "model.layers.{i}.self_attn.q_a_proj.weight",
    "norm_squeezed": "model.layers.{i}.self_attn.q_a_layernorm.weight",
    "asked": "model.layers.{i}.self_attn.q_b_proj.weight",
    "compress": "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight",
    "norm_latent": "model.layers.{i}.self_attn.kv_a_layernorm.weight",
    "expand": "model.layers.{i}.self_attn.kv_b_proj.weight",
    **{part: f"model.layers.{{i}}.mlp.{part}_proj.weight" for part in ("gate", "up", "down")},
    "router": "model.layers.{i}.mlp.gate.weight", "router_bias": "model.layers.{i}.mlp.gate.e_score_correction_bias",
    **{f"shared_{part}": f"model.layers.{{i}}.mlp.shared_experts.{part}_proj.weight"
       for part in ("gate", "up", "down")},
    **{f"expert_{part}": f"model.layers.{{i}}.mlp.experts.{{e}}.{part}_proj.weight" for part in ("gate", "up", "down")},
}  # fmt: skip
_V4 = {
    **_HF, HEAD: "head.weight",
    "norm_attention": "model.layers.{i}.attn_norm.weight", "norm_feed": "model.layers.{i}.ffn_norm.weight",
    "router": "model.layers.{i}.ffn.gate.weight", "router_bias": "model.layers.{i}.ffn.gate.bias",
    **{f"shared_{ours}": f"model.layers.{{i}}.ffn.shared_experts.{theirs}.weight"
       for ours, theirs in (("gate", "w1"), ("down", "w2"), ("up", "w3"))},
    **{f"expert_{ours}": f"model.layers.{{i}}.ffn.experts.{{e}}.{theirs}.weight"
       for ours, theirs in (("gate", "w1"), ("down", "w2"), ("up", "w3"))},
}  # fmt: skip
_GGUF = {
    EMBEDDING: "token_embd.weight", HEAD: "output.weight", "norm": "output_norm.weight",
    "norm_attention": "blk.{i}.attn_norm.weight", "norm_feed": "blk.{i}.ffn_norm.weight",
    "q": "blk.{i}.attn_q", "k": "blk.{i}.attn_k", "v": "blk.{i}.attn_v", "o": "blk.{i}.attn_output",
    "norm_query": "blk.{i}.attn_q_norm.weight", "norm_key": "blk.{i}.attn_k_norm.weight",
    "squeeze": "blk.{i}.attn_q_a.weight", "norm_squeezed": "blk.{i}.attn_q_a_norm.weight",
    "asked": "blk.{i}.attn_q_b.weight", "compress": "blk.{i}.attn_kv_a_mqa.weight",
    "norm_latent": "blk.{i}.attn_kv_a_norm.weight", "expand": "blk.{i}.attn_kv_b.weight",
    **{part: f"blk.{{i}}.ffn_{part}.weight" for part in ("gate", "up", "down")},
    "router": "blk.{i}.ffn_gate_inp.weight", "router_bias": "blk.{i}.exp_probs_b.bias",
    **{f"shared_{part}": f"blk.{{i}}.ffn_{part}_shexp.weight" for part in ("gate", "up", "down")},
    **{f"expert_{part}": f"blk.{{i}}.ffn_{part}_exps.weight" for part in ("gate", "up", "down")},
}  # fmt: skip


# --------------------------------------------------------------------------- Hugging Face's config.json


def from_config(config: Mapping[str, Any], where: str) -> Architecture:
    """Read a config.json. Raises ValueError for what is unknown or does not fit our decoder."""
    kind = str(config.get("model_type"))
    if kind not in KNOWN:
        raise ValueError(f"{where}: model_type {kind!r} is not one of {', '.join(KNOWN)}")
    for field, fit in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False)):
        if config.get(field, fit) != fit:
            raise ValueError(f"{where}: {field} is {config[field]!r}; our decoder has {fit!r}")
    if config.get("use_sliding_window"):
        raise ValueError(f"{where}: sliding-window attention is not known here")
    try:
        decoder = _decoder(config, kind)
    except KeyError as missing:
        raise ValueError(f"{where}: field {missing} is missing") from None
    return Architecture(
        kind=kind,
        decoder=decoder,
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        names=_V4 if kind in PARTLY else _HF,
        interleaved=kind in DEEPSEEK and bool(config.get("rope_interleave", True)),
    )


def _decoder(c: Mapping[str, Any], kind: str) -> DecoderConfig:
    heads = int(c["num_attention_heads"])
    rope = _rope_of(c)
    plain = DecoderConfig(
        width=int(c["hidden_size"]),
        layers=int(c["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(c.get("num_key_value_heads") or heads),
        head_width=int(c.get("head_dim") or c["hidden_size"] // heads),
        hidden=int(c.get("intermediate_size") or c["moe_intermediate_size"]),
        theta=float(rope.get("rope_theta") or c.get("rope_theta") or 10_000.0),
        norm_eps=float(c.get("rms_norm_eps", 1e-6)),
        experts=0,
        scaling=scaling_of(rope, int(c.get("max_position_embeddings", 0)), sharpens=kind in DEEPSEEK),
        qkv_bias=True if kind == "qwen2" else None,
        head_norm=True if kind in ("qwen3", "qwen3_moe") else None,
    )
    if kind in LLAMA_LIKE and kind != "qwen3_moe":
        return plain
    if kind == "qwen3_moe" and (c.get("mlp_only_layers") or c.get("decoder_sparse_step", 1) != 1):
        raise ValueError("qwen3_moe with dense layers between expert ones is not known here")
    experts = int(c.get("n_routed_experts") or c.get("num_local_experts") or c["num_experts"])
    expert = int(c["moe_intermediate_size"])
    mixed = replace(
        plain,
        experts=experts,
        experts_per_token=int(c["num_experts_per_tok"]),
        expert_hidden=expert,
        shared_hidden=expert * int(c.get("n_shared_experts") or 0),
        moe_from=int(c.get("first_k_dense_replace") or 0),
        routing=_routing(c, kind),
    )
    if kind not in DEEPSEEK:
        return mixed
    return replace(
        mixed,
        kv_heads=heads,
        latent=LatentConfig(
            rank=int(c["kv_lora_rank"]),
            query_rank=int(c["q_lora_rank"]) if c.get("q_lora_rank") else None,
            plain_width=int(c["qk_nope_head_dim"]),
            rope_width=int(c["qk_rope_head_dim"]),
            value_width=int(c["v_head_dim"]),
        ),
    )


def _routing(c: Mapping[str, Any], kind: str) -> RoutingConfig:
    grouped = kind == "deepseek_v3" or c.get("topk_method") == "group_limited_greedy"
    scores = {"deepseek_v3": "sigmoid", "deepseek_v4": "sqrtsoftplus"}.get(kind, "softmax")
    return RoutingConfig(
        scores=scores,
        # transformers' V2 never divides, whatever its config says.
        shares=bool(c.get("norm_topk_prob")) and kind != "deepseek_v2",
        scale=float(c.get("routed_scaling_factor") or 1.0),
        groups=int(c.get("n_group") or 1) if grouped else 1,
        top_groups=int(c.get("topk_group") or 1) if grouped else 1,
        limit=float(c["swiglu_limit"]) if c.get("swiglu_limit") else None,
    )


def _rope_of(c: Mapping[str, Any]) -> Mapping[str, Any]:
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    return rope.get("main", rope)  # V4 has one for its sliding window and one for compressed keys


def scaling_of(rope: Mapping[str, Any], positions: int, *, sharpens: bool) -> RopeScaling | None:
    """Read rope_parameters. `sharpens`: DeepSeek's way, in which mscale_all_dim acts on scores."""
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind == "default":
        return None
    factor = float(rope["factor"])
    original = int(rope.get("original_max_position_embeddings") or positions)
    if kind == "linear":
        return RopeScaling(kind=kind, factor=factor)
    if kind == "llama3":
        return RopeScaling(
            kind=kind, factor=factor, original=original,
            slow=float(rope["low_freq_factor"]), fast=float(rope["high_freq_factor"]),
        )  # fmt: skip
    if kind != "yarn":
        raise ValueError(f"rope scaling {kind!r} is unknown: linear, llama3 or yarn")
    both = rope.get("mscale"), rope.get("mscale_all_dim")
    amplitude = _louder(factor, both[0]) / _louder(factor, both[1]) if all(both) else _louder(factor, 1.0)
    return RopeScaling(
        kind=kind, factor=factor, original=original, slow=float(rope.get("beta_slow") or 1.0),
        fast=float(rope.get("beta_fast") or 32.0), amplitude=float(rope.get("attention_factor") or amplitude),
        sharpness=_louder(factor, both[1]) ** 2 if sharpens and both[1] else 1.0,
        whole=bool(rope.get("truncate", True)),
    )  # fmt: skip


def _louder(factor: float, by: float | None) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * float(by or 1.0) * log(factor) + 1.0


# --------------------------------------------------------------------------- GGUF metadata

_GGUF_KINDS = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3moe": "qwen3_moe", "deepseek2": "deepseek_v3",
}  # fmt: skip


def from_gguf(meta: Mapping[str, Any], names: set[str], where: str) -> Architecture:
    """Read GGUF metadata and tensor names; the fields are translated to config.json's."""
    arch = str(meta.get("general.architecture"))
    if arch not in _GGUF_KINDS:
        raise ValueError(f"{where}: GGUF architecture {arch!r} is not one of {', '.join(_GGUF_KINDS)}")

    def field(name: str, default: Any = None) -> Any:
        value = meta.get(f"{arch}.{name}", default)
        # Numbers are stored as float32: 1e-05 is meant, not the nearest float32 to it.
        return float(str(np.float32(value))) if isinstance(value, float) else value

    kind = _GGUF_KINDS[arch]
    softmax = field("expert_gating_func", 1) == 1
    if kind == "deepseek_v3" and softmax:
        kind = "deepseek_v2"
    config = {
        "model_type": kind,
        "hidden_size": field("embedding_length"), "num_hidden_layers": field("block_count"),
        "num_attention_heads": field("attention.head_count"), "num_key_value_heads": field("attention.head_count_kv"),
        "head_dim": field("attention.key_length"), "intermediate_size": field("feed_forward_length"),
        "rms_norm_eps": field("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": field("context_length"),
        "rope_parameters": {"rope_theta": field("rope.freq_base", 10_000.0), **_gguf_scaling(field, names, where)},
        "vocab_size": field("vocab_size") or len(meta["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": _GGUF[HEAD] not in names,
        "num_experts": field("expert_count"), "num_experts_per_tok": field("expert_used_count"),
        "moe_intermediate_size": field("expert_feed_forward_length"),
        "n_shared_experts": field("expert_shared_count"),
        "first_k_dense_replace": field("leading_dense_block_count"),
        "routed_scaling_factor": field("expert_weights_scale"),
        "norm_topk_prob": field("expert_weights_norm", kind == "qwen3_moe"),
        "n_group": field("expert_group_count"), "topk_group": field("expert_group_used_count"),
        "kv_lora_rank": field("attention.kv_lora_rank"), "q_lora_rank": field("attention.q_lora_rank"),
        "qk_rope_head_dim": field("rope.dimension_count"),
        "v_head_dim": field("attention.value_length_mla") or field("attention.value_length"),
    }  # fmt: skip
    if kind in DEEPSEEK:
        whole = field("attention.key_length_mla") or field("attention.key_length")
        config["qk_nope_head_dim"] = int(whole) - int(config["qk_rope_head_dim"])
    found = from_config({name: value for name, value in config.items() if value is not None}, where)
    return replace(found, names=_GGUF, interleaved=arch in ("llama", "deepseek2"))


def _gguf_scaling(field: Callable[..., Any], names: set[str], where: str) -> dict[str, Any]:
    if "rope_freqs.weight" in names:
        raise ValueError(f"{where}: Llama 3's stretched positions are not read from GGUF: give the Hugging Face folder")
    kind = field("rope.scaling.type", "none")
    if kind == "none":
        return {}
    if kind != "linear":
        raise ValueError(f"{where}: {kind} positions are not read from GGUF: give the Hugging Face folder")
    return {"rope_type": "linear", "factor": field("rope.scaling.factor")}
