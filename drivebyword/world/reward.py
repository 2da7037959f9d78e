"""What each step of a drive earned, as it happens: a step's truth in, its reward out.

The terms, weights and bounds are those of `metrics.reward`, which knows the whole drive. Here they are paid when they
are known: nuPlan's jerks need two samples after a step, so a rough step is paid for two steps later, the last ones at
the end. Over a drive that ends by itself both add up to the same return (a test drives and compares).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any

from drivebyword import metrics
from drivebyword.core.records import Event, InstructionRecord

Motion = tuple[float, float, float, float]
"""Speed, yaw rate, longitudinal and lateral acceleration."""
_COUNTED = {
    Event.COLLISION_PERSON: metrics.PENALTIES["pedestrian"],
    Event.COLLISION_VEHICLE: metrics.PENALTIES["vehicle"],
    Event.COLLISION_STATIC: metrics.PENALTIES["static"],
    Event.RED_LIGHT: metrics.PENALTIES["red_light"],
    Event.STOP_LINE: metrics.PENALTIES["stop_line"],
}
_PAIRS = tuple((int(flag), factor) for flag, factor in _COUNTED.items())
_FAILURES = tuple(int(flag) for flag in metrics.FINED)
_OFFROAD = int(Event.OFFROAD)
_LEAVES = ("lane_left", "lane_right", "pull_over")


class Earnings:
    """The running reward of one drive."""

    def __init__(self, dt: float) -> None:
        self.dt = dt
        self._value, self._factor, self._completion = 0.0, 1.0, 0.0
        self._moved, self._off, self._before, self._off_lane = 0.0, 0.0, 0, 0
        self._window: deque[Motion] = deque(maxlen=5)
        self._steps = 0
        self._paid = 0
        """Instructions whose outcome has been paid for; they come true in their order."""

    def add(
        self, motion: Motion, index: int, info: Mapping[str, Any], instructions: Sequence[InstructionRecord]
    ) -> float:
        """Return what a step earned.

        Args:
            motion: The car's motion before the step.
            index: The instruction in force before the step.
            info: What the environment tells after the step.
            instructions: Everything said so far, and what came of it.
        """
        flags, ended, speed = int(info["events"]), info["ended"], motion[0]
        earned = self._score(flags, info["route_completion"], speed)
        earned -= metrics.FINE * sum(bool(flags & ~self._before & flag) for flag in _FAILURES)
        if info["time_to_collision"] < metrics.TTC_LEAST and speed > metrics.STOPPED:
            earned -= metrics.NEAR
        earned -= metrics.LEFT_LANE * self._leaves_lane(info["lane_offset"], instructions[index].intent)
        earned -= metrics.ROUGH * self._rough(motion, ended is not None)
        earned += metrics.TOLD * self._told(instructions, ended)
        self._before = flags
        return earned

    def _score(self, flags: int, completion: float, speed: float) -> float:
        """Return how much CARLA's driving score rose."""
        for flag, factor in _PAIRS:
            if flags & ~self._before & flag:
                self._factor *= factor
        self._completion = max(self._completion, min(max(completion, 0.0), 1.0))
        moved = max(speed, 1e-6)
        self._moved += moved
        self._off += moved * bool(flags & _OFFROAD)
        value, before = self._completion * self._factor * (1.0 - self._off / self._moved), self._value
        self._value = value
        return value - before

    def _leaves_lane(self, offset: float, intent: str) -> bool:
        off = abs(offset) > metrics.LANE_OFFSET and intent not in _LEAVES  # NaN inside junctions: not off
        self._off_lane = self._off_lane + 1 if off else 0
        return self._off_lane * self.dt > metrics.LANE_OFFSET_S

    def _rough(self, motion: Motion, over: bool) -> int:
        """Count the steps found to be uncomfortable now: the one two steps ago, at the end the last three."""
        if not self._steps:
            self._window.extend([motion] * 2)
        self._window.append(motion)
        self._steps += 1
        found = int(self._steps > 2 and self._is_rough())
        for _ in range(2 * over):
            self._window.append(motion)
            self._steps += 1
            found += int(self._steps > 2 and self._is_rough())
        return found

    def _is_rough(self) -> bool:
        """Judge the middle of the window by nuPlan's six bounds, slopes as `metrics` takes them."""
        a, b, c, d, e = self._window
        if len(self._window) < 5:
            return False
        scale = 1.0 / (10.0 * self.dt)
        yaw_accel, along, across = ((2.0 * (e[k] - a[k]) + d[k] - b[k]) * scale for k in (1, 2, 3))
        low, high = metrics.ACCEL_LONGITUDINAL
        return (
            not low <= c[2] <= high
            or abs(c[3]) > metrics.ACCEL_LATERAL
            or abs(along) > metrics.JERK_LONGITUDINAL
            or hypot(along, across) > metrics.JERK
            or abs(c[1]) > metrics.YAW_RATE
            or abs(yaw_accel) > metrics.YAW_ACCEL
        )

    def _told(self, instructions: Sequence[InstructionRecord], ended: str | None) -> int:
        """Count sentences that came true less those that did not, each once; pending ones when the drive is over."""
        total = 0
        while self._paid < len(instructions):
            good = metrics.fulfilled(instructions[self._paid], ended)
            if instructions[self._paid].outcome == "pending" and ended is None:
                break
            total += 0 if good is None else 1 if good else -1
            self._paid += 1
        return total
