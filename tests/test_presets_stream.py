"""Claims about streaming at every preset: what is kept computes what one long masked pass computes."""

import dataclasses

import numpy as np
import pytest
from small_policy import ScriptedReader, make_policy
from test_streaming import long_pass

from drivebyword.evaluate.latency import random_observation
from drivebyword.model.attention import LatentConfig
from drivebyword.model.reader import ReaderConfig
from drivebyword.model.streaming import StreamingPolicy
from drivebyword.presets import SIZED, preset

NARROW = {
    "tiny": {},
    "small": {"width": 72, "layers": 3, "head_width": 32, "hidden": 96},
    "base": {"width": 96, "layers": 3, "heads": 6, "kv_heads": 6, "head_width": 32, "hidden": 128},
    "base-moe": {
        "width": 96, "layers": 3, "heads": 4, "kv_heads": 4, "hidden": 128, "experts": 8, "experts_per_token": 3,
        "expert_hidden": 24, "shared_hidden": 48,
        "latent": LatentConfig(rank=32, plain_width=16, rope_width=16, value_width=16),
    },
}  # fmt: skip
"""What is smaller here than in the preset: widths, and how often a layer is repeated; nothing in kind."""


def narrow(name):
    config = preset(name).policy
    encoder = config.encoder
    if name != "tiny":
        encoder = dataclasses.replace(encoder, width=48, heads=3, hidden=64, vision_layers=1, stem=8, glance=16)
    stream = dataclasses.replace(config.stream, stride=2)
    return dataclasses.replace(
        config, encoder=encoder, stream=stream, decoder=dataclasses.replace(config.decoder, **NARROW[name])
    )


@pytest.mark.parametrize("engine", ["torch", "fused"])
@pytest.mark.parametrize("name", SIZED)
def test_rings_are_one_long_masked_pass_and_what_left_the_window_is_gone(name, engine):
    config = narrow(name)
    policy = make_policy(config)
    stream = StreamingPolicy(policy, ScriptedReader(ReaderConfig()), engine=engine)
    observations = [random_observation(config.rig, step, "go on") for step in range(8)]
    tokens, logits, passed = [], [], []
    for one in observations:
        stream.decide(one)
        tokens.append(stream.trace.tokens)
        logits.append(stream.trace.logits)
        passed.append(stream.trace.passed)
    assert len(observations) > config.stream.stride * config.stream.window
    whole = long_pass(stream, observations, tokens, passed)
    np.testing.assert_array_equal(config.grammar.choose(whole), np.stack(tokens))
    legal = config.grammar.legal
    assert np.abs(whole[:, legal] - np.stack(logits)[:, legal]).max() < 1e-4
