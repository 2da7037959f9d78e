"""Results in; report.json, a page made from it, README tables and gates out. No number is typed by hand.

The schema is one for every judging: policies -> NAME -> metrics -> {"k", "n", "rate", "low", "high"} or
{"mean", "low", "high", "n"}, with the same per family, paired comparisons and the failed scenes.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from drivebyword.core.seeds import split_of
from drivebyword.data.files import write_atomic, write_json
from drivebyword.evaluate.intervals import (
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_ratio_difference,
    paired_difference,
    wilson,
)
from drivebyword.loop.batching import Checkpoint, numerics
from drivebyword.loop.policies import CHECKPOINTS
from drivebyword.metrics import EVENT_METRICS
from drivebyword.world.families import HELD_OUT

if TYPE_CHECKING:
    from drivebyword.evaluate.rows import Row
    from drivebyword.evaluate.suites import Suite

RATES = ("success", *EVENT_METRICS, "crashed", "comfort", "ttc", "lane_keeping")
MEANS = ("driving_score", "progress", "comfort_steps", "replaced", "clipped", "duration_s")
ONCE = ("handled", "happened")
"""Counted at most once a scene."""
LOWER_IS_BETTER = (*EVENT_METRICS, "crashed", "replaced", "clipped", "duration_s")
COMPARED = ("success", "collision_at_fault", "driving_score")
Results = list[dict[str, Any]]
Cell = dict[str, float | int]
"""One metric: k, n, rate, low, high or mean, low, high, n."""


def build_report(
    results: Results,
    rows: dict[str, Row],
    suite: Suite,
    digest: str,
    seeds: tuple[int, int],
    keys: dict[str, str],
    command: str | None = None,
) -> dict[str, Any]:
    """Aggregate the results of every row."""
    by_row = {name: [r for r in results if r["row"] == name] for name in rows}
    policies: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        policies[name] = {
            "checkpoint": _driver_name(row),
            "config_hash": keys[name],
            "guarded": row.guarded,
            "without": list(row.without),
            "sentences": row.sentences,
            "metrics": measure(by_row[name]),
            "families": _families(by_row[name]),
            "failures": _failures(by_row[name]),
        }
        if row.sentences == "own" and not row.without:
            _add_causal(policies[name]["metrics"], by_row[name], _null_of(name, rows, by_row))
    networks = any(isinstance(row.driver, Checkpoint) for row in rows.values())
    return {
        "command": command or "drivebyword " + shlex.join(sys.argv[1:]),
        # Of the code that drove, which a checkout may have left by now.
        "commit": ", ".join(sorted({r.get("commit") or "unknown" for r in results})),
        "machine": machine(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "suite": suite.name,
        "suite_hash": digest,
        "seeds": list(seeds),
        "split": split_of(seeds[0]),
        "numerics": numerics() if networks else "no network drove",
        "policies": policies,
        "comparisons": _comparisons(by_row),
    }


def _driver_name(row: Row) -> str:
    """Return a shipped checkpoint's name, another one's folder, or the name of what makes the driver."""
    folder = getattr(row.driver, "folder", None)
    if folder is None:
        return str(getattr(row.driver, "__name__", repr(row.driver)))
    return folder.name if folder.parent == CHECKPOINTS else os.path.relpath(folder)


def measure(results: Results) -> dict[str, Cell]:
    """Return every metric of one row with its interval."""
    scores = [r["scores"] for r in results]
    found: dict[str, Cell] = {}
    for name in RATES:
        # A metric that is missing or not finite is a failure, not a gap.
        worst = 1.0 if name in LOWER_IS_BETTER else 0.0
        values = [_finite(s.get(name, 0.0 if name == "crashed" else worst), worst) for s in scores]
        found[name] = asdict(wilson(round(sum(values)), len(values)))
    for name in MEANS:
        known = [_finite(s[name], 0.0) for s in scores if name in s]
        found[name] = asdict(bootstrap_mean(np.array(known, float)))
    for name in sorted({key[:-2] for s in scores for key in s if key.endswith("_n")}):
        k, n = _counts(scores, name)
        if n.sum() > 0:
            found[name] = asdict(wilson(round(k.sum()), round(n.sum())) if name in ONCE else bootstrap_ratio(k, n))
    return found


def _finite(value: float, otherwise: float) -> float:
    return float(value) if np.isfinite(value) else otherwise


def _counts(scores: list[dict[str, float]], name: str) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return k and n of each episode."""
    k, n = ([float(s.get(f"{name}_{part}", 0.0)) for s in scores] for part in ("k", "n"))
    return np.array(k), np.array(n)


