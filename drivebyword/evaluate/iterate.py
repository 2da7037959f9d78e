"""From failing scenes to a better checkpoint, or the proof that it is none: a report in, a verdict out.

    failing scenes of the report -> variants: training seeds nearest to them -> practice there -> both checkpoints
    judged on other seeds of the same scenarios, and on `town` -> accepted only if better by interval, worse nowhere

No person labels anything: variants are drawn, the expert and the reward do the rest. Every stage leaves files behind;
a killed cycle, started again, goes on where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drivebyword.core.seeds import TRAIN_SEEDS, VALIDATION_SEEDS
from drivebyword.data.files import read_json, sha256_file, write_json
from drivebyword.evaluate.audit import audit, paired, write_audit
from drivebyword.evaluate.intervals import PairedDifference, paired_difference
from drivebyword.evaluate.judge import evaluate
from drivebyword.evaluate.rows import Row
from drivebyword.evaluate.suites import Suite, suite
from drivebyword.loop.batching import Checkpoint
from drivebyword.train.curriculum import CurriculumConfig, Scene
from drivebyword.train.loop import TrainConfig, train
from drivebyword.world.families import HELD_OUT
from drivebyword.world.scenario import TWIN, find_scenario
from drivebyword.world.scenario import Scene as Start

CANDIDATES = 48
"""Training seeds looked at for each variant."""
TOWN_FROM = 10_000
"""How far from the fresh seeds those of `town` begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IterateConfig:
    """One turn of the cycle."""

    report: Path
    """report.json of a judging on validation seeds, in which scenes failed."""
    checkpoint: Path
    """What is to become better."""
    row: str = "policy"
    """Whose failures count."""
    failing: int = 20
    """At most so many failing scenes are worked on."""
    variants: int = 3
    """Training scenes for each of them."""
    fresh: int = 40
    """Other validation scenes of the same scenarios to be judged on."""
    town: int = 40
    """Scenes of `town` in which nothing may get worse."""
    guarded: bool = False
    processes: int = 2


def failing_scenes(report: dict[str, Any], row: str, most: int) -> list[Scene]:
    """Return the scenes a row failed in that may be learnt from. Raises ValueError where there are none."""
    if report.get("split") != "validation":
        raise ValueError(
            f"the report judges {report.get('split')} seeds: what steers training must come from validation seeds "
            f"{VALIDATION_SEEDS.start}:{VALIDATION_SEEDS.stop}, so that test seeds stay unseen"
        )
    if row not in report["policies"]:
        raise ValueError(f"the report has no row {row!r}; it has {', '.join(report['policies'])}")
    scenes = [Scene(f["scenario"], int(f["seed"])) for f in report["policies"][row]["failures"]]
    open_ones = [s for s in scenes if s.scenario.split("/")[0] not in HELD_OUT]
    if not open_ones:
        raise ValueError(f"row {row!r} failed in no scene that may be learnt from: nothing to iterate on")
    return open_ones[:most]


def variants(failed: Sequence[Scene], each: int) -> list[Scene]:
    """Return training scenes of the same scenarios, for each failing one those that are most like it."""
    chosen: dict[Scene, None] = {}
    for scenario, seed in failed:
        recipe = find_scenario(scenario)
        wanted = recipe.sample(seed)
        rng = np.random.default_rng([seed, 41])
        seeds = rng.choice(TRAIN_SEEDS.stop, CANDIDATES * each, replace=False)
        ranked = sorted(seeds.tolist(), key=lambda other: (_distance(wanted, recipe.sample(other)), other))
        chosen |= dict.fromkeys(Scene(scenario, other) for other in ranked[:each])
    return list(chosen)


def _distance(a: Start, b: Start) -> float:
    """Return how unlike two starts are: the light, what is asked, who is about."""
    light = abs(a.weather.night - b.weather.night) + abs(a.weather.rain - b.weather.rain) / 50.0
    light += abs(np.log(a.weather.fog_visibility / b.weather.fog_visibility))
    light += abs(a.weather.glare - b.weather.glare) + abs(a.weather.dirt - b.weather.dirt)
    asked, other = Counter(a.script), Counter(b.script)
    unlike = 1.0 - sum((asked & other).values()) / max(1, sum((asked | other).values()))
    about = abs(a.vehicles - b.vehicles) / 30.0 + abs(a.people - b.people) / 20.0
    return float(2.0 * light + 2.0 * unlike + about)


