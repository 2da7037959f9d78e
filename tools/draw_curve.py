"""A run's learning curve in, a picture out: success against minutes and decisions, and the loss under it.

python tools/draw_curve.py docs/results/tiny-curve.jsonl docs/results/tiny-log.jsonl docs/pictures/learning.webp
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from drivebyword.data.files import atomic_path

INK, OWN, RESCUED, LOSS = "#333333", "#1b6ca8", "#b9cfe0", "#c05a2b"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def draw(curve: list[dict[str, Any]], log: list[dict[str, Any]], target: Path) -> None:
    """Draw both charts over the same minutes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from drivebyword.core.rates import wilson

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7.2, 5.0), sharex=True, height_ratios=(3, 2), layout="tight")
    for rescued, colour, name in (
        (True, RESCUED, "an expert took over before it failed"),
        (False, OWN, "policy alone"),
    ):
        points = [p for p in curve if p["rescued"] == rescued]
        cells = [wilson(p["successes"], p["scenes"]) for p in points]
        minutes = [p["minutes"] for p in points]
        rates = [cell.rate for cell in cells]
        low, high = ([abs(r - getattr(c, side)) for r, c in zip(rates, cells, strict=True)] for side in ("low", "high"))
        upper.errorbar(minutes, rates, yerr=(low, high), fmt="o-", color=colour, capsize=2, lw=1.4, ms=4, label=name)
    upper.set(ylim=(0, 1), ylabel="scenes driven with success")
    upper.legend(frameon=False, loc="upper left", fontsize=8)
    lower.plot([row["seconds"] / 60 for row in log], [row["act"] for row in log], color=LOSS, lw=1.0)
    lower.set(xlabel="minutes of training", ylabel="loss of act tokens")
    top = upper.secondary_xaxis("top", functions=_conversion(log))
    top.set_xlabel("thousands of decisions learned from", color=INK)
    for axes in (upper, lower):
        axes.grid(alpha=0.25)
        axes.spines[["right", "top"]].set_visible(False)
    with atomic_path(target) as path:
        figure.savefig(path, dpi=130, format=target.suffix[1:])


def _conversion(log: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Return functions from minutes to thousands of decisions and back, at the run's mean pace."""
    pace = log[-1]["decisions"] / 1e3 / (log[-1]["seconds"] / 60)
    return (lambda minutes: minutes * pace), (lambda decisions: decisions / pace)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python tools/draw_curve.py CURVE.jsonl LOG.jsonl PICTURE.webp")
    draw(read_lines(Path(sys.argv[1])), read_lines(Path(sys.argv[2])), Path(sys.argv[3]))
