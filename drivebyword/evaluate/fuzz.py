"""Nonsense in, a count of crashes out: fuzzed actions, scenarios, towns, weathers, rigs, cars and options.

What the world is given either works or is refused by a ValueError of one line, and after a refusal the world goes on
as if nothing had been said. Anything else is a crash; what takes longer than a minute is a hang. Runs in processes of
its own, so that a crash of compiled code is counted and not suffered.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.rig import CameraConfig, LidarConfig, RadarConfig, RigConfig, Weather
from drivebyword.evaluate.report import commit, machine
from drivebyword.loop.fleet import run_tasks
from drivebyword.world.env import DrivingEnv
from drivebyword.world.rigs import reference
from drivebyword.world.roads import TownConfig
from drivebyword.world.scenario import Scenario
from drivebyword.world.town import STYLES

ACTIONS, PARAMETERS = 100_000, 1000
HANG_S = 60
NUMBERS = (0, 1, -1, 2, 0.5, -0.5, 3, 7, 40, 100.0, 1000, 1e6, 1e9, -1e9, 2**31, 2**70, 1e308, np.nan, np.inf, -np.inf)
ODDITIES: tuple[Any, ...] = (
    None,
    "",
    "town",
    "left",
    (),
    (1,),
    (2, 1),
    (0, 3),
    (0.2, 0.8),
    (np.nan, 1.0),
    [],
    {},
    True,
    b"x",
    1j,
    object,
)
WRONG: tuple[Any, ...] = (
    None, "abc", "nan", (), [], {}, [[0, 0, 0]], [0, 0], [0, 0, 0, 0], [[0], [0, 0], 0], [None, 0, 0], ["a", 0, 0],
    np.zeros((3, 1)), np.zeros(0), np.zeros(3, complex), np.zeros(3, "S1"), np.array(["0", "0", "0"]), 0.5, object(),
    np.zeros(3, bool), [2**2000, 0, 0], [1j, 0, 0], np.zeros(3, "datetime64[s]"), {0: 1, 1: 0, 2: 0}, iter(()),
)  # fmt: skip
"""No actions: shapes, types and values that are not three numbers."""
Tally = dict[str, int]


def bench_fuzz(share: float = 1.0, processes: int = 2) -> dict[str, Any]:
    """Return the report of `share` of the whole: 100,000 actions and 1,000 parameters."""
    actions, parameters = max(100, round(ACTIONS * share)), max(20, round(PARAMETERS * share))
    with tempfile.TemporaryDirectory(prefix="drivebyword-fuzz-") as folder:
        tasks = [("actions", seed, min(2000, actions - seed)) for seed in range(0, actions, 2000)]
        tasks += [("parameters", seed, min(25, parameters - seed)) for seed in range(0, parameters, 25)]
        found: Tally = {}
        crashes: list[str] = []
        for done in run_tasks(partial(_worker, folder), tasks, processes):
            if done.error is not None:
                crashes.append(f"{done.task}: {done.error}")
                continue
            tally, said = done.value
            crashes += said
            for name, count in tally.items():
                found[name] = found.get(name, 0) + count
    rows: dict[str, Any] = {name: {"value": found[name], "unit": "times"} for name in sorted(found)}
    rows["fuzzed actions"] = {"value": found["actions: taken"] + found["actions: refused"], "unit": "actions"}
    rows["fuzzed parameters"] = {
        "value": found["parameters: taken"] + found["parameters: refused"],
        "unit": "configurations",
    }
    rows["crashes"] = {"value": len([c for c in crashes if "hang" not in c]), "unit": "times", "ceiling": 0}
    rows["hangs"] = {"value": len([c for c in crashes if "hang" in c]), "unit": "times", "ceiling": 0}
    report: dict[str, Any] = {"bench": "fuzz", "machine": machine(), "commit": commit(), "rows": rows}
    return {**report, "crashes": crashes[:50]}


def _worker(folder: str) -> Callable[[tuple[str, int, int]], tuple[Tally, list[str]]]:
    os.environ["DRIVEBYWORD_CACHE"] = folder  # towns nobody will want again
    signal.signal(signal.SIGALRM, _hung)

    def work(task: tuple[str, int, int]) -> tuple[Tally, list[str]]:
        kind, seed, count = task
        return (fuzz_actions if kind == "actions" else fuzz_parameters)(seed, count)

    return work


def _hung(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("hang")


@contextmanager
def _watched(what: str, tally: Tally, crashes: list[str]) -> Iterator[None]:
    """Count what the block did: taken, refused in one line, or crashed."""
    kind = what.partition(" ")[0]
    signal.alarm(HANG_S)
    try:
        yield
        tally[f"{kind}: taken"] = tally.get(f"{kind}: taken", 0) + 1
    except ValueError as refusal:
        tally[f"{kind}: refused"] = tally.get(f"{kind}: refused", 0) + 1
        if "\n" in str(refusal) or not 10 <= len(str(refusal)) <= 500:
            crashes.append(f"{what}: refused unclearly: {str(refusal)[:200]!r}")
    except TimeoutError:
        crashes.append(f"{what}: hang")
    except Exception as error:  # Any other error is what is looked for.
        crashes.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
    finally:
        signal.alarm(0)


# --------------------------------------------------------------------------- actions


def fuzz_actions(seed: int, count: int) -> tuple[Tally, list[str]]:
    """Step a world with `count` actions, sound and unsound; every tenth batch with its sensors on."""
    rng, tally, crashes = np.random.default_rng([seed, 61]), dict[str, int](), list[str]()
    env = DrivingEnv(rig=reference(), render_sensors=seed % 20_000 == 0)
    over = True
    for k in range(count):
        if over:
            env.reset(seed=int(rng.integers(1_000_000, 1_001_000)), options={"scenario": CONFIGS["scenario"]})
        action, sound = draw_action(rng)
        before, refused = env.snapshot().time_s, tally.get("actions: refused", 0)
        with _watched(f"actions {seed + k} {action!r}"[:160], tally, crashes):
            _, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            if not np.isfinite(reward) or not np.isfinite(env.observation().ego).all():
                raise AssertionError("a sound action gave what is not finite")
        was_refused = tally.get("actions: refused", 0) > refused
        if sound == was_refused or (was_refused and env.snapshot().time_s != before):
            crashes.append(f"actions {seed + k} {action!r}"[:160] + ": sound refused, unsound taken, or moved by it")
    env.close()
    return tally, crashes


def draw_action(rng: np.random.Generator) -> tuple[Any, bool]:
    """Return an action and whether it is one."""
    action: Any = rng.uniform((-1, 0, 0), (1, 1, 1))
    kind = rng.random()
    if kind < 0.5:
        return action * (0.04, 1.0, 0.4), True
    if kind < 0.65:
        return action * 10.0 ** rng.uniform(-300, 300), True
    if kind < 0.75:
        return [action.tolist(), action.astype(np.float32), (1, 0, 0), np.array([-1, 1, 0], np.int8)][
            int(rng.integers(4))
        ], True
    if kind < 0.9:
        action[rng.integers(3)] = [np.nan, np.inf, -np.inf][int(rng.integers(3))]
        return action, False
    return WRONG[int(rng.integers(len(WRONG)))], False


# --------------------------------------------------------------------------- parameters


def fuzz_parameters(seed: int, count: int) -> tuple[Tally, list[str]]:
    """Build `count` configurations with random fields; drive a second in each that is not refused."""
    tally, crashes = dict[str, int](), list[str]()
    for k in range(seed, seed + count):
        rng = np.random.default_rng([k, 67])
        drawn = draw_changes(rng)
        with _watched(f"parameters {k} {drawn!r}"[:400], tally, crashes):
            _try(*drawn, seed=k)
    return tally, crashes


TOWN = TownConfig(style="road", size=3, block=120.0, crossings=False, seed=3)
"""Small, so that what is fuzzed is not how fast towns are drawn."""
Changes = tuple[str, dict[str, Any]]
CONFIGS: dict[str, Any] = {
    "scenario": Scenario(name="fuzzed", vehicles=(2, 6), people=(1, 3), town=TOWN),
    "town": TOWN,
    "weather": Weather(),
    "camera": CameraConfig(name="front", width=32, height=16, fov_deg=90.0),
    "lidar": LidarConfig(columns=32, beams=4),
    "radar": RadarConfig(columns=16, rows=2, detections=4),
    "car": CarConfig(),
}
RESETS = ("seed", "scenario", "weather", "instruction", "wording", "until_s", "nonsense")


def draw_changes(rng: np.random.Generator) -> Changes:
    """Return what to build and its fields' new values."""
    kinds = [*CONFIGS, "town", "options"]
    kind = kinds[int(rng.integers(len(kinds)))]
    names = [f.name for f in fields(CONFIGS[kind])] if kind in CONFIGS else list(RESETS)
    chosen = rng.choice(names, size=int(rng.integers(1, 4)), replace=False)
    return kind, {str(name): _value(rng, CONFIGS.get(kind), str(name)) for name in chosen}


