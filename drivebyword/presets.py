"""Complete runs by name: functions that return a whole configuration; a variant is `dataclasses.replace`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig
    from drivebyword.model.backbone import DecoderConfig
    from drivebyword.train.loop import TrainConfig


def _aids() -> tuple[RescueConfig, RescueConfig, DisturbanceConfig]:
    """Return an expert that takes over early, one that waits, and pushes that leave much to recover from."""
    from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig

    late = RescueConfig(steering_gap=0.7, sideways=25.0, lane_offset=2.0, standing_s=6.0)
    return RescueConfig(), late, DisturbanceConfig(every_s=5.0, duration_s=(0.4, 1.8), steering=0.5)


def tiny() -> TrainConfig:
    """Return the run from nothing, two hours on two CPU cores.

    What is shipped began with an earlier schedule and went on by `further`; this one has not made its equal yet
    (docs/LOG.md, 2026-12-01).
    """
    from drivebyword.model.policy import PolicyConfig
    from drivebyword.train.loop import TrainConfig
    from drivebyword.train.rounds import RoundConfig
    from drivebyword.world import rigs

    rig = rigs.tiny()
    # Scenes are cheap, and a policy shown few of them learns the towns by heart (docs/LOG.md, 2026-11-22). From the
    # second round on it drives; an expert that takes over early keeps the young policy's scenes going, one that waits
    # lets the older one reach the states it must learn to return from. Windows of several frames are `frames=3`.
    early, late, pushed = _aids()
    young = (early, late, early, late, None, late, early, late, None, late)
    # Towards the end it drives alone every second time, under the guard in turn: who is judged both ways learns both.
    grown = ((late, False), (None, True), (late, True), (None, False))
    # One sentence in seven asks for a stop, in one frame of 700 a moving car gives way to somebody on foot: a third of
    # the rounds is driven where half of the sentences ask for stops, a third where the streets are full of people.
    rare = ("town-errands", "town-crowd", None)
    shown = (100, 80, *(0,) * 8)
    rounds = (
        RoundConfig(demonstrations=420, steps=800),
        RoundConfig(demonstrations=100, disturbance=pushed, rollouts=20, rescue=early, steps=600),
        *(
            RoundConfig(demonstrations=shown[number], scenario=rare[number % 3], rollouts=20, rescue=rescue, steps=600)
            for number, rescue in enumerate(young)
        ),
        *(
            RoundConfig(scenario=rare[number % 3], rollouts=24, rescue=rescue, guarded=guarded, steps=600)
            for number, (rescue, guarded) in enumerate(grown * 3)
        ),
        RoundConfig(steps=400),
    )
    return TrainConfig(name="tiny", rig=rig, policy=PolicyConfig(rig=rig), rounds=rounds)


def tiny_practice() -> TrainConfig:
    """Return the run that takes a finished imitation further by its own driving: begins with `--start` and `--data`.

    Every round it drives some scenes several times by lot, most where it fails, and learns from what the rollouts
    earned and from the expert's labels of the same states, beside the recordings of the imitation.
    """
    from dataclasses import replace

    from drivebyword.core.exploration import ExplorationConfig
    from drivebyword.train.curriculum import CurriculumConfig
    from drivebyword.train.practice import PracticeConfig
    from drivebyword.train.reinforce import ReinforceConfig
    from drivebyword.train.rounds import RoundConfig

    practice = PracticeConfig(scenes=8, rollouts=6, exploration=ExplorationConfig(temperature=0.7))
    reinforce = ReinforceConfig(beta=0.5, kappa=0.1, share=0.5)
    rounds = (
        RoundConfig(demonstrations=20, steps=60, practice=practice),
        *(RoundConfig(steps=400, practice=practice, reinforce=reinforce),) * 8,
        RoundConfig(steps=200, reinforce=reinforce),
    )
    return replace(
        tiny(), name="tiny-practice", rounds=rounds, learning_rate=1e-4, warmup=50, average=0.99,
        curriculum=CurriculumConfig(families=("town-mixed", "town-errands", "town-crowd")),
    )  # fmt: skip


def tiny_cycle() -> TrainConfig:
    """Return the same, as short as one turn of `iterate` allows: half an hour on two quiet cores, judging included."""
    from dataclasses import replace

    base = tiny_practice()
    return replace(base, name="tiny-cycle", rounds=(*base.rounds[:3], base.rounds[-1]))


def further() -> TrainConfig:
    """Return the run that goes on from a finished tiny (`--start`), twenty minutes on two CPU cores.

    It drives what it learns from itself, where there is much of what is rare in a town: people on foot, stops. Earlier
    runs' recordings (`--data`) keep the rest alive. With so few scenes it forgets some of what it knew: the checkpoint
    is half way between where the run began and where it came.
    """
    from dataclasses import replace

    from drivebyword.train.rounds import RoundConfig

    base = tiny()
    early, late, pushed = _aids()
    errands, crowd = "town-errands", "town-crowd"
    rounds = (
        RoundConfig(demonstrations=110, scenario=crowd, disturbance=pushed, rollouts=16, rescue=early, steps=300),
        RoundConfig(rollouts=18, scenario=crowd, rescue=late, steps=500),
        RoundConfig(rollouts=20, scenario=crowd, steps=600),
        RoundConfig(rollouts=22, scenario=errands, steps=400),
        RoundConfig(steps=600),
    )
    return replace(base, name="further", rounds=rounds, learning_rate=5e-4, cooldown=0.5, seed=8, keep=0.5)


def random_reader() -> TrainConfig:
    """Return the control run for the reader: the shipped policy behind a language model that never learned anything.

    It begins with a finished run's weights and its recordings (`--start`, `--data`), and learns the meaningless words.
    """
    from dataclasses import replace

    from drivebyword.model.reader import ReaderConfig
    from drivebyword.train.rounds import RoundConfig

    base = tiny()
    policy = replace(base.policy, reader=ReaderConfig(weights="random"))
    rounds = (RoundConfig(steps=900),)
    return replace(base, name="random-reader", policy=policy, rounds=rounds, warmup=50, cooldown=0.9)


def small() -> TrainConfig:
    """Return the run whose decoder is SmolLM2-135M, weights and all; a GPU's work."""
    from dataclasses import replace

    from drivebyword.model.frame import EncoderConfig
    from drivebyword.model.pretrained import SMOLLM2

    base = tiny()
    encoder = EncoderConfig(width=384, heads=6, hidden=1536, vision_layers=6, lidar_tokens=32, radar_tokens=8)
    policy = replace(base.policy, encoder=encoder, decoder=SMOLLM2)
    return replace(base, name="small", policy=policy, decoder_weights="smollm2", learning_rate=3e-4)


