"""What reinforcement did: drives of the same scenes before and after in; every sub-score, families and alarms out.

A reward is only as good as what it does not pay for. So every score and every habit stands here with its paired
difference, those nobody asked for included, and a habit that grew by more than chance is an alarm.
"""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from drivebyword.core.rig import RigConfig
from drivebyword.data.files import write_atomic, write_json
from drivebyword.evaluate.intervals import paired_difference
from drivebyword.evaluate.judge import RESULTS, evaluate, read_results
from drivebyword.evaluate.page import document, table
from drivebyword.evaluate.report import LOWER_IS_BETTER
from drivebyword.evaluate.rows import Row
from drivebyword.evaluate.suites import Suite
from drivebyword.loop.batching import Checkpoint
from drivebyword.metrics import HABITS

SCORES = (
    "success", "driving_score", "progress", "collision_at_fault", "collision", "collision_person", "collision_vehicle",
    "collision_static", "offroad", "red_light", "stop_line", "wrong_way", "wrong_branch", "timeout", "compliance",
    "junction_compliance", "comfort", "comfort_steps", "ttc", "lane_keeping", "handled", "replaced", "clipped",
    "duration_s",
)  # fmt: skip
ALARMS = {
    "creeping": ("creeps where nothing is near", 0.01),
    "standing_longest_s": ("stands longer", 2.0),
    "horizon_jump": ("jerks at the horizon of its chunk, where nobody drives", 0.02),
    "edge_hugging": ("hugs the edge of its lane", 0.05),
    "reason_act_disagreement": ("says one thing and does another", 0.01),
    "timeout": ("does not arrive in time", 0.01),
}
"""Habit or score, what its growth means, and by how much it must have grown besides more than chance."""
Results = list[dict[str, Any]]


def before_and_after(
    run: Path,
    suite: Suite,
    seeds: tuple[int, int],
    out: Path,
    *,
    rig: RigConfig,
    guarded: bool = False,
    processes: int = 2,
    command: str = "",
) -> dict[str, Any]:
    """Drive a run's policy as it was when it first practised, and as it ended, and compare. Raises ValueError."""
    first = sorted(run.glob("round-*/practice"), key=lambda folder: int(folder.parent.name.partition("-")[2]))
    folders = {"before": first[0].parent / "driver" if first else run, "after": run / "checkpoint"}
    for name, folder in folders.items():
        if not (folder / "config.json").exists():
            raise ValueError(f"{run} holds no checkpoint from {name} practice: finish a run that practises first")
    rows = {name: Row(driver=Checkpoint(folder), guarded=guarded) for name, folder in folders.items()}
    evaluate(rows, suite, seeds, out, rig=rig, processes=processes, command=command)
    return audit(*paired(out, seeds)) | {"command": command, "suite": suite.name, "seeds": list(seeds)}


def paired(folder: Path, seeds: tuple[int, int]) -> tuple[Results, Results]:
    """Return the newest results of the rows `before` and `after` on some seeds."""
    newest = {(r["row"], r["seed"]): r for r in read_results(folder / RESULTS) if seeds[0] <= r["seed"] < seeds[1]}
    ordered = [newest[key] for key in sorted(newest)]
    return [r for r in ordered if r["row"] == "before"], [r for r in ordered if r["row"] == "after"]


def audit(before: Results, after: Results) -> dict[str, Any]:
    """Compare results of the same scenes, scene by scene."""
    old = {(r["scenario"], r["seed"]): r for r in before}
    new = {(r["scenario"], r["seed"]): r for r in after}
    shared = sorted(old.keys() & new.keys())
    if not shared:
        raise ValueError("before and after share no scene: nothing to compare")
    pairs = [(old[key], new[key]) for key in shared]
    measures = {name: found for name in (*SCORES, *HABITS) if (found := _difference(name, pairs)) is not None}
    families = _families(pairs)
    alarms = [
        {"measure": name, "alarm": text, "by": measures[name]["difference"], "low": measures[name]["low"]}
        for name, (text, least) in ALARMS.items()
        if name in measures and measures[name]["low"] > 0.0 and measures[name]["difference"] > least
    ]
    return {
        "scenes": len(shared),
        "measures": measures,
        "families": families,
        "worst": [f["family"] for f in families[:3]],
        "alarms": alarms,
        "lost": [_told(b) for a, b in pairs if a["scores"]["success"] > b["scores"]["success"]],
        "gained": [_told(b) for a, b in pairs if a["scores"]["success"] < b["scores"]["success"]],
    }


