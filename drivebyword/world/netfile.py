"""Network files: a SUMO net.xml in, flat numpy columns out (the cached form a RoadMap is made from).

The driving side is the network's own: netconvert writes lefthand="true". `mirror_net` writes a network's mirror
image, which drives on the other side.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from drivebyword.world.kept import Columns

DIRECTIONS = {"s": "straight", "r": "right", "R": "right", "l": "left", "L": "left", "t": "turn", "T": "turn"}
FAR_HEAD_HEIGHT, NEAR_HEAD_HEIGHT = 4.7, 3.0


def read_net(path: Path) -> Columns:
    """Parse lanes, links, junctions, signal heads, stop lines and crossings."""
    root = ET.parse(path).getroot()
    left_hand = root.attrib.get("lefthand") == "true"
    lanes = _lanes(root)
    junctions = [j for j in root.iter("junction") if j.attrib["type"] != "internal"]
    links, states = _links(root, lanes)
    columns = _lane_columns(lanes)
    columns |= _link_columns(links)
    columns |= {
        "junction_id": _text(j.attrib["id"] for j in junctions),
        "junction_kind": _text(j.attrib["type"] for j in junctions),
        "junction_center": np.array([[float(j.attrib["x"]), float(j.attrib["y"])] for j in junctions]).reshape(-1, 2),
    }
    outlines = [_points(j.attrib.get("shape", "")) for j in junctions]
    columns |= _ragged("junction_outline", outlines)
    columns |= _stop_columns(lanes, links, states)
    entries = {lane: k for k, j in enumerate(junctions) for lane in j.attrib["incLanes"].split()}
    columns |= _signal_columns(lanes, links, {lane: outlines[k] for lane, k in entries.items()}, left_hand)
    columns["left_hand"] = np.array([left_hand])
    crossings = [_crossing_corners(lane) for lane in lanes.values() if lane["kind"] == "crossing"]
    columns["crossings"] = np.array(crossings, float).reshape(-1, 4, 2)
    columns["roundabouts"] = _text(ring.attrib["edges"] for ring in root.iter("roundabout"))
    shapes = [lane["line"] for lane in lanes.values()] + outlines
    every = np.concatenate([s for s in shapes if len(s)])
    columns["bounds"] = np.concatenate([every.min(0), every.max(0)])
    return columns


def _points(shape: str) -> np.ndarray:
    return np.array([[float(v) for v in p.split(",")[:2]] for p in shape.split()]).reshape(-1, 2)


def _text(values: Iterable[str]) -> np.ndarray:
    return np.array(list(values), dtype=str)


def _ragged(name: str, parts: list[np.ndarray]) -> Columns:
    ends = np.cumsum([0] + [len(p) for p in parts])
    return {name: np.concatenate(parts) if parts else np.zeros((0, 2)), f"{name}_ends": ends}


def _lane_kind(function: str, lane: ET.Element) -> str:
    if function == "crossing":
        return function
    if function == "walkingarea":
        return "walkarea"
    if takes(lane, "passenger"):
        return "internal" if function == "internal" else "drive"
    return "sidewalk" if takes(lane, "pedestrian") and function != "internal" else "reserved"


def takes(lane: ET.Element, vehicle: str) -> bool:
    """Tell whether a vehicle class may use a lane: SUMO writes down the shorter of who may and who may not."""
    allowed, barred = lane.attrib.get("allow", "").split(), lane.attrib.get("disallow", "").split()
    if allowed:
        return vehicle in allowed or "all" in allowed
    return vehicle not in barred and "all" not in barred


def _lanes(root: ET.Element) -> dict[str, dict]:
    lanes: dict[str, dict] = {}
    for edge in root.iter("edge"):
        function = edge.attrib.get("function", "normal")
        for lane in edge.iter("lane"):
            lanes[lane.attrib["id"]] = {
                "edge": edge.attrib["id"],
                "index": int(lane.attrib["index"]),
                "kind": _lane_kind(function, lane),
                "width": float(lane.attrib.get("width", 3.2)),
                "speed": float(lane.attrib["speed"]),
                "line": _points(lane.attrib["shape"]),
            }
    return lanes


def _links(root: ET.Element, lanes: dict[str, dict]) -> tuple[list[dict], dict[str, str]]:
    """Follow each drive-to-drive connection through its internal lanes."""
    onward: dict[str, ET.Element] = {}
    first: list[ET.Element] = []
    for c in root.iter("connection"):
        start = f"{c.attrib['from']}_{c.attrib['fromLane']}"
        if start.startswith(":"):
            onward[start] = c
        else:
            first.append(c)
    links: list[dict] = []
    states: dict[str, str] = {}
    for c in first:
        start, end = f"{c.attrib['from']}_{c.attrib['fromLane']}", f"{c.attrib['to']}_{c.attrib['toLane']}"
        if lanes[start]["kind"] != "drive" or lanes[end]["kind"] != "drive":
            continue
        via = []
        step = c.attrib.get("via")
        while step:
            via.append(step)
            step = onward[step].attrib.get("via") if step in onward else None
        pieces = [lanes[start]["line"][-1:], *(lanes[v]["line"] for v in via), lanes[end]["line"][:1]]
        path = np.concatenate(pieces)
        fresh = np.concatenate([[True], np.hypot(*np.diff(path, axis=0).T) > 0.02])
        path = path[fresh]
        if len(path) < 2:
            path = np.stack([lanes[start]["line"][-1], lanes[end]["line"][0] + 1e-3])
        links.append(
            {
                "from": start,
                "to": end,
                "direction": DIRECTIONS.get(c.attrib["dir"], "straight"),
                "via": " ".join(via),
                "tls": c.attrib.get("tl", ""),
                "index": int(c.attrib.get("linkIndex", -1)) if "tl" in c.attrib else -1,
                "yields": c.attrib.get("state", "M"),
                "path": path,
            }
        )
        states[start] = states.get(start, "") + c.attrib.get("state", "M")
    return links, states


def _lane_columns(lanes: dict[str, dict]) -> Columns:
    rows = lanes.values()
    columns = {
        "lane_id": _text(lanes),
        "lane_edge": _text(r["edge"] for r in rows),
        "lane_index": np.array([r["index"] for r in rows]),
        "lane_kind": _text(r["kind"] for r in rows),
        "lane_width": np.array([r["width"] for r in rows]),
        "lane_speed": np.array([r["speed"] for r in rows]),
    }
    return columns | _ragged("lane_line", [r["line"] for r in rows])


def _link_columns(links: list[dict]) -> Columns:
    columns = {
        f"link_{name}": _text(k[name] for k in links) for name in ("from", "to", "direction", "via", "tls", "yields")
    }
    columns["link_index"] = np.array([k["index"] for k in links], int)
    return columns | _ragged("link_path", [k["path"] for k in links])


def _end_heading(line: np.ndarray) -> float:
    return float(np.arctan2(*(line[-1] - line[-2])[::-1]))


def _stop_columns(lanes: dict[str, dict], links: list[dict], states: dict[str, str]) -> Columns:
    """Lay a stop line across the end of every drive lane with a signal or no right of way."""
    signalised = {k["from"] for k in links if k["tls"]}
    names, ends = [], []
    for name, letters in states.items():
        if name not in signalised and not set(letters) & set("m=sw"):
            continue
        line, half = lanes[name]["line"], lanes[name]["width"] / 2
        heading = _end_heading(line)
        left = np.array([-np.sin(heading), np.cos(heading)])
        names.append(name)
        ends.append([line[-1] + left * half, line[-1] - left * half])
    return {"stop_lane": _text(names), "stop_line": np.array(ends, float).reshape(-1, 2, 2)}


def _exit_distance(start: np.ndarray, heading: float, outline: np.ndarray) -> float:
    """Return how far a ray from `start` runs until it last leaves the outline."""
    d = np.array([np.cos(heading), np.sin(heading)])
    a, b = outline, np.roll(outline, -1, axis=0)
    side_a = (a - start) @ np.array([-d[1], d[0]])
    side_b = (b - start) @ np.array([-d[1], d[0]])
    crosses = (side_a > 0) != (side_b > 0)
    if not crosses.any():
        return 12.0
    t = side_a[crosses] / (side_a[crosses] - side_b[crosses])
    hits = (a[crosses] + t[:, None] * (b - a)[crosses] - start) @ d
    return float(max(hits.max(), 8.0))


def _signal_columns(
    lanes: dict[str, dict], links: list[dict], outlines: dict[str, np.ndarray], left_hand: bool
) -> Columns:
    """Hang one far-side head over each signalised lane and one near-side head at each approach's kerb."""
    chosen: dict[str, dict] = {}
    for link in links:
        if link["tls"] and (link["from"] not in chosen or link["direction"] == "straight"):
            chosen[link["from"]] = link
    outermost: dict[str, str] = {}
    for name in chosen:
        edge = lanes[name]["edge"]
        if edge not in outermost or lanes[name]["index"] < lanes[outermost[edge]]["index"]:
            outermost[edge] = name
    rows: list[tuple[float, float, float, float]] = []
    names: list[str] = []
    for name in chosen:
        line, width = lanes[name]["line"], lanes[name]["width"]
        heading = _end_heading(line)
        ahead = np.array([np.cos(heading), np.sin(heading)])
        kerb = np.array([-ahead[1], ahead[0]]) * (1.0 if left_hand else -1.0)
        far = line[-1] + ahead * (_exit_distance(line[-1], heading, outlines[name]) + 0.5)
        rows.append((far[0], far[1], FAR_HEAD_HEIGHT, heading + np.pi))
        names.append(name)
        if outermost[lanes[name]["edge"]] == name:
            near = line[-1] + kerb * (width / 2 + 0.7)
            rows.append((near[0], near[1], NEAR_HEAD_HEIGHT, heading + np.pi))
            names.append(name)
    return {
        "signal_place": np.array(rows, float).reshape(-1, 4),
        "signal_lane": _text(names),
        "signal_tls": _text(chosen[n]["tls"] for n in names),
        "signal_index": np.array([chosen[n]["index"] for n in names], int),
    }


