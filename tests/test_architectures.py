"""Claims about other people's language models: ours computes what transformers' own classes compute."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from drivebyword.model.attention import frequencies
from drivebyword.model.experts import MixtureOfExperts, RoutingConfig
from drivebyword.model.language import take
from drivebyword.model.weights import open_weights

IDS = torch.tensor([[3, 17, 40, 9, 2, 61, 33, 8, 20, 51, 5, 44], [1, 9, 8, 7, 60, 50, 40, 30, 20, 10, 0, 63]])
SIZES = {
    "vocab_size": 64, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 80, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "initializer_range": 0.2,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 16, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2}
LATENT = {
    **EXPERTS, "first_k_dense_replace": 1, "num_key_value_heads": 4, "kv_lora_rank": 12, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12, "v_head_dim": 10,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32, "rope_theta": 10000.0,
}  # fmt: skip
CASES = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama with its own head": ("Llama", {"head_dim": 16}),
    "llama, linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}}),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama, yarn": ("Llama", {"rope_parameters": {**YARN, "beta_fast": 16, "beta_slow": 2}}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 with experts": ("Qwen3Moe", {"head_dim": 16, "num_experts": 8, "num_experts_per_tok": 3,
                                        "moe_intermediate_size": 16, "norm_topk_prob": True}),
    "deepseek v2": ("DeepseekV2", {**LATENT, "q_lora_rank": None}),
    "deepseek v2, groups": ("DeepseekV2", {**LATENT, "q_lora_rank": 20, "topk_method": "group_limited_greedy",
                                           "n_group": 4, "topk_group": 2, "routed_scaling_factor": 4.0}),
    "deepseek v3": ("DeepseekV3", {**LATENT, "q_lora_rank": 20, "n_group": 4, "topk_group": 2}),
    "deepseek v3, yarn": ("DeepseekV3", {**LATENT, "q_lora_rank": None, "n_group": 1, "topk_group": 1,
                                         "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}}),
}  # fmt: skip


def theirs(case):
    """A random model of transformers; its routers' biases are random too."""
    import transformers

    kind, extra = CASES[case]
    torch.manual_seed(7)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **extra})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.rand_like(buffer) * 0.3)
    for name, parameter in model.named_parameters():
        if name.endswith(("mlp.gate.weight", ".bias")):
            torch.nn.init.normal_(parameter, std=0.3)
        elif "norm" in name:
            torch.nn.init.uniform_(parameter, 0.6, 1.4)
    return model


@pytest.fixture(scope="module", params=list(CASES))
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = theirs(request.param)
    model.save_pretrained(folder)
    return model, folder


@torch.no_grad()
def test_logits_and_greedy_continuations_are_transformers_own(pair):
    model, folder = pair
    ours, report = take(open_weights(folder))
    torch.testing.assert_close(ours.logits(IDS), model(IDS).logits, atol=1e-4, rtol=0.0)
    told = model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=12, do_sample=False)
    assert torch.equal(ours.continued(IDS, 12), told[:, IDS.shape[1] :])
    assert not report.left and all(name.endswith("feed.bias") for name in report.new)
    whole = sum(value.numel() for value in load_file(folder / "model.safetensors").values())
    assert report.numbers["taken"] + report.numbers["reshaped"] == whole


def test_what_is_taken_is_taken_bit_for_bit(pair):
    _, folder = pair
    ours, report = take(open_weights(folder))
    stored = {value.numpy().tobytes() for value in load_file(folder / "model.safetensors").values()}
    mine = ours.decoder.state_dict() | {"embedding": ours.embedding, "head": ours.head}
    assert len(report.taken) > 8
    assert all(mine[name].numpy().tobytes() in stored for name in report.taken)
    numbers = np.sort(np.concatenate([np.frombuffer(one, np.float32) for one in stored]))
    kept = np.sort(torch.cat([mine[name].flatten() for name in (*report.taken, *report.reshaped)]).numpy())
    assert np.array_equal(np.unique(numbers), np.unique(kept))


# --------------------------------------------------------------------------- GGUF

GGUF_CASES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "deepseek v3": "deepseek2",
    "deepseek v2": "deepseek2",
}


def write_gguf(model, arch, path):
    """Write a model as llama.cpp's converter does: its names, and Llama's queries and keys interleaved."""
    from gguf import GGUFWriter

    c, writer = model.config, GGUFWriter(str(path), arch)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
    writer.add_vocab_size(c.vocab_size)
    deep = arch == "deepseek2"
    if deep:
        writer.add_uint32(f"{arch}.attention.kv_lora_rank", c.kv_lora_rank)
        if c.q_lora_rank:
            writer.add_uint32(f"{arch}.attention.q_lora_rank", c.q_lora_rank)
        writer.add_key_length(c.qk_nope_head_dim + c.qk_rope_head_dim)
        writer.add_value_length(c.v_head_dim)
        writer.add_rope_dimension_count(c.qk_rope_head_dim)
        writer.add_expert_count(c.n_routed_experts)
        writer.add_expert_used_count(c.num_experts_per_tok)
        writer.add_expert_shared_count(c.n_shared_experts)
        writer.add_expert_feed_forward_length(c.moe_intermediate_size)
        writer.add_leading_dense_block_count(c.first_k_dense_replace)
        writer.add_expert_weights_scale(c.routed_scaling_factor)
        writer.add_expert_weights_norm(c.norm_topk_prob)
        v3 = c.model_type == "deepseek_v3"
        writer.add_uint32(f"{arch}.expert_gating_func", 2 if v3 else 1)
        if v3:
            writer.add_uint32(f"{arch}.expert_group_count", c.n_group)
            writer.add_uint32(f"{arch}.expert_group_used_count", c.topk_group)
    else:
        writer.add_key_length(getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)
    for name, value in gguf_tensors(model, arch):
        writer.add_tensor(name, np.ascontiguousarray(value.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b", "mlp.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
}  # fmt: skip
OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}  # fmt: skip


