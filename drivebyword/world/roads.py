"""Towns: netgenerate networks in, a RoadMap out (lanes, links, junctions, crossings, signal heads)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One lane. `kind` is drive, internal (inside a junction), sidewalk, crossing or walkarea."""

    id: str
    edge: str
    index: int
    """0 is the rightmost lane of the edge that cars may use... counted as SUMO does (sidewalk included)."""
    kind: str
    width: float
    speed_limit: float
    line: Float[np.ndarray, "P 2"]
    """Centre line in driving direction, map frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A way through a junction from one lane to another."""

    from_lane: str
    to_lane: str
    direction: str
    """left, right, straight or turn (U-turn)."""
    path: Float[np.ndarray, "P 2"]
    """Centre of the internal lane(s) from the end of `from_lane` to the start of `to_lane`."""
    via: tuple[str, ...]
    """Ids of the internal lanes passed."""
    tls: str | None
    tls_index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Junction:
    """A junction and its outline."""

    id: str
    kind: str
    """SUMO's type: traffic_light, priority, right_before_left, dead_end, ..."""
    center: Float[np.ndarray, " 2"]
    outline: Float[np.ndarray, "P 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalHead:
    """A lamp box. Its face looks along `yaw` (towards the cars it is meant for: opposite to their travel)."""

    x: float
    y: float
    z: float
    """Height of the box's centre: about 5 m on the far side (gantry arm), 3 m on the near side."""
    yaw: float
    lane: str
    """The lane whose cars it stops."""
    tls: str
    tls_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadMap:
    """A town, as far as its roads go. Map frame: SUMO's x east, y north, metres."""

    id: str
    """SHA-256 of the network file, first 16 hex digits."""
    net_file: str
    lanes: dict[str, Lane]
    links: tuple[Link, ...]
    junctions: tuple[Junction, ...]
    signals: tuple[SignalHead, ...]
    stop_lines: dict[str, Float[np.ndarray, "2 2"]]
    """For each drive lane that ends at a signal or yields: its stop line's two ends."""
    crossings: tuple[Float[np.ndarray, "4 2"], ...]
    """Zebra crossings: corners; the first two are one kerb end, the last two the other."""
    bounds: Float[np.ndarray, " 4"]
    """x min, y min, x max, y max."""