def _crossing_corners(lane: dict) -> np.ndarray:
    """Return the zebra's corners: both ends of one kerb, then both ends of the other."""
    a, b = lane["line"][0], lane["line"][-1]
    along = (b - a) / max(np.hypot(*(b - a)), 1e-6)
    across = np.array([-along[1], along[0]]) * lane["width"] / 2
    return np.stack([a + across, a - across, b - across, b + across])


def mirror_net(path: Path, target: Path) -> None:
    """Write the mirror image of a network about the x axis: y changes sign, left and right change places.

    Ids, lanes, rights of way and signal programs stay as they are, as netconvert --lefthand itself leaves them.
    """
    root = ET.parse(path).getroot()
    root.attrib["lefthand"] = "false" if root.attrib.get("lefthand") == "true" else "true"
    for element in root.iter():
        for name in ("shape", "outlineShape", "customShape"):
            if "," in element.attrib.get(name, ""):
                element.attrib[name] = " ".join(_mirrored_point(p) for p in element.attrib[name].split())
        if element.tag in ("junction", "poi") and "y" in element.attrib:
            element.attrib["y"] = _negated(element.attrib["y"])
        elif element.tag == "connection" and "dir" in element.attrib:
            element.attrib["dir"] = element.attrib["dir"].translate(_OTHER_WAY)
        elif element.tag == "location":
            for name in ("netOffset", "convBoundary"):
                element.attrib[name] = _mirrored_box(element.attrib[name])
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    with scratch.open("wb") as handle:
        ET.ElementTree(root).write(handle, encoding="UTF-8", xml_declaration=True)
        handle.flush()
        os.fsync(handle.fileno())
    scratch.replace(target)


_OTHER_WAY = str.maketrans("lrLR", "rlRL")


def _negated(number: str) -> str:
    """Change a number's sign as text, so that no digit is lost."""
    return number[1:] if number.startswith("-") else f"-{number}"


def _mirrored_point(point: str) -> str:
    x, y, *height = point.split(",")
    return ",".join([x, _negated(y), *height])


def _mirrored_box(numbers: str) -> str:
    """Mirror an offset (x, y) or a box (x min, y min, x max, y max)."""
    x, y, *rest = numbers.split(",")
    return ",".join([x, _negated(y)] if not rest else [x, _negated(rest[1]), rest[0], _negated(y)])
