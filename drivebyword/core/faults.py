"""What may go wrong with a sensor, as configuration: which, how, from when, for how long.

The list is that of sensor-fault injection for driving stacks: each of a camera, LiDAR, radar, the car's own
measurements and the clock. `world.faults` applies them. In text a fault is SENSOR.KIND[@START[:SECONDS]], as
`wide.black`, `lidar.dropout@10` or `camera.frozen@5:1`.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

_BROKEN = {"missing": 0.0, "frozen": 0.0, "wrong_shape": 0.0, "wrong_dtype": 0.0}
_FLOATS = {"nan": 0.0, "inf": 0.0, "denormal": 0.0}
KINDS: dict[str, dict[str, float]] = {
    "camera": {
        "black": 0.0,
        "white": 0.0,
        "occluded": 0.5,  # share of the columns, from the left
        "blur": 4.0,  # pixels to each side that are averaged
        "colour_swap": 0.0,  # red for blue
        "flip": 0.0,  # left for right
        **_BROKEN,
    },
    "lidar": {
        "empty": 0.0,
        "dropout": 0.5,  # share of the returns
        "offset": 1.0,  # metres added to every range
        "ghost": 10.0,  # metres ahead of the sensor at which somebody seems to stand, as wide and high as a car
        "rain": 0.1,  # share of the beams that answer from drops within 10 m
        **_BROKEN,
        **_FLOATS,
    },
    "radar": {
        "empty": 0.0,
        "velocity_sign": 0.0,
        "ghost": 12.0,  # metres ahead of the sensor at which something seems to stand
        **_BROKEN,
        **_FLOATS,
    },
    "ego": {
        "no_speed": 0.0,
        "scaled_speed": 1.1,  # times the true one
        "yaw_bias": 2.0,  # degrees a second added to the yaw rate
        "frozen": 0.0,
        "wrong_shape": 0.0,
        "wrong_dtype": 0.0,
        **_FLOATS,
    },
    "clock": {
        "ahead": 0.5,  # seconds added to the time stamp
        "delay": 0.5,  # seconds ago that what is delivered was seen
        "spikes": 1.5,  # longest delay in seconds; every fifth decision on average, from 0.1 s on
        "out_of_order": 0.0,  # every third decision gets an observation older than the last
        "duplicate": 0.0,  # every second decision gets the last observation again
        "nan": 0.0,
    },
}
"""What may happen to which sensor, and the amount if none is given. `camera` strikes every camera, a camera's name
that one; `clock` strikes whole observations. A frozen camera is one that is frozen while the others go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultConfig:
    """One fault of one sensor."""

    sensor: str
    """camera (all of them), a camera's name, lidar, radar, ego or clock."""
    kind: str
    """One of KINDS of that sensor."""
    start_s: float = 0.0
    duration_s: float | None = None
    """None: for good. One decision is struck even by a duration of 0."""
    amount: float | None = None
    """How much, in the kind's own unit (see KINDS); None: the usual."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        known = KINDS[self.group]
        if self.kind not in known:
            near = difflib.get_close_matches(self.kind, known, n=2, cutoff=0.4) or sorted(known)
            raise ValueError(f"no fault {self.kind!r} of a {self.group}: use {', '.join(near)}")
        if not (math.isfinite(self.start_s) and self.start_s >= 0.0):
            raise ValueError(f"a fault starts at 0 s or later, got {self.start_s:g}")
        if self.duration_s is not None and not (math.isfinite(self.duration_s) and self.duration_s >= 0.0):
            raise ValueError(f"a fault lasts 0 s or longer, or None for good, got {self.duration_s:g}")
        if self.amount is not None and not (math.isfinite(self.amount) and self.amount >= 0.0):
            raise ValueError(f"a fault's amount is a finite number from 0 on, got {self.amount:g}")

    @property
    def group(self) -> str:
        """Return which row of KINDS the sensor is in."""
        return self.sensor if self.sensor in KINDS else "camera"

    @property
    def strength(self) -> float:
        """Return the amount, or the usual one."""
        return KINDS[self.group][self.kind] if self.amount is None else self.amount

    @property
    def name(self) -> str:
        """Return SENSOR.KIND."""
        return f"{self.sensor}.{self.kind}"

    def strikes(self, time_s: float, dt: float) -> bool:
        """Tell whether the fault is on at a decision."""
        lasts = math.inf if self.duration_s is None else max(self.duration_s, dt)
        return self.start_s - 1e-6 <= time_s < self.start_s + lasts - 1e-6


_TEXT = re.compile(r"(?P<sensor>[\w-]+)\.(?P<kind>\w+)(@(?P<start>[\d.]+)(:(?P<lasts>[\d.]+))?)?")


def fault_of(text: str) -> FaultConfig:
    """Read SENSOR.KIND[@START[:SECONDS]]. Raises ValueError with one line."""
    found = _TEXT.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        start, lasts = float(found["start"] or 0.0), None if found["lasts"] is None else float(found["lasts"])
    except ValueError:
        raise ValueError(f"{text!r} is no fault: write SENSOR.KIND[@START[:SECONDS]], as lidar.empty@5:1") from None
    return FaultConfig(sensor=found["sensor"], kind=found["kind"], start_s=start, duration_s=lasts)