def _families(results: Results) -> dict[str, dict[str, Cell]]:
    """Return the metrics by scenario and weather, where there is more than one."""
    names = sorted({f"{r['scenario']}/{r['family']}" for r in results})
    groups = {n: [r for r in results if f"{r['scenario']}/{r['family']}" == n] for n in names}
    return {n: measure(group) for n, group in groups.items()} if len(groups) > 1 else {}


def _failures(results: Results) -> list[dict[str, Any]]:
    """List the scenes that did not succeed, with why and how to watch them."""
    failed = [r for r in results if r["scores"].get("success") != 1.0]
    return [{key: r[key] for key in ("seed", "scenario", "family", "ended", "why")} for r in failed]


def _null_of(name: str, rows: dict[str, Row], by_row: dict[str, Results]) -> Results:
    """Return the results of the row that differs from `name` only in hearing nothing."""
    for other, row in rows.items():
        if row.sentences == "none" and row.driver == rows[name].driver and row.guarded == rows[name].guarded:
            return by_row[other]
    return []


def _add_causal(metrics: dict[str, Cell], told: Results, untold: Results) -> None:
    """Add compliance minus what comes true anyway, on the scenes both drove."""
    there = {r["seed"]: r["scores"] for r in untold}
    pairs = [(r["scores"], there[r["seed"]]) for r in told if r["seed"] in there]
    if not pairs:
        return
    for name in ("compliance", "junction_compliance"):
        (k, n), (k0, n0) = _counts([a for a, _ in pairs], name), _counts([b for _, b in pairs], name)
        if n.sum() > 0 and n0.sum() > 0:
            prefix = "causal_" if name == "compliance" else "causal_junction_"
            metrics[prefix + "compliance"] = asdict(bootstrap_ratio_difference(k, n, k0, n0))


def _comparisons(by_row: dict[str, Results]) -> list[dict[str, Any]]:
    """Compare the first row, and the guarded one, with every other on the scenes both drove."""
    found = []
    names = list(by_row)
    for first in dict.fromkeys([*names[:1], *(n for n in names if n == "guarded")]):
        mine = {r["seed"]: r["scores"] for r in by_row[first]}
        for other in names:
            theirs = {r["seed"]: r["scores"] for r in by_row[other]}
            shared = sorted(mine.keys() & theirs.keys())
            if other == first or not shared:
                continue
            for metric in COMPARED:
                a, b = (np.array([side[s].get(metric, 0.0) for s in shared]) for side in (mine, theirs))
                found.append({"metric": metric, "a": first, "b": other, **asdict(paired_difference(a, b))})
    return found


# --------------------------------------------------------------------------- where and when


def commit() -> str | None:
    """Return the commit of the checkout this package runs from, None outside of one or without git."""
    try:
        here = Path(__file__).parent
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, Any]:
    """Describe the machine as far as figures depend on it."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    versions = {}
    for package in ("torch", "numpy", "numba", "libsumo"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


# --------------------------------------------------------------------------- files, tables, gates


def write_report(report: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Write report.json and report.html; return both paths."""
    from drivebyword.evaluate.page import render_page

    return write_json(out / "report.json", report), write_atomic(out / "report.html", render_page(report))


