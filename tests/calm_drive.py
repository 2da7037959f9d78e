"""A drive that nothing is wrong with, to be spoilt by one change at a time."""

from __future__ import annotations

import numpy as np

from drivebyword.core.records import DECISIONS, Episode, InstructionRecord
from drivebyword.core.rig import Weather


def decision(name, frames):
    """Return reason rows that all say one decision."""
    return np.tile([DECISIONS.index(name), 0, 0], (frames, 1)).astype(np.int64)


def told(intent, outcome="fulfilled", step=0, resolved=None, branches=3):
    """Return one instruction."""
    return InstructionRecord(
        step=step, sentence=f"say {intent}", intent=intent, deadline_s=30.0, outcome=outcome,
        resolved_step=resolved, branches=branches,
    )  # fmt: skip


def calm_drive(frames=100, speed=8.0, **changes):
    """Return an episode straight ahead at constant speed, on the lane's centre, to the end of its route."""
    zeros = np.zeros(frames, np.float32)
    motion = np.zeros((frames, 5), np.float32)
    motion[:, 0] = speed
    act = np.zeros((frames, 4, 3), np.float32)
    act[:, :, 1] = 0.05
    pose = np.stack([np.arange(frames) * speed * 0.2, zeros, zeros], axis=1).astype(np.float64)
    values = {
        "scenario": "town", "seed": 2_000_000, "driver": "policy", "dt": 0.2, "map_id": "m", "weather": Weather(),
        "rig": "tiny", "instructions": [told("follow")], "time_s": np.arange(frames) * 0.2, "pose": pose,
        "motion": motion, "instruction_index": np.zeros(frames, np.int64), "act": act,
        "reason": decision("go", frames), "actuation": act[:, 0].copy(), "disturbed": np.zeros(frames, bool),
        "verdict": np.zeros(frames, np.int64), "verdict_why": [""] * frames, "expert_act": act[:, 0].copy(),
        "expert_reason": decision("go", frames), "expert_plan": np.zeros((frames, 8, 2), np.float32),
        "expert_speed": zeros + speed, "affordances": np.zeros((frames, 10), np.float32),
        "events": np.zeros(frames, np.int64),
        "route_completion": np.linspace(0, 1, frames, dtype=np.float32), "lane_offset": zeros.copy(),
        "time_to_collision": np.full(frames, np.inf, np.float32), "ended": "arrived",
        "ego_observed": np.zeros((frames, 7), np.float32),
    }  # fmt: skip
    return Episode(**{**values, **changes})


def events(flag, at, frames=100, lasting=1):
    """Return an events column with one stretch of a flag."""
    column = np.zeros(frames, np.int64)
    column[at : at + lasting] = int(flag)
    return column
