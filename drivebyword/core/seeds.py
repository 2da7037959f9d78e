"""Scene seeds in, permission out: which seeds may be trained on, validated on and tested on.

The split is enforced where data is written, so that no test scene can reach a training set by mistake.
"""

from __future__ import annotations

from collections.abc import Collection

TRAIN_SEEDS = range(0, 1_000_000)
VALIDATION_SEEDS = range(1_000_000, 2_000_000)
TEST_SEEDS = range(2_000_000, 2**31)
"""Ends where SUMO's own random seed ends."""


def split_of(seed: int) -> str:
    """Return `training`, `validation` or `test`."""
    if seed in TRAIN_SEEDS:
        return "training"
    if seed in VALIDATION_SEEDS:
        return "validation"
    if seed in TEST_SEEDS:
        return "test"
    raise ValueError(f"seed {seed} is outside [0, {TEST_SEEDS.stop}): choose a seed in that range")


def require_training_seed(seed: int, scenario: str = "", held_out: Collection[str] = ()) -> int:
    """Return the seed if its scene may be recorded for training, else raise ValueError.

    Args:
        seed: Scene seed.
        scenario: Scenario name; a family is the part before the first `/`.
        held_out: Scenario names or families kept for judging only.
    """
    if split_of(seed) != "training":
        raise ValueError(
            f"seed {seed} is a {split_of(seed)} seed: episodes for training need seeds in [0, {TRAIN_SEEDS.stop})"
        )
    if scenario in held_out or scenario.split("/")[0] in held_out:
        raise ValueError(
            f"scenario {scenario!r} is held out for judging: no episode of it may be recorded for training"
        )
    return seed
