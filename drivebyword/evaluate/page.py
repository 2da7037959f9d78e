"""A report in, one self-contained HTML page out: no script, no network, readable by day and at night.

Colours are Okabe and Ito's, which every kind of colour vision tells apart, and never carry meaning alone.
"""

from __future__ import annotations

from html import escape
from typing import Any

from drivebyword.core.records import INTENTS

COLUMNS = (
    ("success", "success", False),
    ("driving_score", "driving score", False),
    ("collision_at_fault", "at-fault collision", True),
    ("offroad", "off-road", True),
    ("red_light", "red light", True),
    ("stop_line", "stop line", True),
    ("wrong_way", "wrong way", True),
    ("timeout", "time-out", True),
    ("junction_compliance", "compliance at junctions", False),
    ("compliance", "compliance", False),
    ("causal_junction_compliance", "causal compliance at junctions", False),
    ("reason_act_agreement", "reason agrees", False),
    ("comfort_steps", "comfortable steps", False),
    ("ttc", "time to collision kept", False),
    ("lane_keeping", "lane kept", False),
    ("replaced", "guard braked (steps)", True),
)

STYLE = """
:root{--ink:#1b1f24;--soft:#5b6572;--page:#ffffff;--card:#f4f6f8;--line:#d5dbe1;--good:#0072b2;--bad:#d55e00}
@media (prefers-color-scheme:dark){:root{--ink:#e8ecf0;--soft:#9aa7b4;--page:#14181c;--card:#1d2329;
--line:#333c45;--good:#56b4e9;--bad:#e69f00}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;padding:2rem 1.2rem;
max-width:76rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
.soft{color:var(--soft)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child td,tr:last-child th{border-bottom:0}
thead th{background:var(--card);font-weight:600;position:sticky;top:0}
tbody th{position:sticky;left:0;background:var(--page);font-weight:600}
td.wide{white-space:normal;min-width:18rem}
svg{display:block;margin-top:.15rem}
.track{fill:var(--line)}.good{fill:var(--good)}.bad{fill:var(--bad)}.mark{stroke:var(--ink);stroke-width:1.5}
details{border:1px solid var(--line);border-radius:8px;margin:.5rem 0;padding:.5rem .8rem}
summary{cursor:pointer;font-weight:600}
code{background:var(--card);padding:.05rem .3rem;border-radius:4px}
"""


def render_page(report: dict[str, Any]) -> str:
    """Return the page."""
    a, b = report["seeds"]
    title = f"{report['suite']}: {b - a} scenes"
    where = report["machine"]
    about = (
        f"<code>{escape(report['command'])}</code><br>suite {escape(report['suite'])} "
        f"({report['suite_hash']}), {report['split']} seeds {a} to {b - 1}, made {escape(report['created'])}, "
        f"commit {escape(str(report['commit'] or 'unknown'))[:12]}, {escape(str(where.get('cpu')))}, "
        f"{where.get('cores')} cores"
    )
    parts = [
        f"<h1>{escape(title)}</h1><p class=soft>{about}</p>",
        "<p>Every rate is counted over whole drives and shown with its 95 % interval (Wilson; shares within "
        "drives and means: bootstrap over drives). A drive whose software crashed counts as failed. "
        "Bars run from 0 to 100 %; the filled part is the interval.</p>",
        "<h2>Who drove how</h2>",
        _main_table(report["policies"]),
        "<h2>Compliance by what was asked</h2>",
        _intent_table(report["policies"]),
        "<h2>Paired differences</h2>",
        _comparison_table(report.get("comparisons", [])),
        *_family_tables(report["policies"]),
        "<h2>Scenes that failed</h2>",
        *(_failures(name, policy, report["suite"]) for name, policy in report["policies"].items()),
    ]
    return document(title, parts)


