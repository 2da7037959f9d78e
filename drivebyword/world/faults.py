"""Faults at work: clean observations in, what a driver with broken sensors gets out.

First every sensor's own faults, in their order, then the clock's, which deliver what was ready at another time. The
same scene breaks in the same way every time. What a fault makes malformed is malformed: an Observation that carries it
no longer has the shapes and types it promises.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np

from drivebyword.core.faults import FaultConfig
from drivebyword.core.records import Observation
from drivebyword.core.rig import LidarConfig, RigConfig
from drivebyword.world.rainfall import FAR, NEAR, packed

KEPT_S = 10.0
"""Longest delay."""
EVERY = 50
"""Of an array's numbers the first and then every so many is not finite, or denormal."""
_NUMBER = {"nan": np.nan, "inf": np.inf, "denormal": 1e-40}


class Faults:
    """The faults of one scene.

    Args:
        faults: What goes wrong.
        rig: The car's sensors.
        seed: The scene's.
        dt: Decision period in seconds.

    Raises:
        ValueError: If a fault is of a sensor the rig does not carry.
    """

    def __init__(self, faults: tuple[FaultConfig, ...], rig: RigConfig, seed: int, dt: float) -> None:
        names = (*rig.sensor_names(), *("camera",) * bool(rig.cameras), "ego", "clock")
        for fault in faults:
            if fault.sensor not in names:
                raise ValueError(
                    f"fault {fault.name}: rig '{rig.name}' has no {fault.sensor!r}, only {', '.join(names)}"
                )
        self.faults, self.rig, self.seed, self.dt = faults, rig, seed, dt
        self._ready: deque[Observation] = deque(maxlen=round(KEPT_S / dt) + 2)
        self._held: dict[int, Observation] = {}
        self._step = -1

    def active(self, time_s: float) -> tuple[str, ...]:
        """Return the names of the faults that are on at a time."""
        return tuple(fault.name for fault in self.faults if fault.strikes(time_s, self.dt))

    def apply(self, clean: Observation) -> Observation:
        """Return what arrives at one decision; asking twice for one decision changes nothing."""
        if not self.faults:
            return clean
        now, step = clean.time_s, round(clean.time_s / self.dt)
        if self._ready and self._step >= step:
            self._ready.pop()
        self._step = step
        seen = clean
        for number, fault in enumerate(self.faults):
            if fault.group != "clock" and fault.strikes(now, self.dt):
                self._held.setdefault(number, self._ready[-1] if self._ready else clean)
                rng = np.random.default_rng([self.seed, 73, number, step])
                seen = self._strike(seen, fault, self._held[number], rng)
        self._ready.append(seen)
        for number, fault in enumerate(self.faults):
            if fault.group == "clock" and fault.strikes(now, self.dt):
                seen = self._late(seen, fault, np.random.default_rng([self.seed, 79, number, step]))
        return seen

    def _late(self, seen: Observation, fault: FaultConfig, rng: np.random.Generator) -> Observation:
        """Deliver what the clock's fault delivers."""
        turn = round((self._step * self.dt - fault.start_s) / self.dt)
        back = 0
        if fault.kind == "ahead":
            return replace(seen, time_s=seen.time_s + fault.strength)
        if fault.kind == "nan":
            return replace(seen, time_s=float("nan"))
        if fault.kind == "delay":
            back = round(fault.strength / self.dt)
        elif fault.kind == "spikes":
            back = round(rng.uniform(0.1, fault.strength) / self.dt) if rng.random() < 0.2 else 0
        elif fault.kind == "out_of_order":
            back = 2 if turn % 3 == 2 else 0
        elif fault.kind == "duplicate":
            back = turn % 2
        # The sentence is typed into the driver, not seen: it is never late.
        return replace(self._ready[max(-1 - back, -len(self._ready))], instruction=seen.instruction)

    def _strike(
        self, seen: Observation, fault: FaultConfig, held: Observation, rng: np.random.Generator
    ) -> Observation:
        if fault.group == "camera":
            struck = [name for name in seen.cameras if fault.sensor in ("camera", name)]
            cameras = dict(seen.cameras)
            for name in struck:
                reading = _picture(cameras[name], fault, held.cameras.get(name, cameras[name]))
                cameras.pop(name) if reading is None else cameras.update({name: reading})
            return forced(seen, cameras=cameras)
        reading = getattr(seen, fault.group)
        if reading is None:
            return seen
        if fault.kind == "frozen":
            new = getattr(held, fault.group)
            return forced(seen, **{fault.group: new}, **_with_mask(fault, held.radar_valid))
        if fault.kind == "missing":
            return forced(seen, **{fault.group: None}, **_with_mask(fault, None))
        if fault.kind in ("wrong_shape", "wrong_dtype", *_NUMBER):
            return forced(seen, **{fault.group: malformed(reading, fault.kind)})
        if fault.group == "lidar":
            assert self.rig.lidar is not None
            return forced(seen, lidar=_scan(reading, fault, self.rig.lidar, rng))
        return _echoes(seen, fault) if fault.group == "radar" else _motion(seen, fault)


