"""How fast the world runs on this machine: nothing in, a bench report out (frames per CPU-second and parts).

One frame is the whole loop: SUMO, reading everybody, the ego's dynamics, every sensor, mission and referee.
The expert steers once, so that the scene stays a drive; its acts are then driven again, to the byte, with nothing
but `step` in the loop. Where the time goes is clocked in a third drive: clocks cost time too. CPU time is counted,
not wall time: the figure is one core's, whatever else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from drivebyword.core.rig import RigConfig
from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from drivebyword.world.scenario import Scenario

FRAMES, WARM_UP = 400, 30
BARS = {"reference": 1000.0, "tiny": 500.0}
"""Frames per CPU-second each rig has to reach."""
VEHICLES, PEOPLE = 50, 15
"""The load: at least this many on the road."""
Drive = tuple[int, list[np.ndarray]]
"""A scene's seed, and the acts that were driven in it."""


def bench_world(frames: int = FRAMES) -> dict[str, Any]:
    """Return the report: both rigs, and where a frame's milliseconds go."""
    from drivebyword.world.rigs import reference, tiny

    rows: dict[str, Any] = {}
    for rig in (reference(), tiny()):
        rows.update(_measure(rig, frames))
    return {"bench": "world", "machine": machine(), "commit": commit(), "rows": rows}


def crowd() -> Scenario:
    """Return the load: a small town, so that most are within the sensors' reach; a few more, since some arrive."""
    from drivebyword.world.roads import TownConfig
    from drivebyword.world.scenario import Scenario

    town = TownConfig(style="grid", size=3, size_y=3, block=70.0, main_lanes=2, side_lanes=2, seed=7)
    return Scenario(name="bench", vehicles=(53, 53), people=(17, 17), town=town)


def _measure(rig: RigConfig, frames: int) -> dict[str, Any]:
    from drivebyword.world.env import DrivingEnv

    env, crowded = DrivingEnv(rig=rig), crowd()
    drives, load = _record(env, crowded, frames)
    total, _ = _replay(env, crowded, drives, {})
    spent: dict[str, float] = {}
    _clock(env.traffic, ("planned_speed", "step"), "sumo", spent)
    _clock(env.traffic, ("agents",), "gather", spent)
    _clock(env._place.sensors, ("observe",), "sensors", spent)
    whole, counted = _replay(env, crowded, drives, spent)
    rows = _rows(rig.name, total / counted, whole / counted, {k: v / counted for k, v in spent.items()}, load)
    return rows | _floor(env, rig)


def _record(env: Any, crowded: Scenario, frames: int) -> tuple[list[Drive], np.ndarray]:
    """Let the expert drive; return the drives, and vehicles, people and agents in reach of a mean frame."""
    drives: list[Drive] = []
    load: list[tuple[int, int, int]] = []
    seed = 0
    while len(load) < frames:
        seed = _open_scene(env, crowded, seed + 1)
        acts: list[np.ndarray] = []
        ended = None
        while len(load) < frames and ended is None:
            acts.append(env.expert().act[0])
            ended = env.step(acts[-1])[-1]["ended"]
            if len(acts) > WARM_UP:
                load.append((*env.traffic.count(), len(env.snapshot().agent_key)))
        drives.append((seed, acts))
    return drives, np.mean(load, axis=0)


def _replay(env: Any, crowded: Scenario, drives: list[Drive], spent: dict[str, float]) -> tuple[float, int]:
    """Drive the same again with nothing but `step` in the loop; return CPU seconds and frames without the warm-ups."""
    total, counted, parts = 0.0, 0, dict(spent)
    for seed, acts in drives:
        env.reset(seed=seed, options={"scenario": crowded})
        if spent:
            _clock(env.traffic.signals, ("read",), "gather", spent)
        for act in acts[:WARM_UP]:
            env.step(act)
        spent.update(parts)
        before = time.process_time()
        for act in acts[WARM_UP:]:
            env.step(act)
        total, counted, parts = total + time.process_time() - before, counted + len(acts[WARM_UP:]), dict(spent)
    return total, counted


def _floor(env: Any, rig: RigConfig) -> dict[str, Any]:
    """Return what casting the rig's rays alone costs: the same moment sensed again and again, everything in cache."""
    from drivebyword.world.ranging import PARTS
    from drivebyword.world.sensors import SUB_COLUMNS

    rays = SUB_COLUMNS * sum(camera.width for camera in rig.cameras)
    rays += PARTS * sum(sensor.columns for sensor in (rig.lidar, rig.radar) if sensor is not None)
    sensors, snapshot, best = env._place.sensors, env.snapshot(), float("inf")
    for _ in range(10):
        before = time.process_time()
        for k in range(20):
            sensors.observe(snapshot, env.weather, k)
        best = min(best, (time.process_time() - before) / 20)
    return {
        f"{rig.name} rig: rays": {"value": rays, "unit": "vertical planes cast per frame"},
        f"{rig.name} rig: a ray": {"value": round(best / rays * 1e6, 3), "unit": "us CPU"},
        f"{rig.name} rig: floor": {"value": round(1.0 / best, 1), "unit": "frames per CPU-second, rays alone"},
    }


def _open_scene(env: Any, crowded: Scenario, seed: int) -> int:
    """Start the first scene from `seed` on with the load around the ego."""
    while True:
        env.reset(seed=seed, options={"scenario": crowded})
        vehicles, people = env.traffic.count()
        if vehicles > VEHICLES and people > PEOPLE:
            return seed
        seed += 1


def _clock(owner: Any, names: tuple[str, ...], part: str, spent: dict[str, float]) -> None:
    """Count the CPU time of an object's methods under a part's name; nested calls count once."""
    spent.setdefault(part, 0.0)
    depth = [0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            depth[0] += 1
            before = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                depth[0] -= 1
                if depth[0] == 0:
                    spent[part] += time.process_time() - before

        return run

    for name in names:
        setattr(owner, name, timed(getattr(owner, name)))


def _rows(rig: str, frame_s: float, clocked_s: float, parts: dict[str, float], load: np.ndarray) -> dict[str, Any]:
    rate, bar = 1.0 / frame_s, BARS[rig]
    rows: dict[str, Any] = {
        f"{rig} rig": {
            "value": round(rate, 1), "unit": "frames per CPU-second", "ratio_to": "bar",
            "ratio": round(rate / bar, 3), "floor": bar,
        },
        f"{rig} rig: vehicles": {"value": round(float(load[0]), 1), "unit": "on the road", "floor": VEHICLES},
        f"{rig} rig: people": {"value": round(float(load[1]), 1), "unit": "on foot", "floor": PEOPLE},
        f"{rig} rig: agents": {"value": round(float(load[2]), 1), "unit": "within the sensors' reach"},
    }  # fmt: skip
    parts = {**parts, "rest": clocked_s - sum(parts.values())}
    for name, seconds in parts.items():
        rows[f"{rig} rig: {name}"] = {
            "value": round(seconds * 1e3, 4), "unit": "ms CPU per frame", "ratio_to": "frame",
            "ratio": round(seconds / clocked_s, 3),
        }  # fmt: skip
    return rows
