"""A policy's name or checkpoint folder in, a Policy out: the one place that knows what `--policy` may say."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drivebyword.loop.driver import ConstantSpeed, Policy

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
"""Checkpoints that come with the package, one folder each."""


def policy_names() -> list[str]:
    """Return every name `--policy` knows."""
    shipped = sorted(folder.parent.name for folder in CHECKPOINTS.glob("*/config.json"))
    return [*shipped, "expert", "constant"]


def checkpoint_folder(name: str) -> Path:
    """Return where a shipped checkpoint, or one given as a folder, lies."""
    folder = CHECKPOINTS / name if (CHECKPOINTS / name / "config.json").exists() else Path(name)
    if not (folder / "config.json").exists():
        raise ValueError(unknown("policy", name, policy_names()) + ", or give the folder of a checkpoint")
    return folder


def load_policy(name: str, env: DrivingEnv, threads: int | None = None, engine: str = "torch") -> Policy:
    """Return the policy of that name, or of a checkpoint folder.

    Args:
        name: `tiny`, `expert`, `constant` or the path of a checkpoint.
        env: The world it will drive in; only the expert reads it.
        threads: CPU threads a network may use; None leaves torch's choice.
        engine: What computes a network: torch, onnx, fused, fused-bf16 or fused-int8.
    """
    if name == "constant":
        return ConstantSpeed()
    if name == "expert":
        from drivebyword.loop.rollout import ExpertPolicy

        return ExpertPolicy(env)
    folder = checkpoint_folder(name)
    from drivebyword.model.streaming import StreamingPolicy

    policy = StreamingPolicy.from_pretrained(folder, threads=threads, engine=engine)
    trained = policy.policy.config.rig
    if trained != env.rig:
        raise ValueError(f"{name} was trained on rig '{trained.name}' and drives no other, not '{env.rig.name}'")
    return policy


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Return one line for a name nobody knows: the nearest ones, else all."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"no {what} {name!r}; " + (
        f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(known)}"
    )
