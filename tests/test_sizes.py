"""Claims about the presets' sizes, counted without memory."""

import dataclasses

import pytest
import torch

from drivebyword.evaluate.size import bench_size
from drivebyword.model.language import adopt
from drivebyword.model.policy import Policy
from drivebyword.model.pretrained import fetch, load
from drivebyword.model.sizes import DEVICES, kept_width, sizes_of
from drivebyword.presets import SIZED, preset


@pytest.fixture(scope="module")
def counted():
    return {name: sizes_of(preset(name).policy) for name in SIZED}


def test_presets_are_as_large_as_they_say(counted):
    assert 3e6 < counted["tiny"].active < 6e6
    assert 120e6 < counted["small"].total < 170e6 and counted["small"].total == counted["small"].active
    assert 1.8e9 < counted["base"].total < 2.2e9
    assert 14e9 < counted["base-moe"].total < 17e9 and 2.0e9 < counted["base-moe"].active < 3.0e9


def test_a_plain_decoders_operations_are_two_a_weight_and_token(counted):
    size, c = counted["base"], preset("base").policy.decoder
    decoder = size.by_part["decoder"]
    tokens, keys = size.frame + size.act, size.kept + size.act
    attention = tokens * 4 * keys * c.layers * c.heads * c.head_width
    frame = size.streaming.operations - 2 * decoder * tokens - attention
    # The rest is the encoders: more than their weights once, less than their weights for every pixel cell.
    assert 2 * size.by_part["frame"] < frame < 2 * size.by_part["frame"] * 16 * 500
    assert size.step.operations == 2 * decoder + 4 * (keys) * c.layers * c.heads * c.head_width


def test_one_pass_for_the_whole_act_costs_less_than_token_by_token(counted):
    for size in counted.values():
        for device in DEVICES:
            for bits in (16, 8):
                one = size.streaming.floor(device, bits)
                assert one < 0.5 * (one + (size.act - 1) * size.step.floor(device, bits)) or device.name == "H100"
                assert size.whole.operations > size.streaming.operations


def test_floors_are_the_data_sheets_arithmetic(counted):
    size, orin = counted["base"].step, next(d for d in DEVICES if d.name == "Orin")
    assert size.floor(orin, 16) == pytest.approx((size.weights * 2 + size.cache * 2) / 204.8e9)
    assert size.floor(orin, 8) == pytest.approx((size.weights + size.cache * 2) / 204.8e9)


def test_latent_attention_keeps_a_fraction_of_a_token():
    heads, latent = (kept_width(preset(name).policy.decoder) for name in ("base", "base-moe"))
    assert latent == 576 and heads == 4096


def test_the_bench_counts_every_preset():
    rows = bench_size({name: preset(name).policy for name in SIZED})["rows"]
    for name in SIZED:
        assert rows[f"{name}: parameters"]["value"] > 0 and rows[f"{name}: H100, 16 bits"]["value"] > 0
    assert rows["tiny: parameters"]["value"] < 10.0


@pytest.mark.slow
def test_smalls_decoder_is_smollm2_bit_for_bit():
    fetch()
    config = preset("small").policy
    policy = Policy(dataclasses.replace(config, encoder=preset("tiny").policy.encoder))
    report = adopt(policy.decoder, preset("small").decoder_weights)
    assert all("age_bias" in name for name in report.new) and not report.left
    theirs = load().decoder.state_dict()
    ours = policy.decoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in report.taken)
    with pytest.raises(ValueError, match=r"is .* there and .* here"):
        adopt(Policy(preset("tiny").policy).decoder, "smollm2")
