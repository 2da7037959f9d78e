"""A policy's weights into a run and out of it: what it begins with, what learns how, what it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from drivebyword.model.adapters import AdapterConfig, adapt, folded, learning
from drivebyword.model.checkpoint import from_pretrained, save_pretrained
from drivebyword.model.policy import Policy, PolicyConfig
from drivebyword.train.sharding import Ranks, whole_copy


def take_weights(policy: Policy, folder: Path) -> None:
    """Begin with a checkpoint's weights. Raises ValueError where its architecture is another."""
    given = from_pretrained(folder)
    # It may read words another way, and remember fewer frames: what it lacks of a longer memory starts as drawn.
    if replace(given.config, stream=policy.config.stream, reader=policy.config.reader) != policy.config:
        raise ValueError(f"{folder} is of another architecture than the run's policy; choose its preset, or no --start")
    own = policy.state_dict()
    for name, value in given.state_dict().items():
        own[name][tuple(slice(n) for n in value.shape)] = value
    policy.load_state_dict(own)


def blend(folder: Path, start: Path, keep: float) -> None:
    """Mix a share of the weights a run began with into its finished checkpoint (WiSE-FT, Wortsman et al. 2022).

    Half way between the two a policy does what the run taught it, and has not forgotten what the run did not show.
    """
    policy, before = from_pretrained(folder), from_pretrained(start).state_dict()
    own = policy.state_dict()
    for name, value in before.items():
        part = own[name][tuple(slice(n) for n in value.shape)]
        if part.is_floating_point():
            part.lerp_(value, keep)
    policy.load_state_dict(own)
    save_pretrained(policy, folder)


def groups_of(policy: Policy, decay: float) -> list[dict[str, Any]]:
    """Decay matrices, not gains, biases and embeddings of one row."""
    matrices = [p for p in learning(policy) if p.ndim >= 2]
    others = [p for p in learning(policy) if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def save_average(
    average: Policy, config: PolicyConfig, adapters: AdapterConfig | None, window: int, folder: Path, ranks: Ranks
) -> None:
    """Save the average as a policy that remembers `window` frames; every process must ask, the first one writes."""
    if ranks.count > 1:
        like = Policy(config)
        average = whole_copy(average, like if adapters is None else adapt(like, adapters))
    policy = Policy(replace(config, stream=replace(config.stream, window=window)))
    held = folded(average).state_dict()
    cut = {name: held[name][tuple(slice(n) for n in value.shape)] for name, value in policy.state_dict().items()}
    policy.load_state_dict(cut)
    if ranks.first:
        save_pretrained(policy, folder)
    ranks.wait()
