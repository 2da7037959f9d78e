"""Claims about kernels: the C++ computes what PyTorch computes, and both what the layers they replace compute."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from drivebyword.model import attention, kernels
from drivebyword.model.experts import MixtureOfExperts, RoutingConfig
from drivebyword.model.kernels import GELU, PLAIN, PRECISIONS, SILU, compiled, linear, mixture, pack, pack_experts
from drivebyword.model.norm import RMSNorm
from drivebyword.model.ring import across

NEAR = {"float32": 1e-5, "bfloat16": 2e-2, "int8": 5e-2}
"""How far a product of unit size may be off."""
here = pytest.mark.skipif(not compiled(), reason="no compiler or no AVX-512 here")


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", [PLAIN, SILU, GELU])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 9, 34), (7, 48, 32), (20, 773, 112)])
@pytest.mark.parametrize("laid", [pytest.param(True, marks=here), False])
@torch.inference_mode()
def test_a_linear_layer_is_the_plain_one(precision, kind, rows, inputs, outputs, laid):
    x, weight, bias = numbers(rows, inputs), numbers(outputs, inputs, seed=1) * inputs**-0.5, numbers(outputs, seed=2)
    norm = RMSNorm(inputs)
    norm.weight.copy_(numbers(inputs, seed=3).abs())
    bias = None if kind == SILU else bias
    y = F.linear(norm(x), weight, bias)
    if kind == SILU:
        y = F.silu(y[:, : outputs // 2]) * y[:, outputs // 2 :]
    elif kind == GELU:
        y = F.gelu(y, approximate="tanh")
    rest = numbers(*y.shape, seed=4)
    found = linear(x, pack(weight, bias, precision, kind, laid), norm=norm, residual=rest) - rest
    assert (found - y).abs().max() < NEAR[precision] * max(1.0, float(y.abs().max()))


@here
@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_both_ways_are_the_same_to_rounding(precision):
    x, weight, bias = numbers(31, 1376) * 3, numbers(528, 1376, seed=1), numbers(528, seed=2)
    x[5] = 0.0
    ours, theirs = (linear(x, pack(weight, bias, precision, laid=laid)) for laid in (True, False))
    # Integers add up exactly; bfloat16's sums PyTorch rounds to bfloat16 before they are added to.
    bound = {"float32": 1e-5, "bfloat16": 1e-2, "int8": 1e-6}[precision]
    assert (ours - theirs).abs().max() <= bound * theirs.abs().max()
    assert torch.equal(ours[5], bias)


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_a_row_hangs_on_no_other_row(precision):
    x, packed = numbers(13, 64), pack(numbers(48, 64, seed=1), None, precision)
    whole, loud = linear(x, packed), x.clone()
    loud[7:] *= 1000.0
    assert torch.equal(linear(loud, packed)[:7], whole[:7])
    for row in range(13):
        assert torch.equal(linear(x[row : row + 1], packed)[0], whole[row]) or precision != "int8"


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("width", [16, 32, 48, 64])
@pytest.mark.parametrize("lies", ["in rows", "across"])
@torch.inference_mode()
def test_attention_is_the_plain_one_and_hidden_keys_do_not_matter(groups, width, lies):
    batch, heads, length, keys = 2, 4, 17, 83
    q, v = numbers(batch, length, heads, width), numbers(batch, groups, keys, width, seed=1)
    k = (
        across(torch.zeros, (batch, groups, keys, width))
        if lies == "across"
        else torch.zeros(batch, groups, keys, width)
    )
    k.copy_(numbers(batch, groups, keys, width, seed=2))
    mask = torch.rand(batch, length, keys, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[..., 0], mask[:, :9, 40:] = True, False
    bias, extra = attention.as_bias(mask), numbers(batch, heads, keys, seed=4)
    wanted = attention.attend(q.transpose(1, 2), k, v, bias[:, None] + extra[:, :, None], 0.7)
    found = kernels.attend(q, k, v, bias, extra, 0.7)
    assert (found - wanted).abs().max() < 1e-5
    v[:, :, 40:] = 1e6
    k[:, :, 40:] = 20.0
    assert torch.equal(kernels.attend(q, k, v, bias, extra, 0.7)[:, :9], found[:, :9])


@pytest.mark.parametrize("turn", [True, False])
@torch.inference_mode()
def test_queries_turn_and_keys_land_where_they_are_kept(turn):
    batch, length, heads, groups, width = 2, 5, 4, 2, 32
    rope = attention.rotary(torch.arange(3, 3 + length), width, 1e4) if turn else None
    qkv = numbers(batch, length, (heads + 2 * groups) * width)
    parts = qkv.clone().unflatten(-1, (-1, width)).transpose(1, 2)
    turned = attention.rotate(parts, rope) if rope is not None else parts
    keys, values = across(torch.zeros, (batch, groups, 40, width)), torch.zeros(batch, groups, 40, width)
    kernels.place(qkv, rope, heads, keys[:, :, 30:35], values[:, :, 30:35])
    for found, wanted in (
        (qkv.unflatten(-1, (-1, width)).transpose(1, 2)[:, :heads], turned[:, :heads]),
        (keys[:, :, 30:35], turned[:, heads : heads + groups]),
        (values[:, :, 30:35], parts[:, heads + groups :]),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert not keys[:, :, :30].any() and not values[:, :, 35:].any()


@pytest.mark.parametrize(
    "how",
    [RoutingConfig(shares=False), RoutingConfig(scale=1.7), RoutingConfig(scores="softmax"),
     RoutingConfig(groups=3, top_groups=2)],
    ids=["plain", "shares", "softmax", "groups"],
)  # fmt: skip
@pytest.mark.parametrize("shared", [24, 0])
@pytest.mark.parametrize("laid", [pytest.param(True, marks=here), False])
@torch.inference_mode()
def test_a_mixture_is_the_plain_one(how, shared, laid):
    torch.manual_seed(5)
    plain = MixtureOfExperts(32, 24, shared, experts=6, top=2, routing=how).eval()
    plain.bias.normal_(std=0.2)
    x, norm = numbers(2, 11, 32), RMSNorm(32)
    norm.weight.copy_(numbers(32, seed=3).abs())
    found = mixture(x, norm, pack_experts(plain, "float32", laid))
    torch.testing.assert_close(found, x + plain(norm(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [5, 2])
@torch.inference_mode()
def test_a_block_looks_back_as_the_plain_one_does_whoever_computes(wanted, monkeypatch):
    torch.manual_seed(6)
    layer, norm = attention.Attention(48, 4, 2, 16, 3, qkv_bias=True, sharpness=0.9), RMSNorm(48)
    x, known = numbers(2, 5, 48), (numbers(2, 2, 7, 16, seed=1), numbers(2, 2, 7, 16, seed=2))
    rope, ages = attention.rotary(torch.arange(5), 16, 1e4), torch.randint(0, 3, (2, 1, 12))
    bias = attention.as_bias(torch.rand(2, 5, 12) < 0.7)[:, -wanted:]
    rows, normed = torch.arange(5 - wanted, 5), norm(x)
    kept = [attention.Kept(across(torch.zeros, (2, 2, 12, 16)), torch.zeros(2, 2, 12, 16), 7) for _ in range(3)]
    for one in kept:
        one.keys[:, :, :7], one.values[:, :, :7] = known
    seen, _ = layer(normed, normed[:, rows], rope, rope[:, rows], bias, ages, kept[0])
    both = torch.cat([layer.query.bias, layer.key_value.bias])
    qkv = torch.cat([layer.query.weight, layer.key_value.weight])
    for one, laid in zip(kept[1:], (compiled(), False), strict=True):
        if not laid:
            monkeypatch.setattr(kernels, "compiled", lambda: False)
        packed = pack(qkv, both, "float32", laid=laid), pack(layer.out.weight, None, "float32", laid=laid)
        found = kernels.look_back(x, norm, *packed, 4, rope, bias, layer.by_age(ages)[:, :, 0], one, 0.9)
        torch.testing.assert_close(found, x[:, rows] + seen, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.keys, kept[0].keys, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.values, kept[0].values, rtol=1e-5, atol=1e-5)


def test_the_policy_that_was_fused_is_left_alone():
    from small_policy import SMALL, make_policy

    from drivebyword.model.fused import fused

    policy = make_policy(dataclasses.replace(SMALL))
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    fused(policy, "int8")
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