def iterate(config: IterateConfig, run: TrainConfig, out: Path, command: str, show: bool = True) -> dict[str, Any]:
    """Run or resume the cycle; return the verdict, which is also written to cycle.json.

    Args:
        config: What to work on.
        run: How to train; its start and curriculum are set here.
        out: Folder of the cycle.
        command: As it was typed.
        show: Print progress.
    """
    out.mkdir(parents=True, exist_ok=True)
    clock = _Clock(out / "clock.json")
    report = read_json(config.report)
    failed = failing_scenes(report, config.row, config.failing)
    near = variants(failed, config.variants)
    scenarios = tuple(sorted({scene.scenario for scene in failed}))
    curriculum = CurriculumConfig(families=scenarios, scenes=tuple((s.scenario, s.seed) for s in near), again=0.75)
    start = config.checkpoint
    with clock.on("training"):
        after = train(replace(run, start=start, curriculum=curriculum), out / "train", show)
    first = _unseen(start, report)
    rows = {
        name: Row(driver=Checkpoint(f), guarded=config.guarded) for name, f in (("before", start), ("after", after))
    }
    fresh = Suite(name="fresh", about="other seeds of the scenarios that failed", scenarios=scenarios)
    judged = {}
    spans = {"fresh": (first, first + config.fresh), "town": (first + TOWN_FROM, first + TOWN_FROM + config.town)}
    for chosen in (fresh, suite("town")):
        folder, seeds = out / f"judged-{chosen.name}", spans[chosen.name]
        with clock.on("judging"):
            evaluate(rows, chosen, seeds, folder, rig=run.rig, processes=config.processes, show=show, command=command)
        judged[chosen.name] = paired(folder, seeds)
    found = verdict(judged["fresh"], judged["town"])
    minutes = {name: round(seconds / 60.0, 2) for name, seconds in clock.seconds.items()}
    found |= {
        "command": command,
        "checkpoint": str(after.relative_to(out)),
        "failing": [scene._asdict() for scene in failed],
        "variants": [scene._asdict() for scene in near],
        "seeds": {name: list(span) for name, span in spans.items()},
        "iteration_cycle_minutes": round(sum(minutes.values()), 2),
        "minutes": minutes,
        "human_labels": 0,
    }
    for name, (before, later) in judged.items():
        write_audit(audit(before, later) | {"command": command}, out / f"judged-{name}")
    write_json(out / "cycle.json", found)
    return found


def _unseen(checkpoint: Path, report: dict[str, Any]) -> int:
    """Return the first of the validation seeds to judge on: others for every checkpoint, none of the report's."""
    manifest = checkpoint / "manifest.json"
    digest = sha256_file(manifest if manifest.exists() else checkpoint / "config.json")
    first = VALIDATION_SEEDS.start + 1000 * (int(digest[:8], 16) % 900)
    low, high = report["seeds"]
    return first + 50_000 if low < first + 25_000 and first < high else first


Judged = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def verdict(fresh: Judged, town: Judged) -> dict[str, Any]:
    """Accept what is better by interval on fresh seeds, and worse by interval nowhere."""
    gain = compare(fresh, good)
    checks = {
        "town success": compare(town, good),
        "town driving score": compare(town, lambda r: r["scores"]["driving_score"] / 100.0),
        "town without collision at fault": compare(town, lambda r: 1.0 - r["scores"]["collision_at_fault"]),
    }
    for scenario in sorted({r["scenario"] for r in fresh[0]}):
        own = tuple([r for r in side if r["scenario"] == scenario] for side in fresh)
        checks[f"fresh {scenario}"] = compare((own[0], own[1]), good)
    worse = [name for name, gap in checks.items() if gap.high < 0.0]
    better = gain.low > 0.0
    why = "better on fresh seeds by interval, worse nowhere"
    if not better:
        why = f"not better by interval: {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] on fresh seeds"
    elif worse:
        why = f"worse in {', '.join(worse)}"
    shown = {name: [round(v, 4) for v in (g.difference, g.low, g.high)] for name, g in checks.items()}
    return {
        "accepted": better and not worse,
        "why": why,
        "gain": [round(v, 4) for v in (gain.difference, gain.low, gain.high)],
        "scenes": gain.n,
        "checks": shown,
    }


def good(result: dict[str, Any]) -> float:
    """Return 1 for a scene that went well: handled where it is an edge case that counts, else a success."""
    scores = result["scores"]
    if scores.get("handled_n", 0.0) > 0.0 and not result["scenario"].endswith(f"/{TWIN}"):
        return float(scores["handled_k"] > 0.0)
    return float(scores["success"])


def compare(judged: Judged, measure: Any) -> PairedDifference:
    """Return after minus before of a measure, on the scenes both drove."""
    before, after = ({(r["scenario"], r["seed"]): measure(r) for r in side} for side in judged)
    shared = sorted(before.keys() & after.keys())
    return paired_difference(np.array([after[s] for s in shared]), np.array([before[s] for s in shared]))


class _Clock:
    """Seconds by stage, kept on disk; of a stage that was killed those until its last sign of life."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        if path.exists():
            stored = read_json(path)
            self.seconds = stored["seconds"]
            if stored["running"] is not None:
                signs = [file.stat().st_mtime for file in path.parent.rglob("*") if file.is_file()]
                self._count(stored["running"], max(signs) - stored["since"])

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count what a stage takes."""
        began = time.time()
        write_json(self.path, {"seconds": self.seconds, "running": stage, "since": began})
        try:
            yield
        finally:
            self._count(stage, time.time() - began)

    def _count(self, stage: str, spent: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + max(0.0, spent)
        write_json(self.path, {"seconds": self.seconds, "running": None, "since": time.time()})
