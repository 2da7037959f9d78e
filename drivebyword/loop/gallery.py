"""Families of edge cases to look at: names and a seed in; a picture of each, and a page of all, out.

The expert drives each family's scene; the picture shows it before, at and after the critical moment: from behind,
through the cameras, and from above.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.records import Snapshot
from drivebyword.core.rig import RigConfig
from drivebyword.data.files import atomic_path, one_line_errors, write_atomic
from drivebyword.world.env import DrivingEnv
from drivebyword.world.families import FAMILIES

BEFORE_S = AFTER_S = 2.0
PANEL, CHASE, SMALL = 480, 270, 228
MOST_STEPS = 450


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One family's picture."""

    family: str
    seed: int
    edge: EdgeRecord
    picture: UInt8[np.ndarray, "H W 3"]


def draw_gallery(
    families: Sequence[str], seed: int, out: Path, rig: RigConfig, told: Callable[[Sheet], None] = lambda sheet: None
) -> Path:
    """Draw every family into `out`; return the page. Raises ValueError for an unknown family."""
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ValueError(f"no family {unknown[0]!r}: there are {', '.join(FAMILIES)}")
    with one_line_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    sheets = []
    for sheet in _sheets(families, seed, rig):
        with atomic_path(out / f"{sheet.family}.webp") as path:
            Image.fromarray(sheet.picture).save(path, "WEBP", quality=82)
        sheets.append(sheet)
        told(sheet)
    return write_atomic(out / "index.html", _page(sheets))


def _sheets(families: Sequence[str], seed: int, rig: RigConfig) -> Iterator[Sheet]:
    env = DrivingEnv(rig=rig)
    try:
        for name in families:
            moments, edge = _drive(env, name, seed)
            at = edge.critical_s if edge.critical_s is not None else edge.began_s or 0.0
            panels = []
            for word, time_s in (("before", at - BEFORE_S), ("critical", at), ("after", at + AFTER_S)):
                index = min(max(round(time_s / env.dt), 0), len(moments) - 1)
                panels.append(_panel(env, *moments[index], f"{name}: {word}, {index * env.dt:.1f} s"))
            yield Sheet(family=name, seed=seed, edge=edge, picture=np.concatenate(panels, axis=1))
    finally:
        env.close()


Seen = dict[str, np.ndarray]


def _drive(env: DrivingEnv, family: str, seed: int) -> tuple[list[tuple[Snapshot, Seen]], EdgeRecord]:
    """Let the expert drive; return ground truth and the cameras' pictures of every step."""
    _, info = env.reset(seed=seed, options={"scenario": family})
    moments = [(env.snapshot(), env.observation().cameras)]
    while info["ended"] is None and len(moments) < MOST_STEPS:
        *_, info = env.step(env.expert().act[0])
        moments.append((env.snapshot(), env.observation().cameras))
    assert env.edge is not None
    return moments, env.edge


def _panel(env: DrivingEnv, snapshot: Snapshot, seen: Seen, label: str) -> UInt8[np.ndarray, "H W 3"]:
    view = env.world_view()
    sheet = Image.new("RGB", (PANEL, CHASE + SMALL), (24, 26, 30))
    sheet.paste(Image.fromarray(view.chase(snapshot, env.weather, PANEL, CHASE)), (0, 0))
    wide, top = PANEL - SMALL - 4, CHASE + 4
    for picture in seen.values():
        tall = round(wide * picture.shape[0] / picture.shape[1])
        sheet.paste(Image.fromarray(picture).resize((wide, tall), Image.Resampling.BILINEAR), (0, top))
        top += tall + 4
    above = Image.fromarray(view.bird_eye(snapshot, size=2 * SMALL, across=70.0))
    sheet.paste(above.resize((SMALL, SMALL - 4), Image.Resampling.LANCZOS), (PANEL - SMALL, CHASE + 4))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, 8 + int(draw.textlength(label)), 17), fill=(24, 26, 30))
    draw.text((4, 3), label, fill=(255, 255, 255))
    return np.asarray(sheet)


def _page(sheets: list[Sheet]) -> str:
    """Return the page of all pictures."""
    parts = []
    for sheet in sheets:
        family, edge = FAMILIES[sheet.family], sheet.edge
        about = html.escape((family.__doc__ or "").strip())
        notes = [f"seed {sheet.seed}", html.escape(family.source)] + ["held out"] * family.held_out
        notes += [] if edge.preventable else ["not preventable by UN R157's careful driver"]
        parts.append(
            f"<h2>{html.escape(sheet.family)}</h2><p>{about} <small>{', '.join(notes)}</small></p>"
            f'<img src="{sheet.family}.webp" alt="{html.escape(sheet.family)}, three moments">'
        )
    style = "body{font:16px system-ui;margin:2rem auto;max-width:1440px;padding:0 1rem}img{width:100%}small{color:#666}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Edge cases</title>'
        f"<style>{style}</style><h1>Edge cases</h1>{''.join(parts)}</html>"
    )