def document(title: str, parts: list[str]) -> str:
    """Return a whole page of some parts."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)}</title><style>{STYLE}</style></head><body>'
        + "".join(parts)
        + "</body></html>"
    )


def table(head: list[str], body: list[list[str]]) -> str:
    """Render a table; cells are HTML already, the first of every row is its heading."""
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    rows = "".join(
        f"<tr><th scope=row>{row[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in body
    )
    return f"<div class=scroll><table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>"


def _cell(name: str, cell: dict[str, float | int] | None, low_is_good: bool) -> str:
    """Render a value, its interval and a bar."""
    from drivebyword.evaluate.report import show_value

    if cell is None or cell.get("n") == 0:
        return "<span class=soft>-</span>"
    scale = 100.0 if name == "driving_score" else 1.0
    low, high = (min(max(cell[side] / scale, 0.0), 1.0) for side in ("low", "high"))
    middle = min(max(cell.get("rate", cell.get("mean", 0.0)) / scale, 0.0), 1.0)
    count = f' title="{int(cell["k"])} of {int(cell["n"])}"' if "k" in cell else f' title="n = {int(cell["n"])}"'
    bar = (
        '<svg width="120" height="8" aria-hidden="true"><rect class=track y="3" width="120" height="2"/>'
        f'<rect class={"bad" if low_is_good else "good"} x="{120 * low:.1f}" y="1" '
        f'width="{max(120 * (high - low), 1.5):.1f}" height="6" rx="2"/>'
        f'<line class=mark x1="{120 * middle:.1f}" x2="{120 * middle:.1f}" y1="0" y2="8"/></svg>'
    )
    return f"<span{count}>{escape(show_value(name, cell))}</span>{bar}"


def _main_table(policies: dict[str, Any]) -> str:
    """Render one row for each policy."""
    columns = [c for c in COLUMNS if any(c[0] in p["metrics"] for p in policies.values())]
    body = []
    for name, policy in policies.items():
        note = " ".join([*(f"no {s}" for s in policy["without"]), "guarded" if policy["guarded"] else "alone"])
        head = f"{escape(name)}<br><span class=soft>{escape(note)}</span>"
        cells = [_cell(m, policy["metrics"].get(m), low) for m, _, low in columns]
        body.append([head, str(policy["metrics"]["success"]["n"]), *cells])
    return table(["row", "scenes", *(title for _, title, _ in columns)], body)


def _intent_table(policies: dict[str, Any]) -> str:
    """Render compliance for each intent that occurred."""
    intents = [i for i in INTENTS if any(f"compliance_{i}" in p["metrics"] for p in policies.values())]
    body = []
    for name, policy in policies.items():
        cells = [_cell("compliance", policy["metrics"].get(f"compliance_{i}"), False) for i in intents]
        body.append([escape(name), *cells])
    return table(["row", *(escape(i.replace("_", " ")) for i in intents)], body)


def _comparison_table(comparisons: list[dict[str, Any]]) -> str:
    """Render who did better than whom on the same scenes."""
    if not comparisons:
        return "<p class=soft>One row only: nothing to compare.</p>"
    body = []
    for c in comparisons:
        scale, unit = (1.0, "") if c["metric"] == "driving_score" else (100.0, " points")
        text = f"{scale * c['difference']:+.1f}{unit} [{scale * c['low']:+.1f}, {scale * c['high']:+.1f}]"
        label = f"{escape(c['a'])} minus {escape(c['b'])}"
        body.append([label, escape(c["metric"].replace("_", " ")), text, f"{c['p_value']:.3g}", str(c["n"])])
    return table(["rows", "metric", "difference", "p (McNemar)", "scenes"], body)


def _family_tables(policies: dict[str, Any]) -> list[str]:
    """Render each row's families, where it has more than one."""
    parts = []
    for name, policy in policies.items():
        if not policy["families"]:
            continue
        columns = [c for c in COLUMNS[:9] if any(c[0] in f for f in policy["families"].values())]
        body = [
            [escape(family), str(metrics["success"]["n"]), *(_cell(m, metrics.get(m), low) for m, _, low in columns)]
            for family, metrics in policy["families"].items()
        ]
        shown = table(["family", "scenes", *(title for _, title, _ in columns)], body)
        parts.append(f"<details><summary>{escape(name)} by family</summary>{shown}</details>")
    return ["<h2>By family</h2>", *parts] if parts else []


def _failures(name: str, policy: dict[str, Any], suite: str) -> str:
    """List a row's failed scenes."""
    failed = policy["failures"]
    if not failed:
        return f"<p><b>{escape(name)}</b>: none.</p>"
    body = [[str(f["seed"]), escape(f["family"]), escape(f["ended"]), escape(f["why"])] for f in failed]
    shown = table(["seed", "family", "ended", "what went wrong first"], body)
    return f"<details><summary>{escape(name)}: {len(failed)}</summary>{shown}</details>"
