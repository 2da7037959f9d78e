"""Towns: netgenerate networks in, a RoadMap out (lanes, links, junctions, crossings, signal heads)."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from drivebyword.core.places import cache_folder
from drivebyword.world.kept import Columns, kept
from drivebyword.world.netfile import mirror_net, read_net
from drivebyword.world.solids import SignKind, other_sign
from drivebyword.world.town import TownConfig, generate_net, sample_town, town_for_scene

__all__ = [
    "Junction",
    "Lane",
    "Link",
    "RoadMap",
    "Sign",
    "SignKind",
    "SignalHead",
    "TownConfig",
    "build_town",
    "load_road_map",
    "sample_town",
    "town_for_scene",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One lane. `kind` is drive, internal (inside a junction), reserved (no cars), sidewalk, crossing or walkarea."""

    id: str
    edge: str
    index: int
    """Counted from the kerb as SUMO does, sidewalk included: with one, cars' outermost lane is 1."""
    kind: str
    width: float
    speed_limit: float
    line: Float[np.ndarray, "P 2"]
    """Centre line in driving direction, map frame; of a walkarea, its outline."""


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
    yields: str = "M"
    """SUMO's letter: M has right of way, m and = yield, s stops, w stops at an all-way stop, o: signals decide."""


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
class Sign:
    """A traffic sign on a post. Its face looks along `yaw`, towards the traffic it is meant for."""

    x: float
    y: float
    yaw: float
    kind: SignKind
    lane: str
    """The lane beside which it stands; NO_ENTRY is meant for who would come along it the wrong way."""
    value: int = 0
    """km/h of a LIMIT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadMap:
    """A town, as far as its roads go. Map frame: SUMO's x east, y north, metres."""

    id: str
    """SHA-256 of the network file, first 16 hex digits; of a mirror image, the complement of the original's."""
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
    signs: tuple[Sign, ...] = ()
    roundabouts: tuple[frozenset[str], ...] = ()
    """The edges that go round, one by one."""
    left_hand: bool = False
    """Whether one drives on the left: the map alone says so, and everything else asks it."""

    @property
    def kerb(self) -> float:
        """Return the sign of y, seen along a lane, towards its kerb: -1 (right-hand traffic) or 1 (left-hand)."""
        return 1.0 if self.left_hand else -1.0

    @property
    def near_side(self) -> str:
        """Return the side of the kerb: a turn to it meets nobody oncoming. right or left."""
        return "left" if self.left_hand else "right"

    @property
    def far_side(self) -> str:
        """Return the side of the oncoming traffic, across which a turn to it leads. left or right."""
        return "right" if self.left_hand else "left"

    def right_hand_net(self) -> str:
        """Return the network file SUMO drives by: of a left-hand map, its mirror image (otherside.py)."""
        return self._image_net() if self.left_hand else self.net_file

    def _image_id(self) -> str:
        return f"{int(self.id, 16) ^ (2**64 - 1):016x}"

    def _image_net(self) -> str:
        """Return the mirrored network file, written when the cache has none."""
        target = cache_folder("towns") / f"{self._image_id()}.net.xml"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            mirror_net(Path(self.net_file), target)
        return str(target)

    def mirrored(self) -> RoadMap:
        """Return the mirror image about the x axis, on which one drives on the other side."""
        flip, other = np.array([1.0, -1.0]), {"left": "right", "right": "left"}
        x0, y0, x1, y1 = self.bounds
        return RoadMap(
            id=self._image_id(),
            net_file=self._image_net(),
            left_hand=not self.left_hand,
            lanes={key: replace(lane, line=lane.line * flip) for key, lane in self.lanes.items()},
            links=tuple(
                replace(k, path=k.path * flip, direction=other.get(k.direction, k.direction)) for k in self.links
            ),
            junctions=tuple(replace(j, center=j.center * flip, outline=j.outline * flip) for j in self.junctions),
            signals=tuple(replace(head, y=-head.y, yaw=-head.yaw) for head in self.signals),
            # Both are written from left to right.
            stop_lines={key: ends[::-1] * flip for key, ends in self.stop_lines.items()},
            crossings=tuple(corners[[1, 0, 3, 2]] * flip for corners in self.crossings),
            bounds=np.array([x0, -y1, x1, -y0]),
            signs=tuple(replace(sign, y=-sign.y, yaw=-sign.yaw, kind=other_sign(sign.kind)) for sign in self.signs),
            roundabouts=self.roundabouts,
        )


