"""Scene seeds in, permission out: which seeds may be trained on, validated on and tested on.

The split is enforced where data is written, so that no test scene can reach a training set by mistake.
"""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral
from typing import Any

TRAIN_SEEDS = range(0, 1_000_000)
VALIDATION_SEEDS = range(1_000_000, 2_000_000)
TEST_SEEDS = range(2_000_000, 2**31)
"""Ends where SUMO's own random seed ends."""


def require_seed(seed: Any) -> int:
    """Return a scene seed as a plain int. Raises ValueError for what is none."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < TEST_SEEDS.stop:
        raise ValueError(f"seed {seed!r} is no whole number in [0, {TEST_SEEDS.stop}): choose a seed in that range")
    return int(seed)


def seed_range(seeds: tuple[int, int]) -> tuple[int, int]:
    """Return [first, last) if it names scenes of one split. Raises ValueError."""
    if not isinstance(seeds, tuple) or len(seeds) != 2 or not all(isinstance(s, Integral) for s in seeds):
        raise ValueError(f"seeds {seeds!r} is no range: give (first, last) with last excluded")
    first, last = int(seeds[0]), int(seeds[1])
    if not first < last or split_of(first) != split_of(last - 1):
        raise ValueError(f"seeds ({first}, {last}) names no scenes of one split: use {TRAIN_SEEDS}, {VALIDATION_SEEDS}")
    return first, last


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