def forced(seen: Observation, **fields: Any) -> Observation:
    """Return a copy with other fields, whatever they are: a broken sensor keeps no promise."""
    out = copy.copy(seen)
    for name, value in fields.items():
        object.__setattr__(out, name, value)
    return out


def malformed(reading: np.ndarray, kind: str) -> np.ndarray:
    """Return an array of the wrong shape or type, or with numbers that are none."""
    if kind == "wrong_shape":
        return reading[:-1].copy()
    if kind == "wrong_dtype":
        return reading.astype(np.float64)
    out = reading.copy()
    out.reshape(-1)[::EVERY] = _NUMBER[kind]
    return out


def _with_mask(fault: FaultConfig, mask: np.ndarray | None) -> dict[str, Any]:
    return {"radar_valid": mask} if fault.group == "radar" else {}


def _picture(image: np.ndarray, fault: FaultConfig, held: np.ndarray) -> np.ndarray | None:
    """Return a camera's picture, None for none."""
    kind = fault.kind
    if kind in ("black", "white"):
        return np.full_like(image, 255 * (kind == "white"))
    if kind == "frozen":
        return held
    if kind == "missing":
        return None
    if kind == "occluded":
        out = image.copy()
        out[:, : round(fault.strength * image.shape[1])] = 0
        return out
    if kind == "blur":
        return _blurred(image, int(fault.strength))
    if kind == "colour_swap":
        return image[..., ::-1].copy()
    if kind == "flip":
        return image[:, ::-1].copy()
    return malformed(image, kind)


def _blurred(image: np.ndarray, reach: int) -> np.ndarray:
    """Average over a square of `reach` pixels to each side; at the edges over what is there of it."""
    out = image.astype(np.float64)
    for axis in (0, 1):
        total = np.cumsum(np.insert(out, 0, 0.0, axis=axis), axis=axis)
        at = np.arange(image.shape[axis])
        low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, image.shape[axis])
        count = (high - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        out = (total.take(high, axis) - total.take(low, axis)) / count
    return np.round(out).astype(np.uint8)


def _scan(scan: np.ndarray, fault: FaultConfig, config: LidarConfig, rng: np.random.Generator) -> np.ndarray:
    out = scan.copy()
    if fault.kind == "empty":
        out[:] = 0.0
    elif fault.kind == "dropout":
        out[rng.random(scan.shape[:2]) < fault.strength] = 0.0
    elif fault.kind == "offset":
        out[..., 0] += np.where(out[..., 0] > 0.0, np.float32(fault.strength), np.float32(0.0))
    elif fault.kind == "rain":
        splash = rng.random(scan.shape[:2]) < fault.strength
        out[splash, 0], out[splash, 1] = rng.uniform(NEAR, FAR, int(splash.sum())), 0.04
    else:  # a ghost: a wall as wide and high as a car
        azimuth, rise = config.azimuths(), config.elevations()[:, None]
        level = fault.strength / np.maximum(np.cos(azimuth), 1e-3)
        height = config.z + level * np.tan(rise)
        struck = (np.abs(level * np.sin(azimuth)) < 0.9) & (np.cos(azimuth) > 0.0) & (height > 0.2) & (height < 1.5)
        out[struck, 0], out[struck, 1] = (level / np.cos(rise))[struck], 0.3
    return out


def _echoes(seen: Observation, fault: FaultConfig) -> Observation:
    assert seen.radar is not None and seen.radar_valid is not None
    if fault.kind == "empty":
        return replace(seen, radar=np.zeros_like(seen.radar), radar_valid=np.zeros_like(seen.radar_valid))
    if fault.kind == "velocity_sign":
        return replace(seen, radar=seen.radar * np.array([1.0, 1.0, -1.0, 1.0], np.float32))
    ghost = np.array([[fault.strength, 0.0, -seen.ego[0], 10.0]], np.float32)
    found = np.concatenate([ghost, seen.radar])
    radar, valid = packed(found, np.append(True, seen.radar_valid), len(seen.radar))
    return replace(seen, radar=radar, radar_valid=valid)


def _motion(seen: Observation, fault: FaultConfig) -> Observation:
    ego = seen.ego.copy()
    if fault.kind == "no_speed":
        ego[0] = 0.0
    elif fault.kind == "scaled_speed":
        ego[0] *= np.float32(fault.strength)
    else:  # yaw_bias
        ego[1] += np.float32(np.radians(fault.strength))
    return replace(seen, ego=ego)