CACHE_VERSION = 7
"""Part of the parsed cache's name: raise it when read_net's columns change."""


def build_town(config: TownConfig, cache_dir: Path | None = None) -> RoadMap:
    """Return the town's roads; generated and parsed once, then read from the cache."""
    right = load_road_map(generate_net(replace(config, left_hand=False), cache_dir))
    return right.mirrored() if config.left_hand else right


def load_road_map(net_file: Path) -> RoadMap:
    """Read a SUMO network (its parsed columns are kept beside it)."""
    net_file = Path(net_file)
    if not net_file.exists():
        raise FileNotFoundError(f"network file {net_file} not found")
    # netconvert's comment says when and where the file was made: equal networks have equal ids without it.
    content = re.sub(rb"<!--.*?-->", b"", net_file.read_bytes(), count=1, flags=re.DOTALL)
    digest = hashlib.sha256(content).hexdigest()[:16]
    parsed = net_file.with_name(f"{net_file.name}.{digest}.v{CACHE_VERSION}.npz")
    return _assemble(digest, net_file, kept(parsed, lambda: read_net(net_file)))


def _cut(columns: Columns, name: str) -> list[np.ndarray]:
    ends = columns[f"{name}_ends"]
    return [columns[name][a:b] for a, b in itertools.pairwise(ends)]


def _assemble(digest: str, net_file: Path, columns: Columns) -> RoadMap:
    c = {name: values.tolist() for name, values in columns.items() if values.ndim == 1}
    lanes = {
        row[0]: Lane(id=row[0], edge=row[1], index=row[2], kind=row[3], width=row[4], speed_limit=row[5], line=row[6])
        for row in zip(
            c["lane_id"],
            c["lane_edge"],
            c["lane_index"],
            c["lane_kind"],
            c["lane_width"],
            c["lane_speed"],
            _cut(columns, "lane_line"),
        )
    }
    links = tuple(
        Link(
            from_lane=start,
            to_lane=end,
            direction=direction,
            path=path,
            via=tuple(via.split()),
            tls=tls or None,
            tls_index=index if tls else None,
            yields=yields,
        )
        for start, end, direction, via, tls, index, yields, path in zip(
            c["link_from"],
            c["link_to"],
            c["link_direction"],
            c["link_via"],
            c["link_tls"],
            c["link_index"],
            c["link_yields"],
            _cut(columns, "link_path"),
        )
    )
    junctions = tuple(
        Junction(id=name, kind=kind, center=center, outline=outline)
        for name, kind, center, outline in zip(
            c["junction_id"], c["junction_kind"], columns["junction_center"], _cut(columns, "junction_outline")
        )
    )
    signals = tuple(
        SignalHead(x=x, y=y, z=z, yaw=yaw, lane=lane, tls=tls, tls_index=index)
        for (x, y, z, yaw), lane, tls, index in zip(
            columns["signal_place"].tolist(), c["signal_lane"], c["signal_tls"], c["signal_index"]
        )
    )
    return RoadMap(
        id=digest,
        net_file=str(net_file),
        left_hand=bool(columns["left_hand"][0]),
        lanes=lanes,
        links=links,
        junctions=junctions,
        signals=signals,
        stop_lines=dict(zip(c["stop_lane"], columns["stop_line"])),
        crossings=tuple(columns["crossings"]),
        bounds=columns["bounds"],
        roundabouts=tuple(frozenset(ring.split()) for ring in c["roundabouts"]),
    )