def _value(rng: np.random.Generator, config: Any, name: str) -> Any:
    """Draw a field's value: near what it was, any number, or no number at all."""
    now, kind = getattr(config, name, None), rng.random()
    if name == "style" and kind < 0.8:
        return str(rng.choice(STYLES))
    if kind < 0.45 and isinstance(now, int | float) and not isinstance(now, bool):
        near = now * rng.uniform(0.3, 2.5) + rng.uniform(-0.5, 0.5)
        return round(near) if isinstance(now, int) else near
    if kind < 0.45 and isinstance(now, tuple) and len(now) == 2:
        return tuple(sorted(int(v) for v in rng.integers(0, 8, 2)))
    if kind < 0.8:
        return NUMBERS[int(rng.integers(len(NUMBERS)))]
    return ODDITIES[int(rng.integers(len(ODDITIES)))]


def _try(kind: str, changes: dict[str, Any], seed: int) -> None:
    """Build the configuration and drive a second with it."""
    if kind == "options":
        env, options = DrivingEnv(render_sensors=False), dict(changes)
        env.reset(seed=1_000_000 + seed)
        try:
            env.reset(seed=options.pop("seed", 5), options=options)
        finally:
            env.reset(seed=1_000_000 + seed)  # whatever was said, the world can be started again
        return
    made = replace(CONFIGS[kind], **changes)
    rig = RigConfig(name="fuzzed", cameras=(CONFIGS["camera"],), lidar=CONFIGS["lidar"], radar=CONFIGS["radar"])
    car, scenario, options = CarConfig(), CONFIGS["scenario"], dict[str, Any]()
    if kind == "camera":
        rig = replace(rig, cameras=(made,))
    elif kind in ("lidar", "radar"):
        rig = replace(rig, **{kind: made})
    elif kind == "car":
        car = made
    elif kind == "weather":
        options["weather"] = made
    else:
        scenario = made if kind == "scenario" else replace(scenario, town=made)
    if _is_huge(rig):
        return
    env = DrivingEnv(rig=rig, car=car, scenario=scenario)
    env.reset(seed=1_000_000 + seed, options=options)
    for k in range(5):
        seen, reward, terminated, truncated, _ = env.step(np.array([0.2 * np.sin(k), 0.7, 0.0]))
        numbers = (seen["ego"], seen.get("lidar", 0.0), seen.get("radar", 0.0), reward)
        if not all(np.isfinite(part).all() for part in numbers):
            raise AssertionError("an observation or reward is not finite")
        if terminated or truncated:
            break
    env.close()


def _is_huge(rig: RigConfig) -> bool:
    """Tell whether a rig is sound but too large to be drawn a thousand times."""
    pixels = sum(camera.width * camera.height for camera in rig.cameras)
    rays = (rig.lidar.columns * rig.lidar.beams if rig.lidar else 0) + (
        rig.radar.columns * rig.radar.rows if rig.radar else 0
    )
    return pixels + rays > 400_000
