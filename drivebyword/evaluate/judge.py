"""Rows and scenes in, a report out: every row drives every scene, closed-loop, on several processes.

Each finished episode is one line of `results.jsonl` in the output folder, flushed to disk; a killed run,
started again, drives only what is missing. An episode whose software crashed is a failure in every
respect and stays in the denominator, whether it raised or took its process with it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from drivebyword.core.records import Episode, Event
from drivebyword.core.rig import RigConfig
from drivebyword.data.files import one_line_errors
from drivebyword.evaluate.report import build_report, commit, write_report
from drivebyword.evaluate.rows import Row, make_transform, reads_sensors
from drivebyword.evaluate.suites import Suite, suite_hash
from drivebyword.loop.batching import Checkpoint, Networks, numerics
from drivebyword.loop.fleet import SCENE_S, Done, run_tasks, with_progress
from drivebyword.metrics import ENDED_WELL, habits, score, worst_score
from drivebyword.world.families import FAMILIES

RESULTS = "results.jsonl"
DRIVEN = ("core/*.py", "tokens/*.py", "world/**/*.py", "guard/*.py", "model/*.py", "loop/*.py", "metrics.py")
"""Code whose change makes old results those of another driver or another world."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One task: a row in a scene."""

    row: str
    seed: int


def evaluate(
    rows: dict[str, Row],
    suite: Suite,
    seeds: tuple[int, int],
    out: Path,
    *,
    rig: RigConfig,
    processes: int = 2,
    show: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Judge every row on the scenes [A, B); write results.jsonl, report.json and report.html; return the report."""
    digest = suite_hash(suite)
    rendered = any(reads_sensors(row) for row in rows.values())
    keys = {name: _fingerprint(row, digest, rig, rendered) for name, row in rows.items()}
    out = Path(out)
    with one_line_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    results = {(r["row"], r["seed"]): r for r in read_results(out / RESULTS) if keys.get(r["row"]) == r["key"]}
    # Scene by scene, not row by row: whenever it is stopped, the rows can be compared in pairs.
    todo = [Scene(n, s) for s in range(*seeds) for n in rows if (n, s) not in results]
    with one_line_errors(out), (out / RESULTS).open("a", encoding="utf-8") as file:
        driven_at = commit()
        for result in _drive(rows, suite, rig, todo, processes, show):
            result |= {"key": keys[result["row"]], "commit": driven_at}
            results[result["row"], result["seed"]] = result
            file.write(json.dumps(result) + "\n")
            file.flush()
            os.fsync(file.fileno())
    wanted = [results[n, s] for n in rows for s in range(*seeds) if (n, s) in results]
    report = build_report(wanted, rows, suite, digest, seeds, keys, command)
    write_report(report, out)
    return report


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the finished episodes; a line cut off by a kill is dropped."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _fingerprint(row: Row, digest: str, rig: RigConfig, rendered: bool) -> str:
    """Return a hash of all that a result depends on but the seed."""
    code = code_digest(Path(__file__).parent.parent)
    senses = rig if rendered else None
    # Kernels are compiled to know it: not for a row that no network drives.
    computed = numerics() if isinstance(row.driver, Checkpoint) else ""
    raw = repr((row.guarded, row.without, row.sentences, digest, senses, driver_digest(row), computed, code))
    return hashlib.sha256(raw.encode()).hexdigest()[:16]


@cache
def code_digest(package: Path) -> str:
    """Return a hash of the code that a drive runs through; comments and docstrings may change."""
    digest = hashlib.sha256()
    for path in sorted(p for name in DRIVEN for p in package.glob(name)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list):
                node.body = [n for n in node.body if not _says_only(n)]  # type: ignore[attr-defined]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def _says_only(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def driver_digest(row: Row) -> str:
    """Return what tells one driver from another: a checkpoint's manifest, or the factory's name."""
    if isinstance(row.driver, Checkpoint):
        folder = Path(row.driver.folder)
        for name in ("manifest.json", "config.json"):
            if (folder / name).exists():
                return hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16]
        raise ValueError(f"{folder} is no checkpoint: it has neither manifest.json nor config.json")
    return getattr(row.driver, "__qualname__", repr(row.driver))


def _drive(
    rows: dict[str, Row], suite: Suite, rig: RigConfig, todo: list[Scene], processes: int, show: bool
) -> Iterator[dict[str, Any]]:
    """Yield the result of every scene."""
    if not todo:
        return
    with Networks(processes) as networks:
        served = {name: _served(row, networks) for name, row in rows.items()}
        found = _surviving(partial(_make_worker, served, suite, rig), todo, networks.worlds, networks.check)
        for done in with_progress(found, len(todo), show, lambda value: value["steps"]):
            yield done.value if done.error is None else crashed(done.task, suite, done.error)


def _served(row: Row, networks: Networks) -> Row:
    """Let a checkpoint's drivers ask the networks."""
    return replace(row, driver=networks.serve(row.driver)) if isinstance(row.driver, Checkpoint) else row


def _surviving(
    make_worker: Callable[[], Any], todo: list[Scene], processes: int, check: Callable[[], None]
) -> Iterator[Done[Scene]]:
    """Drive all scenes even when processes die: what is lost is driven once more, each alone, then given up."""
    lost = []
    for done in run_tasks(make_worker, todo, processes, limit_s=SCENE_S, tend=check):
        if done.lost:
            lost.append(done.task)
        else:
            yield done
    for scene in lost:
        yield from run_tasks(make_worker, [scene], 1, limit_s=SCENE_S, tend=check)


def _make_worker(rows: dict[str, Row], suite: Suite, rig: RigConfig) -> Callable[[Scene], dict[str, Any]]:
    """Return what drives one scene; the environment and every policy are made once per process."""
    from drivebyword.loop.driver import Policy, driver_in
    from drivebyword.loop.rollout import run_episode
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv(rig=rig, render_sensors=any(reads_sensors(row) for row in rows.values()))
    policies: dict[Any, Policy] = {}

    def work(scene: Scene) -> dict[str, Any]:
        row, started = rows[scene.row], time.monotonic()
        if row.driver not in policies:
            policies[row.driver] = row.driver(env)
        episode = run_episode(
            env,
            driver_in(env, policies[row.driver], row.guarded),
            seed=scene.seed,
            scenario=suite.scenario_of(scene.seed),
            name=scene.row,
            label=False,
            transform=make_transform(row, env, scene.seed),
        )
        return result_of(scene.row, episode, time.monotonic() - started)

    return work


def result_of(row: str, episode: Episode, seconds: float) -> dict[str, Any]:
    """Return the line that an episode leaves behind."""
    w = episode.weather
    air = {"night": w.night > 0.5, "fog": w.fog_visibility < 300.0, "rain": w.rain > 0, "glare": w.glare > 0,
           "dirt": w.dirt > 0}  # fmt: skip
    return {
        "row": row,
        "seed": episode.seed,
        "scenario": episode.scenario,
        "family": "-".join(name for name, there in air.items() if there) or "day",
        "ended": episode.ended,
        "why": why_of(episode),
        "steps": len(episode),
        "seconds": round(seconds, 2),
        "scores": score(episode),
        "habits": habits(episode),
    }


def why_of(episode: Episode) -> str:
    """Say in a few words what went wrong first, empty when nothing did."""
    bad = Event(0)
    for event in Event:
        if event not in (Event.NONE, Event.AT_FAULT, Event.ARRIVED):
            bad |= event
    for step, flags in enumerate(episode.events):
        found = Event(int(flags)) & bad
        if found:
            names = " + ".join(e.name.lower().replace("_", " ") for e in Event if e & found and e.name)
            fault = " (at fault)" if int(flags) & Event.AT_FAULT else ""
            index = int(episode.instruction_index[step])
            said = episode.instructions[index].sentence if 0 <= index < len(episode.instructions) else ""
            speed = float(episode.motion[step, 0])
            return f"{names}{fault} at {step * episode.dt:.0f} s, {speed:.0f} m/s, told {said!r}"
    missed = [r.sentence for r in episode.instructions if r.outcome == "missed"]
    if missed:
        return f"missed {missed[0]!r}"
    if episode.edge is not None and episode.edge.breach is not None:
        return episode.edge.breach
    return "" if episode.ended in ENDED_WELL else episode.ended


def crashed(scene: Scene, suite: Suite, why: str) -> dict[str, Any]:
    """Return the line of an episode that the software did not survive."""
    unhandled = {"handled_k": 0.0, "handled_n": 1.0, "happened_k": 0.0, "happened_n": 1.0}
    return {
        "row": scene.row,
        "seed": scene.seed,
        "scenario": suite.scenario_of(scene.seed),
        "family": "crashed",
        "ended": "crashed",
        "why": why,
        "steps": 0,
        "seconds": 0.0,
        "scores": worst_score() | (unhandled if suite.scenario_of(scene.seed) in FAMILIES else {}),
    }