def gguf_tensors(model, arch):
    c = model.config
    for name, value in model.state_dict().items():
        if name in OUTER:
            if not (name == "lm_head.weight" and c.tie_word_embeddings):
                yield OUTER[name], value
            continue
        _, _, block, *rest = name.split(".")
        part, kind = ".".join(rest[:-1]), rest[-1]
        if part == "mlp.experts":
            gate, up = value.chunk(2, dim=1) if kind == "gate_up_proj" else (value, None)
            if up is None:
                yield f"blk.{block}.ffn_down_exps.weight", gate
            else:
                yield f"blk.{block}.ffn_gate_exps.weight", gate
                yield f"blk.{block}.ffn_up_exps.weight", up
        elif kind == "e_score_correction_bias":
            yield f"blk.{block}.exp_probs_b.bias", value
        else:
            if arch == "llama" and part in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = c.num_attention_heads if "q_proj" in part else c.num_key_value_heads
                value = value.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
            yield f"blk.{block}.{GGUF_NAMES[part]}.{kind}", value


@pytest.mark.parametrize("case", GGUF_CASES)
@torch.no_grad()
def test_a_gguf_file_gives_the_same_model(case, tmp_path):
    model = theirs(case)
    write_gguf(model, GGUF_CASES[case], tmp_path / "model.gguf")
    file = open_weights(tmp_path / "model.gguf")
    file.tokenizer = lambda: None
    ours, report = take(file)
    torch.testing.assert_close(ours.logits(IDS), model(IDS).logits, atol=1e-4, rtol=0.0)
    assert not report.left and all(name.endswith("feed.bias") for name in report.new)


# --------------------------------------------------------------------------- what else a folder may hold


@torch.no_grad()
def test_sharded_and_half_precision_folders_are_read(tmp_path):
    model = theirs("qwen2").to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours, _ = take(open_weights(tmp_path))
    wide = type(model).from_pretrained(tmp_path, dtype=torch.float32).eval()
    torch.testing.assert_close(ours.logits(IDS), wide(IDS).logits, atol=1e-4, rtol=0.0)


