"""What crosses to gymnasium and back: rigs and Observations in, spaces and their elements out; actions in too."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float64

from drivebyword.core.records import Observation
from drivebyword.core.rig import RigConfig
from drivebyword.tokens import phrases
from drivebyword.world.saying import SENTENCE_BYTES


def observation_space(rig: RigConfig, render_sensors: bool) -> spaces.Dict:
    """Return the space of what a rig observes."""
    parts: dict[str, spaces.Space[Any]] = {}
    if render_sensors:
        for camera in rig.cameras:
            parts[f"camera_{camera.name}"] = spaces.Box(0, 255, (camera.height, camera.width, 3), np.uint8)
        if rig.lidar is not None:
            parts["lidar"] = spaces.Box(0.0, 200.0, (rig.lidar.beams, rig.lidar.columns, 2), np.float32)
        if rig.radar is not None:
            parts["radar"] = spaces.Box(-200.0, 200.0, (rig.radar.detections, 4), np.float32)
            parts["radar_valid"] = spaces.MultiBinary(rig.radar.detections)
    parts["ego"] = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    parts["instruction"] = spaces.Text(max_length=SENTENCE_BYTES, min_length=0, charset=_letters())
    return spaces.Dict(parts)


def _letters() -> str:
    """Return every character a passenger's own sentences hold: some are in other languages."""
    said = {letter for sentence in (*phrases.NULL_SENTENCES, *phrases.HELD_NULL_SENTENCES) for letter in sentence}
    return string.printable + "".join(sorted(said - set(string.printable)))


def action_space() -> spaces.Box:
    """Return the space of actuations: steering in [-1, 1], throttle and brake in [0, 1]."""
    return spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))


def actuation_of(action: Any) -> Float64[np.ndarray, " 3"]:
    """Return an action brought into range. Raises ValueError for what is not three finite numbers."""
    return within(action, (-1.0, 0.0, 0.0), "three finite numbers (steering, throttle, brake)")


def within(action: Any, low: tuple[float, ...], what: str) -> Float64[np.ndarray, " N"]:
    """Return an action clipped to [low, 1]. Raises ValueError where it is not `what`: a finite number for each."""
    try:
        given = np.asarray(action)
    except (ValueError, TypeError, OverflowError):
        given = np.empty(0)
    if given.shape != (len(low),) or given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise ValueError(f"the action must be {what}, got {' '.join(repr(action).split())[:80]}")
    return np.clip(given.astype(np.float64), low, 1.0)


def as_dict(seen: Observation, space: spaces.Dict | None = None) -> dict[str, Any]:
    """Return an observation as an element of the space.

    A space has no word for a missing sensor. With `space` given, as where sensors have faults, what is missing, or is
    no element of its part of it (another shape or type, not finite), reads zeros; `DrivingEnv.observation()` tells
    what it was.
    """
    parts: dict[str, Any] = {f"camera_{name}": image for name, image in seen.cameras.items()}
    if seen.lidar is not None:
        parts["lidar"] = seen.lidar
    if seen.radar is not None and seen.radar_valid is not None:
        parts["radar"], parts["radar_valid"] = seen.radar, seen.radar_valid.astype(np.int8)
    parts = {**parts, "ego": seen.ego, "instruction": seen.instruction}
    if space is None:
        return parts
    whole = {key: key in parts and _finite(parts[key]) and part.contains(parts[key]) for key, part in space.items()}
    if not whole.get("radar", True):
        whole["radar_valid"] = False
    return {
        key: parts[key] if whole[key] or part.shape is None else np.zeros(part.shape, part.dtype)
        for key, part in space.items()
    }


def _finite(value: Any) -> bool:
    return isinstance(value, str) or bool(np.isfinite(value).all())
