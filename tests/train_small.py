"""A whole training run, small: real scenes, the real reader, a narrow policy. Run as a program by test_train."""

import dataclasses
import sys
from pathlib import Path

from drivebyword.presets import tiny
from drivebyword.train.credit import CreditConfig
from drivebyword.train.loop import TrainConfig, train
from drivebyword.train.practice import PracticeConfig
from drivebyword.train.reinforce import ReinforceConfig
from drivebyword.train.rounds import RoundConfig


def small(steps: int = 10) -> TrainConfig:
    config = tiny()
    policy = config.policy
    policy = dataclasses.replace(
        policy,
        encoder=dataclasses.replace(policy.encoder, width=48, hidden=96, vision_layers=1, stem=16),
        decoder=dataclasses.replace(
            policy.decoder,
            width=64,
            layers=2,
            heads=4,
            kv_heads=2,
            head_width=16,
            hidden=96,
            moe_from=1,
            expert_hidden=48,
            shared_hidden=48,
        ),
    )
    # Rollouts are short, and whatever two of them earned differently teaches something.
    practice = PracticeConfig(scenes=2, rollouts=2, seconds=8.0, credit=CreditConfig(spread=0.0))
    rounds = (
        RoundConfig(demonstrations=2, rollouts=1, steps=steps, batch=4, practice=practice),
        RoundConfig(steps=steps, batch=4, frames=2, reinforce=ReinforceConfig(beta=0.5, kappa=0.1, share=0.5)),
    )
    return dataclasses.replace(config, policy=policy, rounds=rounds, save_every_s=0.0, warmup=3)


if __name__ == "__main__":
    train(small(), Path(sys.argv[1]))
