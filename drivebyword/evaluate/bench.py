"""How fast the world runs on this machine: nothing in, a bench report out (frames per CPU-second and parts).

One frame is the whole loop: SUMO, reading everybody, the ego's dynamics, every sensor, mission and referee.
The expert steers, outside the clock, so that the scene stays a drive. CPU time is counted, not wall time: the
figure is one core's, whatever else the machine does.
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
    spent: dict[str, float] = {}
    seed = _open_scene(env, crowded, 1, spent)
    place = env._place
    _clock(env.traffic, ("planned_speed", "step"), "sumo", spent)
    _clock(env.traffic, ("agents",), "gather", spent)
    _clock(place.sensors, ("observe",), "sensors", spent)
    total, counted, load = 0.0, 0, np.zeros(3)
    step = 0
    while counted < frames:
        if step == WARM_UP:
            spent.update(dict.fromkeys(spent, 0.0))
        planning = spent["sumo"]
        act = env.expert().act[0]
        planning = spent["sumo"] - planning  # half of SUMO's step is taken when its plan is asked for
        before = time.process_time()
        *_, info = env.step(act)
        taken = time.process_time() - before + planning
        if step >= WARM_UP:
            total, counted = total + taken, counted + 1
            load += *env.traffic.count(), len(env.snapshot().agent_key)
        step += 1
        if info["ended"] is not None:
            kept = dict(spent)
            seed = _open_scene(env, crowded, seed + 1, spent)
            spent.update(kept)
    rows = _rows(rig.name, total / counted, {k: v / counted for k, v in spent.items()}, load / counted)
    return rows | _floor(env, rig)


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


def _open_scene(env: Any, crowd: Any, seed: int, spent: dict[str, float]) -> int:
    """Start the first scene from `seed` on with the load around the ego."""
    while True:
        env.reset(seed=seed, options={"scenario": crowd})
        vehicles, people = env.traffic.count()
        if vehicles > VEHICLES and people > PEOPLE:
            _clock(env.traffic.signals, ("read",), "gather", spent)
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


def _rows(rig: str, frame_s: float, parts: dict[str, float], load: np.ndarray) -> dict[str, Any]:
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
    parts = {**parts, "rest": frame_s - sum(parts.values())}
    for name, seconds in parts.items():
        rows[f"{rig} rig: {name}"] = {
            "value": round(seconds * 1e3, 4), "unit": "ms CPU per frame", "ratio_to": "frame",
            "ratio": round(seconds / frame_s, 3),
        }  # fmt: skip
    return rows