TABLE = (
    ("success", "success"),
    ("driving_score", "driving score"),
    ("collision_at_fault", "at-fault collision"),
    ("red_light", "red light"),
    ("offroad", "off-road"),
    ("junction_compliance", "compliance at junctions"),
    ("reason_act_agreement", "reason agrees with act"),
)


def show_value(name: str, cell: Cell | None) -> str:
    """Render a metric with its interval, as `87.0 % [82.7, 90.3]`."""
    if cell is None or cell.get("n") == 0:
        return "-"
    if "rate" in cell:
        return f"{100 * cell['rate']:.1f} % [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"
    if name == "driving_score" or name.endswith("_s"):
        return f"{cell['mean']:.1f} [{cell['low']:.1f}, {cell['high']:.1f}]"
    return f"{100 * cell['mean']:.1f} % [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def render_table(report: dict[str, Any], rows: list[str] | None = None) -> str:
    """Return the report's main table in Markdown, rates with 95 % intervals."""
    policies = report["policies"]
    shown = [n for n in (rows or policies) if n in policies]
    columns = [(m, title) for m, title in TABLE if any(m in policies[n]["metrics"] for n in shown)]
    lines = ["| row | scenes | " + " | ".join(title for _, title in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name in shown:
        metrics = policies[name]["metrics"]
        cells = [show_value(m, metrics.get(m)) for m, _ in columns]
        lines.append(f"| {name} | {metrics['success']['n']} | " + " | ".join(cells) + " |")
    a, b = report["seeds"]
    lines.append("")
    lines.append(f"Suite `{report['suite']}` ({report['suite_hash']}), seeds {a}:{b}; 95 % intervals.")
    return "\n".join(lines)


def render_families(report: dict[str, Any], row: str) -> str:
    """Return how one row did in every family of edge cases, in Markdown; rates with 95 % intervals."""
    lines = ["| family | scenes | happened | preventable | handled |", "|---|---|---|---|---|"]
    for name, metrics in report["policies"][row]["families"].items():
        if "happened" not in metrics:
            continue
        family, happened = name.partition("/")[0], metrics["happened"]
        handled = metrics.get("handled", {"k": 0, "n": 0})
        told = f"{family} (held out)" if family in HELD_OUT else family
        share = show_value("handled", handled)
        lines.append(
            f"| {told} | {metrics['success']['n']} | {happened['k']} of {happened['n']} | {handled['n']} | "
            f"{handled['k']} of {handled['n']}: {share} |"
        )
    a, b = report["seeds"]
    return "\n".join([*lines, "", f"`{report['command']}`: suite {report['suite_hash']}, seeds {a}:{b}."])


def check_gates(report: dict[str, Any], gates: list[str]) -> list[str]:
    """Return a line for every gate that is not met.

    A gate is `METRIC=BOUND` (of the first row) or `ROW.METRIC=BOUND`. It is met when the interval's bound
    passes: the lower one of what should be high, the upper one of what should be low.
    """
    missed = []
    for gate in gates:
        left, equals, right = gate.partition("=")
        row, dot, metric = left.rpartition(".")
        row = row if dot else next(iter(report["policies"]))
        try:
            bound = float(right)
        except ValueError:
            bound = float("nan")
        if not equals or bound != bound:
            raise ValueError(f"gate {gate!r} is not METRIC=NUMBER or ROW.METRIC=NUMBER, e.g. success=0.85")
        if row not in report["policies"]:
            raise ValueError(f"gate {gate!r}: no row {row!r}; rows are {', '.join(report['policies'])}")
        cell = report["policies"][row]["metrics"].get(metric)
        if cell is None:
            known = ", ".join(report["policies"][row]["metrics"])
            raise ValueError(f"gate {gate!r}: row {row!r} has no metric {metric!r}; it has {known}")
        low = metric in LOWER_IS_BETTER
        value = cell["high"] if low else cell["low"]
        if (value > bound) if low else (value < bound):
            side = "upper" if low else "lower"
            missed.append(f"gate missed: {row} {metric} {show_value(metric, cell)}, {side} bound must pass {bound:g}")
    return missed