@torch.no_grad()
def test_eight_bit_floats_are_multiplied_by_their_blocks_scales(tmp_path):
    model = theirs("deepseek v3")
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.self_attn.o_proj.weight"
    wide = torch.randn(200, 300)
    scale = torch.rand(2, 3) + 0.5
    stored[name], stored[name + "_scale_inv"] = wide.to(torch.float8_e4m3fn), scale
    save_file(stored, tmp_path / "model.safetensors")
    read = open_weights(tmp_path).get(name)
    small = wide.to(torch.float8_e4m3fn).float()
    for row, column in ((0, 0), (127, 299), (128, 128), (199, 255), (199, 256)):
        assert read[row, column] == small[row, column] * scale[row // 128, column // 128]


def test_fewer_layers_are_the_first_ones(tmp_path):
    model = theirs("llama")
    model.save_pretrained(tmp_path)
    ours, report = take(open_weights(tmp_path), layers=2)
    assert len(ours.decoder.blocks) == 2 and any("layers.2." in name for name in report.left)
    with torch.no_grad():
        hidden = model(IDS, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(ours.states(IDS, 2), hidden, atol=1e-4, rtol=0.0)
    with pytest.raises(ValueError, match="has 3 layers, not 4"):
        take(open_weights(tmp_path), layers=4)


def test_grown_models_keep_what_they_said_and_know_more_words(tmp_path):
    model = theirs("llama with its own head")
    model.save_pretrained(tmp_path)
    ours, _ = take(open_weights(tmp_path))
    more = ours.grown(["<steer 0>", "<steer 1>"])
    old, new = ours.logits(IDS), more.logits(IDS)
    assert new.shape[-1] == 66 and torch.equal(old, new[..., :64])
    assert more.logits(torch.tensor([[64, 65]])).isfinite().all()
    assert torch.equal(ours.embedding, more.embedding[:64]) and ours.embedding.shape[0] == 64


# --------------------------------------------------------------------------- DeepSeek-V4: what can be carried over


@pytest.fixture(scope="module")
def v4(tmp_path_factory):
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

    torch.manual_seed(3)
    config = DeepseekV4Config(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=2, head_dim=16, q_lora_rank=12, vocab_size=64,
        n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=16, o_groups=2, o_lora_rank=8,
        index_n_heads=2, index_head_dim=8, num_hash_layers=1, hc_mult=2, swiglu_limit=0.2,
    )  # fmt: skip
    model = DeepseekV4ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "mlp" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(torch.rand_like(buffer) * 0.3)
    folder = tmp_path_factory.mktemp("v4")
    model.save_pretrained(folder)
    return model, folder


@torch.no_grad()
def test_v4s_experts_are_carried_over_whole(v4):
    model, folder = v4
    ours, _ = take(open_weights(folder))
    x = torch.randn(2, 9, 48)
    for layer in (1, 2):  # the first one looks experts up by the token's number
        torch.testing.assert_close(
            ours.decoder.blocks[layer].feed(x), model.model.layers[layer].mlp(x), atol=1e-5, rtol=0
        )
    assert torch.equal(ours.embedding, model.model.embed_tokens.weight)
    assert torch.equal(ours.head, model.lm_head.weight)


def test_v4s_report_says_precisely_what_is_not(v4):
    _, report = take(open_weights(v4[1]))
    assert all("attention." in name or name == "blocks.0.feed.bias" for name in report.new)
    kinds = ("attn.", "hc_", "tid2eid")
    assert all(any(kind in name for kind in kinds) for name in report.left)
    text = "\n".join(report.lines())
    for word in ("blocks.*.attention.query.weight", "model.layers.*.attn.attn_sink"):
        assert word in text


# --------------------------------------------------------------------------- bad input


def change(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"model_type": "bert"}, "model_type 'bert' is not one of llama"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; our decoder has 'silu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope scaling 'longrope' is unknown"),
        ({"vocab_size": 65}, "gives (64, 48), expected (65, 48)"),
        ({"num_hidden_layers": 4}, "tensor model.layers.3.input_layernorm.weight is missing"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(fields, line, tmp_path):
    theirs("llama").save_pretrained(tmp_path)
    change(tmp_path, **fields)
    with pytest.raises(ValueError) as error:
        take(open_weights(tmp_path))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.gguf").write_bytes(b"GGUF and no more")
    (tmp_path / "x.bin").write_bytes(b"pickle")
    for name, line in (("empty", "no config.json"), ("x.gguf", "no GGUF file"), ("x.bin", "neither a folder"),
                       ("nowhere", "does not exist")):  # fmt: skip
        with pytest.raises(ValueError, match=line):
            open_weights(tmp_path / name)
    theirs("llama").save_pretrained(tmp_path / "torn")
    whole = (tmp_path / "torn" / "model.safetensors").read_bytes()
    (tmp_path / "torn" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        open_weights(tmp_path / "torn")


# --------------------------------------------------------------------------- gradients


def test_routing_is_refused_where_groups_do_not_fit():
    from drivebyword.model.backbone import DecoderConfig

    with pytest.raises(ValueError, match="cannot be put in 3 groups"):
        DecoderConfig(experts=4, routing=RoutingConfig(groups=3))
    with pytest.raises(ValueError, match="scores 'tanh' are unknown"):
        RoutingConfig(scores="tanh")


SCORES = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda s: s.softmax(-1),
    "sqrtsoftplus": lambda s: torch.nn.functional.softplus(s).sqrt(),
}


@pytest.mark.parametrize("scores", SCORES)
def test_gradients_of_a_mixture_are_those_of_the_plain_sum(scores):
    torch.manual_seed(1)
    routing = RoutingConfig(scores=scores, groups=2, top_groups=1, scale=1.7)
    mixture = MixtureOfExperts(12, 6, 10, experts=6, top=2, routing=routing).double().eval()
    x = torch.randn(9, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 12, dtype=torch.float64)

    def plain():
        with torch.no_grad():
            _, chosen = mixture.route(x)
        affinity = SCORES[scores](x @ mixture.router.weight.T)
        rows = []
        for token, picks, shares in zip(x, chosen, affinity, strict=True):
            gates = shares[picks] / shares[picks].sum() * 1.7
            rows.append(mixture.shared(token) + sum(g * mixture.experts[int(k)](token) for g, k in zip(gates, picks)))
        return torch.stack(rows)

    wanted = torch.autograd.grad((plain() * weight).sum(), [x, *mixture.parameters()], allow_unused=True)
    found = torch.autograd.grad((mixture(x) * weight).sum(), [x, *mixture.parameters()], allow_unused=True)
    for a, b in zip(wanted, found, strict=True):
        if a is not None:
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-12)


def test_frequencies_without_scaling_are_the_plain_powers():
    assert torch.allclose(frequencies(8, 100.0), torch.tensor([1.0, 100**-0.25, 0.1, 100**-0.75]))


def test_the_command_says_what_it_took(v4, capsys):
    from drivebyword.cli import main

    assert main(["weights", str(v4[1])]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "deepseek_v4: 3 layers, width 48, no tokenizer"
    assert [line.split()[0] for line in said[1:]] == ["taken", "reshaped", "new", "left"]
    assert main(["weights", "/nowhere/at/all"]) == 2
    assert "does not exist" in capsys.readouterr().err
