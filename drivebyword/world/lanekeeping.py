"""Lane keeping as a small gymnasium task: steering and one pedal in, eleven numbers of ground truth and a reward out.

It is for people who want to learn to drive by reinforcement in minutes on a CPU, with a library of their own. The car,
the towns and SUMO are the world's; the streets are empty, bent and one lane wide each way, and signals are out. The
observation is the truth about the lane, not sensors: this is no perception task.

    observation  speed / 15 m/s, steering, yaw rate / (1 rad/s), offset from the lane's centre / m (left positive),
                 heading from the lane's / rad, the speed limit / 15 m/s, and how far to the left the lane's centre is
                 5, 10, 15, 25, 40 m on, in the ego's frame, over that distance
    action       steering in [-1, 1] (left positive; 1 is half of the car's lock), pedal in [-1, 1]: throttle above 0
    reward       a step: metres made along the lane / metres at the limit, at most 1, less 0.5 x (offset / m) squared;
                 LEAVING for the step that leaves the lane, which ends the episode
    start        standing or rolling, on a lane of a town of the seed's split; 60 s long (a gymnasium time limit)
"""

from __future__ import annotations

from dataclasses import replace
from math import cos, sin
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32

from drivebyword.core.geometry import wrap_angle
from drivebyword.core.kinematics import CarState
from drivebyword.core.seeds import TRAIN_SEEDS, require_seed, seed_range, split_of
from drivebyword.world.env import DrivingEnv
from drivebyword.world.observing import within
from drivebyword.world.roads import TownConfig
from drivebyword.world.scenario import Scenario
from drivebyword.world.town import SPLIT_STARTS
from drivebyword.world.wayfinding import Way, Wayfinder

PREVIEW = (5.0, 10.0, 15.0, 25.0, 40.0)
"""Metres ahead at which the lane is looked at."""
TOWNS = 8
"""Towns a split has."""
EMPTY = Scenario(name="lane-keeping", instructions=(0, 0), vehicles=(0, 0), people=(0, 0))
LEFT_LANE, ASTRAY = 1.25, 1.0
"""Metres from the centre, and radians from the heading, at which the car has left its lane."""
LEAVING = -5.0
OFFSET_WEIGHT = 0.5
LOCK = 0.5
"""Share of the car's steering that an action of 1 asks for."""


class LaneKeeping(gymnasium.Env[Float32[np.ndarray, " 11"], Float32[np.ndarray, " 2"]]):
    """Follow an empty, winding street."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - gymnasium's name

    def __init__(
        self, render_mode: str | None = None, seeds: tuple[int, int] = (TRAIN_SEEDS.start, TRAIN_SEEDS.stop)
    ) -> None:
        """Make the task; `seeds` [first, last) are those a reset without a seed draws from."""
        self.driving = DrivingEnv(render_sensors=False, render_mode=render_mode)
        self.render_mode, self.seeds = render_mode, seed_range(seeds)
        self.observation_space = spaces.Box(-np.inf, np.inf, (6 + len(PREVIEW),), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._wayfinder: Wayfinder
        self._way: Way

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " 11"], dict[str, Any]]:
        """Start on a street; None draws a seed. There are no options."""
        if options:
            raise ValueError(f"unknown option {sorted(options)[0]!r}: lane keeping has none")
        seed = None if seed is None else require_seed(seed)
        super().reset(seed=seed)
        seed = int(self.np_random.integers(*self.seeds)) if seed is None else seed
        town = town_of(seed)
        self.driving.reset(seed=seed, options={"scenario": replace(EMPTY, town=town)})
        self._wayfinder = Wayfinder(self.driving.graph, self.driving.car)
        return self._look(), self._info(False)

    def step(self, action: Any) -> tuple[Float32[np.ndarray, " 11"], float, bool, bool, dict[str, Any]]:
        """Hold steering and pedal for one decision period of 0.2 s."""
        steering, pedal = within(action, (-1.0, -1.0), "two finite numbers (steering, pedal)")
        before = self.driving.pose()
        _, _, terminated, truncated, _ = self.driving.step(np.array([LOCK * steering, max(pedal, 0), max(-pedal, 0)]))
        ahead = self._way.track.heading_at(self._way.s)
        moved = self.driving.pose()[:2] - before[:2]
        made = float(moved[0] * cos(ahead) + moved[1] * sin(ahead))
        seen = self._look()
        left = terminated or abs(self._way.offset) > LEFT_LANE or abs(self._heading_error()) > ASTRAY
        reward = min(made / (self._limit() * self.driving.dt), 1.0) - OFFSET_WEIGHT * self._way.offset**2
        return seen, LEAVING if left else reward, left, truncated, self._info(left)

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Return a 640x360 picture for people, when made with render_mode rgb_array."""
        return self.driving.render()

    def close(self) -> None:
        """Close the world."""
        self.driving.close()

    def _look(self) -> Float32[np.ndarray, " 11"]:
        snapshot = self.driving.snapshot()
        x, y, yaw, speed, yaw_rate, steering = snapshot.ego.tolist()
        self._way = self._wayfinder.update(CarState(x=x, y=y, yaw=yaw, speed=speed), snapshot, self.driving.mission)
        track, s = self._way.track, self._way.s
        ahead = np.array([track.at(s + metres) for metres in PREVIEW]) - (x, y)
        aside = (ahead[:, 1] * cos(yaw) - ahead[:, 0] * sin(yaw)) / PREVIEW
        state = [speed / 15.0, steering, yaw_rate, self._way.offset, self._heading_error(), self._limit() / 15.0]
        return np.array([*state, *aside], np.float32)

    def _heading_error(self) -> float:
        """Return how far the car points to the left of the lane, in radians."""
        track, s = self._way.track, self._way.s
        return float(wrap_angle(float(self.driving.pose()[2]) - track.heading_at(s)))

    def _limit(self) -> float:
        return float(np.interp(self._way.s, self._way.track.s, self._way.track.limit))

    def _info(self, left: bool) -> dict[str, Any]:
        return {"offset": self._way.offset, "speed": float(self.driving.motion()[0]), "left_lane": left}


def town_of(seed: int) -> TownConfig:
    """Return the empty town of a scene seed: one of its split's."""
    first = SPLIT_STARTS[split_of(seed)]
    return TownConfig(
        style="grid", size=3, size_y=3, block=130.0, main_limit_kph=50.0, side_limit_kph=50.0, bend=0.12, jitter=0.1,
        signal_share=0.0, crossings=False, seed=first + seed % TOWNS,
    )  # fmt: skip
