"""Committed reports in, the tables of README.md, docs/scenarios.md and docs/RESULTS.md out: no number by hand.

Every `docs/results/NAME.json` is a report written by `drivebyword evaluate` (or `bench`). README shows the rows of
`town.json` a newcomer needs, scenarios.md the families; RESULTS shows everything. `make tables` runs this; a test
compares.

    python tools/write_tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drivebyword.data.files import write_atomic
from drivebyword.evaluate.report import render_families, render_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- results:begin (written by `make tables` from docs/results/*.json) -->", "<!-- results:end -->"
SHOWN = ["policy", "guarded", "expert", "constant-speed", "instruction-blind"]


def readme_table() -> str:
    """Return what stands between the markers of README.md."""
    path = RESULTS / "town.json"
    if not path.exists():
        return f"{BEGIN}\n{END}"
    return f"{BEGIN}\n{render_table(json.loads(path.read_text(encoding='utf-8')), SHOWN)}\n{END}"


def results_page() -> str:
    """Return docs/RESULTS.md."""
    parts = [
        "# Results",
        "",
        "Written by `make tables` from the reports in `docs/results`; no number is typed by hand.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        parts += ["", f"## {path.stem}", "", _origin(report), ""]
        parts.append(bench_table(report) if "bench" in report else render_table(report))
    return "\n".join(parts) + "\n"


def _origin(report: dict[str, Any]) -> str:
    """Return one line: command, commit, machine."""
    machine = report.get("machine") or {}
    facts = ", ".join(f"{key} {value}" for key, value in machine.items()) if isinstance(machine, dict) else str(machine)
    command = report.get("command") or f"drivebyword bench {report.get('bench')}"
    return f"`{command}` at `{str(report.get('commit') or 'no commit')[:10]}`; {facts}."


def bench_table(report: dict[str, Any]) -> str:
    """Return a bench's rows in Markdown."""
    lines = ["| row | value | unit | bar |", "|---|---|---|---|"]
    for name, row in report["rows"].items():
        bars = [
            f"{word} {row[key]:.4g}"
            for key, word in (("floor", "at least"), ("ceiling", "at most"))
            if row.get(key) is not None
        ]
        between = f" [{row['low']:.4g}, {row['high']:.4g}]" if "low" in row else ""
        lines.append(f"| {name} | {row['value']:.4g}{between} | {row['unit']} | {bars[0] if bars else '-'} |")
    return "\n".join(lines)


def families_table() -> str:
    """Return what stands between the markers of docs/scenarios.md."""
    path = RESULTS / "families.json"
    if not path.exists():
        return f"{BEGIN}\n{END}"
    return f"{BEGIN}\n{render_families(json.loads(path.read_text(encoding='utf-8')), 'expert')}\n{END}"


def filled(text: str, table: str) -> str:
    """Return a page's text with the table of today's reports."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + table + tail


def main() -> None:
    """Write all three files."""
    for page, table in ((ROOT / "README.md", readme_table()), (ROOT / "docs" / "scenarios.md", families_table())):
        write_atomic(page, filled(page.read_text(encoding="utf-8"), table))
    write_atomic(ROOT / "docs" / "RESULTS.md", results_page())
    print("written: README.md, docs/scenarios.md, docs/RESULTS.md")


if __name__ == "__main__":
    main()
