"""An episode in, one self-contained `replay.html` out: no network, no other file, any browser.

Pictures are embedded as WebP strips, everything else as one JSON record; the page's script, style and
markup lie beside this file as `replay_page.*`. The bird's-eye view is drawn by the page from the map and
the snapshots, so it is sharp at any size.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Episode, LidarConfig, RigConfig
from drivebyword.data.files import write_atomic
from drivebyword.loop.film import encode_webp
from drivebyword.loop.narration import event_words, moments, outcome, reason_at, reason_tokens, spoken
from drivebyword.tokens.text import render
from drivebyword.world.roads import Lane, RoadMap

_PAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Pictures of one view, `per_step` for each decision, WebP."""

    width: int
    height: int
    per_step: int
    frames: list[bytes]

    def as_json(self) -> dict[str, Any]:
        """Return what the page reads."""
        return {
            "mime": "image/webp",
            "width": self.width,
            "height": self.height,
            "per_step": self.per_step,
            "frames": [base64.b64encode(frame).decode() for frame in self.frames],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """What the page says of the drive beyond its episode."""

    guarded: bool = True
    camera_quality: int = 82
    """WebP quality of the policy's own pictures."""
    reach: float = 90.0
    """Metres around the driven path that the map shows."""
    seen: tuple[str, ...] | None = None
    """Sensors the driver was given, when not all of the rig's."""


def write_replay(
    path: str | Path, episode: Episode, road_map: RoadMap, rig: RigConfig, view: Strip, config: ReplayConfig
) -> Path:
    """Write the page of one drive. The episode needs its snapshots; sensors it did not keep are left out."""
    if not episode.snapshots:
        raise ValueError("this episode kept no snapshots: record it with keep_snapshots to replay it")
    data = replay_data(episode, road_map, rig, view, config)
    page = (_PAGE / "replay_page.html").read_text(encoding="utf-8")
    # `</` would end the script element from inside a sentence.
    record = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    for mark, text in (
        ("__TITLE__", html.escape(data["title"])),
        ("__STYLE__", (_PAGE / "replay_page.css").read_text(encoding="utf-8")),
        ("__SCRIPT__", (_PAGE / "replay_page.js").read_text(encoding="utf-8")),
        ("__DATA__", record),
    ):
        page = page.replace(mark, text, 1)
    return write_atomic(path, page)


def replay_data(
    episode: Episode, road_map: RoadMap, rig: RigConfig, view: Strip, config: ReplayConfig
) -> dict[str, Any]:
    """Return everything the page shows, as plain JSON values."""
    said = spoken(episode)
    place = {id(record): row for row, record in enumerate(said)}
    row_of = [place.get(id(record), 0) for record in episode.instructions]
    ending, good = outcome(episode)
    car = CarConfig()
    heads = _heads_near(road_map, episode.pose, config.reach)
    return {
        "title": f"{said[0].sentence} - Drive by Word",
        "dt": episode.dt,
        "meta": {
            "line": _meta_line(episode, config),
            "guarded": config.guarded,
            "outcome": ending,
            "good": good,
        },
        "instructions": [{"step": i.step, "sentence": i.sentence or "(nothing)", "outcome": i.outcome} for i in said],
        "time": _rounded(episode.time_s, 2),
        "pose": _rounded(episode.pose, 3),
        "speed": _rounded(episode.motion[:, 0], 2),
        "said": [row_of[k] for k in episode.instruction_index],
        "act": _rounded(episode.act[:, 0], 3),
        "actuation": _rounded(episode.actuation, 3),
        **_reasons(episode),
        "verdict": episode.verdict.tolist(),
        "why": list(episode.verdict_why),
        "moments": [{"step": m.step, "kind": m.kind, "text": m.text} for m in moments(episode)],
        "events": _events(episode),
        "car": {"length": car.length, "width": car.width, "overhang": car.rear_overhang},
        "agents": _agents(episode, config.reach),
        "signals": [[int(s.signals[head]) for head, _ in heads] for s in episode.snapshots],
        "map": {**_map_near(road_map, episode.pose, config.reach), "signals": [line for _, line in heads]},
        "film": view.as_json(),
        **_sensors(episode, rig, config),
    }


def _meta_line(episode: Episode, config: ReplayConfig) -> str:
    """Return one line of facts about the drive."""
    weather = episode.weather
    light = "night" if weather.night > 0.5 else "day"
    fog = f", fog {weather.fog_visibility:.0f} m" if weather.fog_visibility < 500 else ""
    guard = "guarded" if config.guarded else "no guard"
    seen = f" | sees only {', '.join(config.seen)}" if config.seen is not None else ""
    return f"{episode.scenario} {episode.seed} | {light}{fog} | {episode.driver}, {guard}{seen}"


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    """Return numbers short enough to embed; JSON knows neither NaN nor infinity."""
    return np.round(np.nan_to_num(np.asarray(values, np.float64), posinf=999.0, neginf=-999.0), digits).tolist()


def _reasons(episode: Episode) -> dict[str, Any]:
    """Return the distinct reasons and, per step, which one was given (or a last, empty one)."""
    table: dict[tuple[str, str, str], int] = {}
    texts: list[dict[str, Any] | None] = []
    index: list[int] = []
    for step in range(len(episode)):
        reason = reason_at(episode, step)
        if reason is None:
            index.append(-1)
            continue
        tokens = reason_tokens(reason)
        if tokens not in table:
            table[tokens] = len(texts)
            texts.append({"tokens": [t.replace("_", "-") for t in tokens], "text": render(reason)})
        index.append(table[tokens])
    return {"reasons": texts + [None], "reason": [len(texts) if i < 0 else i for i in index]}


def _events(episode: Episode) -> list[dict[str, Any]]:
    """Return what the graph marks: harm when it begins, and sentences done."""
    found, seen = [], 0
    for step, flags in enumerate(episode.events):
        found += [{"step": step, "text": text, "bad": True} for text in event_words(int(flags) & ~seen)]
        seen |= int(flags)
    for record in spoken(episode):
        if record.resolved_step is not None and record.outcome == "fulfilled":
            found.append({"step": min(record.resolved_step, len(episode) - 1), "text": "done", "bad": False})
    return found


def _agents(episode: Episode, reach: float) -> list[list[list[Any]]]:
    """Return, per step, agents near the ego as [key, kind, x, y, yaw, length, width, lights]."""
    frames = []
    for snapshot in episode.snapshots:
        near = np.hypot(*(snapshot.agents[:, :2] - snapshot.ego[:2]).T) < reach
        frames.append(
            [
                [int(key), int(kind), *_rounded(row[:5], 2), int(lights)]
                for key, kind, row, lights in zip(
                    snapshot.agent_key[near],
                    snapshot.agent_kind[near],
                    snapshot.agents[near],
                    snapshot.agent_lights[near],
                )
            ]
        )
    return frames


def _is_near(points: Float[np.ndarray, "P 2"], poses: Float[np.ndarray, "T 3"], reach: float) -> bool:
    """Tell whether any point lies within `reach` of the driven path."""
    gaps = points[:, None] - poses[None, ::5, :2]
    return bool((np.hypot(gaps[..., 0], gaps[..., 1]) < reach).any())


def _heads_near(
    road_map: RoadMap, poses: Float[np.ndarray, "T 3"], reach: float
) -> list[tuple[int, list[list[float]]]]:
    """Return one signal head (its row and stop line) for each signalled lane near the path."""
    found: dict[str, tuple[int, list[list[float]]]] = {}
    for row, head in enumerate(road_map.signals):
        line = road_map.stop_lines.get(head.lane)
        if line is not None and head.lane not in found and _is_near(line, poses, reach):
            found[head.lane] = (row, _rounded(line, 2))
    return list(found.values())


def _map_near(road_map: RoadMap, poses: Float[np.ndarray, "T 3"], reach: float) -> dict[str, Any]:
    """Return lanes, markings, junctions and crossings near the path."""
    lanes, walks, marks = [], [], []
    drive = {(lane.edge, lane.index) for lane in road_map.lanes.values() if lane.kind == "drive"}
    for lane in road_map.lanes.values():
        if not _is_near(lane.line, poses, reach):
            continue
        entry = {"w": round(lane.width, 2), "p": _rounded(lane.line, 2)}
        if lane.kind in ("drive", "internal"):
            lanes.append(entry)
        elif lane.kind == "sidewalk":
            walks.append(entry)
        if lane.kind == "drive":
            marks += _marks(lane, drive)
    crossings = []
    for corners in road_map.crossings:
        if _is_near(corners, poses, reach):
            ends = _rounded(np.stack([corners[:2].mean(0), corners[2:].mean(0)]), 2)
            crossings.append([*ends, round(float(np.hypot(*(corners[0] - corners[1]))), 2)])
    outlines = [
        _rounded(j.outline, 2) for j in road_map.junctions if len(j.outline) > 2 and _is_near(j.outline, poses, reach)
    ]
    return {"lanes": lanes, "walks": walks, "marks": marks, "junctions": outlines, "crossings": crossings}


def _marks(lane: Lane, drive: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return a lane's painted edges: dashed to a lane of the same edge on its left, solid elsewhere."""
    step = np.gradient(lane.line, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.maximum(np.hypot(*step.T), 1e-9)[:, None]
    half = lane.width / 2
    marks = [{"dash": (lane.edge, lane.index + 1) in drive, "p": _rounded(lane.line + normal * half, 2)}]
    if (lane.edge, lane.index - 1) not in drive:
        marks.append({"dash": False, "p": _rounded(lane.line - normal * half, 2)})
    return marks


def _sensors(episode: Episode, rig: RigConfig, config: ReplayConfig) -> dict[str, Any]:
    """Return what the policy saw: camera strips, LiDAR in centimetres, radar detections."""
    cameras = []
    for name, frames in episode.cameras.items():
        height, width = frames.shape[1:3]
        strip = Strip(
            width=width, height=height, per_step=1, frames=[encode_webp(f, config.camera_quality) for f in frames]
        )
        cameras.append({"name": name, **strip.as_json()})
    out: dict[str, Any] = {"cameras": cameras, "lidar": None, "radar": None}
    if episode.lidar is not None and rig.lidar is not None:
        out["lidar"] = _lidar(episode.lidar, rig.lidar)
    if episode.radar is not None and episode.radar_valid is not None and rig.radar is not None:
        rows = [_rounded(r[v][:, :3], 2) for r, v in zip(episode.radar, episode.radar_valid)]
        out["radar"] = {"x": rig.radar.x, "frames": rows}
    return out


def _lidar(scans: np.ndarray, config: LidarConfig) -> dict[str, Any]:
    """Return ranges as 16-bit centimetres and where each beam points."""
    elevations = np.radians(np.linspace(config.elevation_min_deg, config.elevation_max_deg, scans.shape[1]))
    ranges = np.clip(np.nan_to_num(scans[..., 0]) * 100.0, 0, 65535).astype("<u2")
    return {
        "beams": scans.shape[1],
        "columns": scans.shape[2],
        "elevations": _rounded(elevations, 4),
        "x": config.x,
        "z": config.z,
        "frames": [base64.b64encode(scan.tobytes()).decode() for scan in ranges],
    }
