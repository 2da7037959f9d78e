"""Towns: netgenerate networks in, a RoadMap out (lanes, links, junctions, crossings, signal heads)."""

from __future__ import annotations

import hashlib
import itertools
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from drivebyword.world.netfile import Columns, read_net
from drivebyword.world.town import TownConfig, generate_net, sample_town, town_for_scene

__all__ = [
    "Junction",
    "Lane",
    "Link",
    "RoadMap",
    "SignalHead",
    "TownConfig",
    "build_town",
    "load_road_map",
    "sample_town",
    "town_for_scene",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One lane. `kind` is drive, internal (inside a junction), sidewalk, crossing or walkarea."""

    id: str
    edge: str
    index: int
    """Counted from the right as SUMO does, sidewalk included: with one, cars' rightmost lane is 1."""
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


CACHE_VERSION = 2
"""Part of the parsed cache's name: raise it when read_net's columns change."""


def build_town(config: TownConfig, cache_dir: Path | None = None) -> RoadMap:
    """Return the town's roads; generated and parsed once, then read from the cache."""
    return load_road_map(generate_net(config, cache_dir))


def load_road_map(net_file: Path) -> RoadMap:
    """Read a SUMO network (its parsed columns are kept beside it)."""
    net_file = Path(net_file)
    if not net_file.exists():
        raise FileNotFoundError(f"network file {net_file} not found")
    digest = hashlib.sha256(net_file.read_bytes()).hexdigest()[:16]
    parsed = net_file.with_name(f"{net_file.name}.{digest}.v{CACHE_VERSION}.npz")
    try:
        with np.load(parsed, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        columns = read_net(net_file)
        _keep(parsed, columns)
    return _assemble(digest, net_file, columns)


def _keep(path: Path, columns: Columns) -> None:
    """Write the parsed columns; a read-only folder only costs the next load its speed."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as handle:
            np.savez(handle, **columns)  # type: ignore[arg-type]
            handle.flush()
            os.fsync(handle.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)


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
        )
        for start, end, direction, via, tls, index, path in zip(
            c["link_from"],
            c["link_to"],
            c["link_direction"],
            c["link_via"],
            c["link_tls"],
            c["link_index"],
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
        lanes=lanes,
        links=links,
        junctions=junctions,
        signals=signals,
        stop_lines=dict(zip(c["stop_lane"], columns["stop_line"])),
        crossings=tuple(columns["crossings"]),
        bounds=columns["bounds"],
    )
