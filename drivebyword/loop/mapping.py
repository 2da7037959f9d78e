"""A town in, plain lists out: what of it a replay's view from above shows, near the driven path."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import box_corners
from drivebyword.world.roads import Lane, RoadMap
from drivebyword.world.scenery import Scenery
from drivebyword.world.solids import BLUE, CROWN, CX, CY, FACADE, GREEN, HL, RED, ROOF, SHADER


def rounded(values: np.ndarray, digits: int) -> list[Any]:
    """Return numbers short enough to embed; JSON knows neither NaN nor infinity."""
    return np.round(np.nan_to_num(np.asarray(values, np.float64), posinf=999.0, neginf=-999.0), digits).tolist()


def _is_near(points: Float[np.ndarray, "P 2"], poses: Float[np.ndarray, "T 3"], reach: float) -> bool:
    """Tell whether any point lies within `reach` of the driven path."""
    gaps = points[:, None] - poses[None, ::5, :2]
    return bool((np.hypot(gaps[..., 0], gaps[..., 1]) < reach).any())


def heads_near(road_map: RoadMap, poses: Float[np.ndarray, "T 3"], reach: float) -> list[tuple[int, list[list[float]]]]:
    """Return one signal head (its row and stop line) for each signalled lane near the path."""
    found: dict[str, tuple[int, list[list[float]]]] = {}
    for row, head in enumerate(road_map.signals):
        line = road_map.stop_lines.get(head.lane)
        if line is not None and head.lane not in found and _is_near(line, poses, reach):
            found[head.lane] = (row, rounded(line, 2))
    return list(found.values())


def map_near(road_map: RoadMap, poses: Float[np.ndarray, "T 3"], reach: float) -> dict[str, Any]:
    """Return lanes, markings, junctions and crossings near the path."""
    lanes, walks, marks = [], [], []
    drive = {(lane.edge, lane.index) for lane in road_map.lanes.values() if lane.kind == "drive"}
    for lane in road_map.lanes.values():
        if not _is_near(lane.line, poses, reach):
            continue
        entry = {"w": round(lane.width, 2), "p": rounded(lane.line, 2)}
        if lane.kind in ("drive", "internal", "reserved"):
            lanes.append(entry)
        elif lane.kind == "sidewalk":
            walks.append(entry)
        if lane.kind == "drive":
            marks += _marks(lane, drive, road_map.kerb)
    crossings = []
    for corners in road_map.crossings:
        if _is_near(corners, poses, reach):
            ends = rounded(np.stack([corners[:2].mean(0), corners[2:].mean(0)]), 2)
            crossings.append([*ends, round(float(np.hypot(*(corners[0] - corners[1]))), 2)])
    outlines = [
        rounded(j.outline, 2) for j in road_map.junctions if len(j.outline) > 2 and _is_near(j.outline, poses, reach)
    ]
    return {"lanes": lanes, "walks": walks, "marks": marks, "junctions": outlines, "crossings": crossings}


def _marks(lane: Lane, drive: set[tuple[str, int]], kerb: float) -> list[dict[str, Any]]:
    """Return a lane's painted edges: dashed to the next lane of the same edge inwards, solid elsewhere."""
    step = np.gradient(lane.line, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.maximum(np.hypot(*step.T), 1e-9)[:, None]
    half = -kerb * lane.width / 2
    inner = (lane.edge, lane.index + 1) in drive
    marks = [{"dash": inner, "center": not inner, "p": rounded(lane.line + normal * half, 2)}]
    if (lane.edge, lane.index - 1) not in drive:
        marks.append({"dash": False, "p": rounded(lane.line - normal * half, 2)})
    return marks


def standing_near(scenery: Scenery, poses: Float[np.ndarray, "T 3"], reach: float) -> dict[str, Any]:
    """Return buildings as [colour, corners] and trees as [colour, x, y, radius] near the path."""
    buildings, trees = [], []
    for row, code in zip(scenery.floats.astype(float), scenery.codes):
        place = row[[CX, CY]]
        if code[SHADER] not in (FACADE, ROOF, CROWN) or not _is_near(place[None], poses, reach):
            continue
        color = "#" + bytes(min(255, max(0, int(row[c]))) for c in (RED, GREEN, BLUE)).hex()
        if code[SHADER] == CROWN:
            trees.append([color, *rounded(place, 1), round(float(row[HL]), 1)])
        else:
            yaw = float(np.arctan2(row[3], row[2]))
            buildings.append([color, rounded(box_corners(row[0], row[1], yaw, 2 * row[4], 2 * row[5]), 1)])
    return {"buildings": buildings, "trees": trees}