def _large(name: str, decoder: DecoderConfig) -> TrainConfig:
    """Return a run with seven cameras, a finer LiDAR and a vision transformer of ViT-L's size."""
    from dataclasses import replace

    from drivebyword.model.frame import EncoderConfig
    from drivebyword.world import rigs

    base, rig = tiny(), rigs.seven_camera()
    encoder = EncoderConfig(
        width=1024, heads=16, hidden=4096, vision_layers=24, stem=64, lidar_tokens=64, radar_tokens=16,
        grounded_tokens=16, glance=512,
    )  # fmt: skip
    policy = replace(base.policy, rig=rig, encoder=encoder, decoder=decoder)
    return replace(base, name=name, rig=rig, policy=policy, learning_rate=1e-4)


def base() -> TrainConfig:
    """Return the run of two billion parameters; its decoder has SmolLM2-1.7B's shape and can start from it."""
    from drivebyword.model.backbone import DecoderConfig

    return _large("base", DecoderConfig(
        width=2048, layers=24, heads=32, kv_heads=32, head_width=64, hidden=8192, theta=130_000.0, experts=0,
    ))  # fmt: skip


def base_moe() -> TrainConfig:
    """Return the same with DeepSeek-V2-Lite's decoder: 2.6 of 15.7 billion parameters a token."""
    from drivebyword.model.attention import LatentConfig, RopeScaling
    from drivebyword.model.backbone import DecoderConfig
    from drivebyword.model.experts import RoutingConfig

    return _large("base-moe", DecoderConfig(
        width=2048, layers=27, heads=16, kv_heads=16, head_width=64, hidden=10944, norm_eps=1e-6, moe_from=1,
        experts=64, experts_per_token=6, expert_hidden=1408, shared_hidden=2816,
        latent=LatentConfig(rank=512, plain_width=128, rope_width=64, value_width=128),
        routing=RoutingConfig(scores="softmax", shares=False),
        scaling=RopeScaling(kind="yarn", factor=40.0, original=4096, sharpness=1.589626),
    ))  # fmt: skip


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "tiny": tiny,
    "tiny-practice": tiny_practice,
    "tiny-cycle": tiny_cycle,
    "further": further,
    "random-reader": random_reader,
    "small": small,
    "base": base,
    "base-moe": base_moe,
}


SIZED = ("tiny", "small", "base", "base-moe")
"""The presets that differ in size."""


def preset(name: str) -> TrainConfig:
    """Return a preset by name; ValueError names the nearest for an unknown one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1, 0.3) or sorted(PRESETS)
        raise ValueError(f"unknown preset {name!r}; did you mean {near[0]!r}? There are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
