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

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Episode
from drivebyword.core.rig import LidarConfig, RigConfig
from drivebyword.data.files import write_atomic
from drivebyword.loop.film import encode_webp
from drivebyword.loop.mapping import heads_near, map_near, rounded, standing_near
from drivebyword.loop.narration import event_words, moments, outcome, reason_at, reason_tokens, spoken
from drivebyword.tokens.text import render
from drivebyword.world.bodies import EGO_KEY
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import Scenery
from drivebyword.world.view import agent_colour

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
    credit: str = ""
    """Whom the map is from."""


def write_replay(
    path: str | Path,
    episode: Episode,
    road_map: RoadMap,
    rig: RigConfig,
    view: Strip,
    config: ReplayConfig,
    scenery: Scenery | None = None,
) -> Path:
    """Write the page of one drive. The episode needs its snapshots; sensors it did not keep are left out."""
    if not episode.snapshots:
        raise ValueError("this episode kept no snapshots: record it with keep_snapshots to replay it")
    data = replay_data(episode, road_map, rig, view, config)
    data["map"] |= standing_near(scenery, episode.pose, config.reach) if scenery is not None else {}
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
    heads = heads_near(road_map, episode.pose, config.reach)
    return {
        "title": f"{said[0].sentence} - Drive by Word",
        "dt": episode.dt,
        "meta": {
            "line": _meta_line(episode, config),
            "guarded": config.guarded,
            "seen": list(config.seen) if config.seen is not None else None,
            "outcome": ending,
            "good": good,
        },
        "instructions": [{"step": i.step, "sentence": i.sentence or "(nothing)", "outcome": i.outcome} for i in said],
        "time": rounded(episode.time_s, 2),
        "pose": rounded(episode.pose, 3),
        "speed": rounded(episode.motion[:, 0], 2),
        "said": [row_of[k] for k in episode.instruction_index],
        "act": rounded(episode.act[:, 0], 3),
        "actuation": rounded(episode.actuation, 3),
        **_reasons(episode),
        "verdict": episode.verdict.tolist(),
        "why": list(episode.verdict_why),
        "moments": [{"step": m.step, "kind": m.kind, "text": m.text} for m in moments(episode)],
        "events": _events(episode),
        "car": {"length": car.length, "width": car.width, "overhang": car.rear_overhang},
        "agents": _agents(episode, config.reach),
        "colors": _colors(episode),
        "signals": [[int(s.signals[head]) for head, _ in heads] for s in episode.snapshots],
        "map": {
            **map_near(road_map, episode.pose, config.reach),
            "signals": [line for _, line in heads],
            "buildings": [],
            "trees": [],
        },
        "film": view.as_json(),
        **_sensors(episode, rig, config),
    }


def _meta_line(episode: Episode, config: ReplayConfig) -> str:
    """Return one line of facts about the drive."""
    weather = episode.weather
    light = "night" if weather.night > 0.5 else "day"
    air = f", fog {weather.fog_visibility:.0f} m" if weather.fog_visibility < 500 else ""
    air += f", rain {weather.rain:.0f} mm/h" if weather.rain > 0.0 else ""
    air += ", low sun" * (weather.glare > 0.0) + ", dirty lenses" * (weather.dirt > 0.0)
    guard = "guarded" if config.guarded else "no guard"
    seen = f" | sees only {', '.join(config.seen)}" if config.seen is not None else ""
    map_of = f" | map: {config.credit}" if config.credit else ""
    return f"{episode.scenario} {episode.seed} | {light}{air} | {episode.driver}, {guard}{seen}{map_of}"


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
                [int(key), int(kind), *rounded(row[:5], 2), int(lights)]
                for key, kind, row, lights in zip(
                    snapshot.agent_key[near],
                    snapshot.agent_kind[near],
                    snapshot.agents[near],
                    snapshot.agent_lights[near],
                )
            ]
        )
    return frames


def _colors(episode: Episode) -> dict[str, str]:
    """Return every agent's colour, the same as in the pictures, by its key."""
    kinds = {int(k): int(kind) for s in episode.snapshots for k, kind in zip(s.agent_key, s.agent_kind)}
    ego = {"ego": "#" + bytes(agent_colour(0, EGO_KEY)).hex()}
    return ego | {str(key): "#" + bytes(agent_colour(kind, key)).hex() for key, kind in kinds.items()}


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
        rows = [rounded(r[v][:, :3], 2) for r, v in zip(episode.radar, episode.radar_valid)]
        out["radar"] = {"x": rig.radar.x, "frames": rows}
    return out


def _lidar(scans: np.ndarray, config: LidarConfig) -> dict[str, Any]:
    """Return ranges as 16-bit centimetres and where each beam points."""
    ranges = np.clip(np.nan_to_num(scans[..., 0]) * 100.0, 0, 65535).astype("<u2")
    return {
        "beams": scans.shape[1],
        "columns": scans.shape[2],
        "elevations": rounded(config.elevations(), 4),
        "x": config.x,
        "z": config.z,
        "frames": [base64.b64encode(scan.tobytes()).decode() for scan in ranges],
    }