def _difference(name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any] | None:
    """Return after minus before of one measure, on the scenes where both have it."""
    values = [(_value(name, a), _value(name, b)) for a, b in pairs]
    known = np.array([(a, b) for a, b in values if a is not None and b is not None], np.float64)
    if not len(known):
        return None
    gap = paired_difference(known[:, 1], known[:, 0])
    lower = name in LOWER_IS_BETTER or name in HABITS
    verdict = "same"
    if gap.low > 0.0 or gap.high < 0.0:
        verdict = "worse" if (gap.low > 0.0) == lower else "better"
    return {"before": _mean(known[:, 0]), "after": _mean(known[:, 1]), **asdict(gap), "verdict": verdict}


def _value(name: str, result: dict[str, Any]) -> float | None:
    """Return a scene's measure; None where there is nothing to measure."""
    scores = result["scores"]
    if name in HABITS:
        return result.get("habits", {}).get(name)
    if f"{name}_n" in scores:
        return scores[f"{name}_k"] / scores[f"{name}_n"] if scores[f"{name}_n"] > 0 else None
    return scores.get(name)


def _mean(values: Float64[np.ndarray, " N"]) -> float:
    return round(float(values.mean()), 5)


def _families(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return success by family, worst after training first."""
    groups: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for a, b in pairs:
        groups.setdefault(f"{a['scenario']}/{a['family']}", []).append((a, b))
    found = []
    for name, group in groups.items():
        difference = _difference("success", group)
        assert difference is not None
        found.append({"family": name, "scenes": len(group), **difference})
    return sorted(found, key=lambda f: (f["after"], f["family"]))


def _told(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("seed", "scenario", "family", "ended", "why")}


def write_audit(found: dict[str, Any], out: Path) -> Path:
    """Write audit.json and audit.html; return the page."""
    write_json(out / "audit.json", found)
    return write_atomic(out / "audit.html", render(found))


def render(found: dict[str, Any]) -> str:
    """Return the page."""
    alarms = found["alarms"]
    said = "".join(
        f"<li><b>{escape(a['alarm'])}</b>: {escape(a['measure'].replace('_', ' '))} {a['by']:+.3f} (at least "
        f"{a['low']:+.3f})</li>"
        for a in alarms
    )
    parts = [
        "<h1>Reward audit</h1>",
        f"<p class=soft><code>{escape(found.get('command', ''))}</code><br>{found['scenes']} scenes, the same before "
        "and after; differences with paired 95 % bootstrap intervals.</p>",
        "<h2>Alarms</h2>",
        f"<ul>{said}</ul>" if alarms else "<p>None: no known way to please the reward grew by more than chance.</p>",
        "<h2>Every score, before and after</h2>",
        table(
            ["measure", "before", "after", "difference", "verdict", "scenes"],
            [_row(name.replace("_", " "), m) for name, m in found["measures"].items()],
        ),
        "<h2>Families, worst first</h2>",
        table(
            ["family", "success before", "after", "difference", "verdict", "scenes"],
            [_row(f["family"], f) for f in found["families"]],
        ),
        *(_scenes(title, found[key]) for key, title in (("lost", "Scenes lost"), ("gained", "Scenes gained"))),
    ]
    return document("Reward audit", parts)


def _row(name: str, m: dict[str, Any]) -> list[str]:
    gap = f"{m['difference']:+.3f} [{m['low']:+.3f}, {m['high']:+.3f}]"
    return [escape(name), f"{m['before']:.3f}", f"{m['after']:.3f}", gap, m["verdict"], str(m["n"])]


def _scenes(title: str, scenes: list[dict[str, Any]]) -> str:
    """Render a list of scenes."""
    items = "".join(
        f"<li>{escape(s['scenario'])} {s['seed']}, {escape(s['family'])}: {escape(s['why'] or s['ended'])}</li>"
        for s in scenes
    )
    return f"<details open><summary>{title}: {len(scenes)}</summary><ul>{items}</ul></details>"
