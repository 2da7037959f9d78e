"""Shared by tests: a policy small enough to run in moments, random inputs, a reader without a language model."""

import numpy as np
import torch

from drivebyword.core.records import Observation
from drivebyword.core.rig import RigConfig
from drivebyword.model.backbone import DecoderConfig
from drivebyword.model.frame import EncoderConfig
from drivebyword.model.policy import Policy, PolicyConfig
from drivebyword.model.reader import Reader, Reading
from drivebyword.tokens.action import ActionGrammar
from drivebyword.tokens.stream import Batch, StreamConfig
from drivebyword.tokens.text import unreadable
from drivebyword.world.rigs import tiny

SMALL = PolicyConfig(
    rig=tiny(),
    stream=StreamConfig(window=3, stride=2),
    encoder=EncoderConfig(width=48, heads=3, hidden=64, stem=8),
    decoder=DecoderConfig(width=64, layers=3, heads=4, kv_heads=2, head_width=16, hidden=64, moe_from=1,
                          expert_hidden=32, shared_hidden=32),
)  # fmt: skip


def make_batch(rig: RigConfig, batch: int, frames: int, seed: int = 0, words: int = 7) -> Batch:
    """Return random inputs with every sensor there."""
    g = torch.Generator().manual_seed(seed)
    grammar = ActionGrammar()
    low, high = torch.from_numpy(grammar.ranges).unbind(1)
    draw = torch.rand(batch, frames, grammar.length, generator=g)
    return Batch(
        cameras={
            c.name: torch.randint(0, 256, (batch, frames, c.height, c.width, 3), generator=g, dtype=torch.uint8)
            for c in rig.cameras
        },
        lidar=torch.rand(batch, frames, rig.lidar.beams, rig.lidar.columns, 2, generator=g) * 60,
        radar=torch.randn(batch, frames, rig.radar.detections, 4, generator=g),
        radar_valid=torch.rand(batch, frames, rig.radar.detections, generator=g) < 0.5,
        ego=torch.randn(batch, frames, 7, generator=g).abs(),
        passed=torch.randint(0, 3, (batch, frames), generator=g).float(),
        present=torch.ones(batch, frames, len(rig.sensor_names()), dtype=torch.bool),
        words=torch.randn(batch, words, 576, generator=g),
        word_mask=torch.ones(batch, words, dtype=torch.bool),
        tokens=low + (draw * (high - low)).long(),
        history_valid=torch.ones(batch, frames, dtype=torch.bool),
    )


def make_policy(config: PolicyConfig = SMALL, seed: int = 0) -> Policy:
    """Return a policy with weights that let everything matter."""
    torch.manual_seed(seed)
    policy = Policy(config).eval()
    with torch.no_grad():
        for block in policy.decoder.blocks:
            block.attention.age_bias.normal_()
    return policy


class ScriptedReader(Reader):
    """Gives each sentence random but fixed states, without a language model."""

    def _read(self, sentence):
        why_not = unreadable(sentence)
        rows = 0 if why_not else len(sentence.split())
        generator = torch.Generator().manual_seed(sum(map(ord, sentence)))
        return Reading(torch.randn(rows, 576, generator=generator).half(), why_not)


def observe(step: int, instruction: str = "turn left here", seed: int = 0) -> Observation:
    """Return a random observation."""
    rng = np.random.default_rng([seed, step])
    rig = SMALL.rig
    return Observation(
        time_s=step * 0.2,
        cameras={c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in rig.cameras},
        lidar=rng.random((16, 128, 2), dtype=np.float32) * 50,
        radar=rng.standard_normal((12, 4)).astype(np.float32),
        radar_valid=rng.random(12) < 0.5,
        ego=rng.random(7).astype(np.float32) * 3,
        instruction=instruction,
    )
