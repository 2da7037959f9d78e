"""Street plans: nodes and straight streets in, pruned plans and smooth street axes out. Plane geometry only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

Street = tuple[str, str]
Nodes = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The middle line of a street between two junctions."""

    ends: tuple[str, str]
    line: np.ndarray
    streets: tuple[Street, ...]
    """The plan's streets it is made of."""


def degrees_of(streets: list[tuple[str, str]]) -> dict[str, int]:
    """Count the streets that meet at each node."""
    degrees: dict[str, int] = defaultdict(int)
    for a, b in streets:
        degrees[a] += 1
        degrees[b] += 1
    return degrees


def _runs(streets: list[Street]) -> list[tuple[list[str], list[Street]]]:
    """Return the chains of streets between junctions of three or more streets: nodes passed, streets."""
    degrees = degrees_of(streets)
    at: dict[str, list[Street]] = defaultdict(list)
    for street in streets:
        at[street[0]].append(street)
        at[street[1]].append(street)
    runs, used = [], set()
    for first in (node for node in sorted(degrees) if degrees[node] >= 3):
        for start in at[first]:
            if start in used:
                continue
            passed, chain = [first], [start]
            used.add(start)
            while True:
                street = chain[-1]
                passed.append(street[1] if street[0] == passed[-1] else street[0])
                onward = [s for s in at[passed[-1]] if s != street]
                if degrees[passed[-1]] != 2 or not onward or onward[0] in used:
                    break
                chain.append(onward[0])
                used.add(onward[0])
            runs.append((passed, chain))
    return runs


def longest_run(nodes: Nodes, streets: list[Street]) -> float:
    """Return the longest way between two junctions of three or more streets."""
    lengths = [sum(float(np.hypot(*(nodes[a] - nodes[b]))) for a, b in chain) for _, chain in _runs(streets)]
    return max(lengths, default=0.0)


def road_plan(stretches: int, length: float, side: float = 90.0) -> tuple[Nodes, list[Street]]:
    """Return a road along x of so many stretches, and a side street to either side where two of them meet."""
    nodes = {f"r{i}": np.array([i * length, 0.0]) for i in range(stretches + 1)}
    streets = [(f"r{i}", f"r{i + 1}") for i in range(stretches)]
    for i in range(1, stretches):
        for name, y in (("n", side), ("s", -side)):
            nodes[f"{name}{i}"] = np.array([i * length, y])
            streets.append((f"{name}{i}", f"r{i}"))
    return nodes, sorted(streets)


def prune(nodes: Nodes, streets: list[Street]) -> tuple[Nodes, list[Street]]:
    """Drop dead ends and streets that lead back to where they began, then all but the largest connected part."""
    while True:
        degrees = degrees_of(streets)
        kept = [(a, b) for a, b in streets if degrees[a] > 1 and degrees[b] > 1]
        loops = {s for passed, chain in _runs(kept) if passed[0] == passed[-1] for s in chain}
        kept = [s for s in kept if s not in loops]
        if len(kept) == len(streets):
            break
        streets = kept
    part: dict[str, str] = {}
    for start in sorted({n for street in streets for n in street}):
        stack = [] if start in part else [start]
        while stack:
            node = stack.pop()
            if node not in part:
                part[node] = start
                stack += [b if a == node else a for a, b in streets if node in (a, b)]
    if not part:
        return {}, []
    sizes: dict[str, int] = defaultdict(int)
    for root in part.values():
        sizes[root] += 1
    largest = max(sorted(sizes), key=lambda root: sizes[root])
    return {n: nodes[n] for n in part if part[n] == largest}, [s for s in streets if part[s[0]] == largest]


def street_axes(
    place: Nodes, streets: list[Street], bends: dict[Street, float], families: dict[Street, str]
) -> list[Axis]:
    """Give the plan smooth axes: streets run on through junctions without a kink, and through bends as one.

    Args:
        place: Where the nodes are.
        streets: Pairs of nodes.
        bends: Sideways bow of each street as a share of its length.
        families: What each street is part of (a row, a ring): its members run on into each other.
    """
    leave = _tangents(place, streets, families)
    axes = []
    for passed, chain in _runs(streets):
        pieces = [
            _curve(place[a], place[b], leave[a, b], -leave[b, a], bends[s] * (1 if s == (a, b) else -1))
            for a, b, s in zip(passed[:-1], passed[1:], chain)
        ]
        line = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
        axes.append(Axis(ends=(passed[0], passed[-1]), line=line, streets=tuple(chain)))
    return axes


def _tangents(place: Nodes, streets: list[Street], families: dict[Street, str]) -> dict[tuple[str, str], np.ndarray]:
    """Return the direction in which each street leaves each of its nodes.

    Streets that lie opposite each other share one line: people walk straight across the flat side of a
    junction, and would walk on the road if the road bent away there.
    """
    around: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for a, b in streets:
        along = (place[b] - place[a]) / np.hypot(*(place[b] - place[a]))
        around[a][b], around[b][a] = along, -along
    leave: dict[tuple[str, str], np.ndarray] = {}
    for node, arms in around.items():
        left = sorted(arms)
        kin = {other: families.get((node, other)) or families.get((other, node)) for other in arms}
        pairs = sorted((kin[p] != kin[q], float(arms[p] @ arms[q]), p, q) for p in left for q in left if p < q)
        for strangers, cosine, p, q in pairs:
            if p in left and q in left and (cosine < (-0.5 if strangers else 0.4) or len(arms) == 2):
                through = arms[p] - arms[q]
                through /= max(np.hypot(*through), 1e-9)
                leave[node, p], leave[node, q] = through, -through
                left = [other for other in left if other not in (p, q)]
        for other in left:
            leave[node, other] = _squared(arms[other], [leave[node, o] for o in arms if (node, o) in leave])
    return leave


def _squared(arm: np.ndarray, through: list[np.ndarray]) -> np.ndarray:
    """Turn a lone arm halfway towards a right angle with the street it meets."""
    if not through:
        return arm
    across = np.array([-through[0][1], through[0][0]])
    across = across if across @ arm > 0 else -across
    turned = arm + across
    return turned / np.hypot(*turned)


def _curve(a: np.ndarray, b: np.ndarray, start: np.ndarray, end: np.ndarray, bend: float) -> np.ndarray:
    """Return a cubic from a to b that leaves along `start` and arrives along `end`, with a bow in its middle."""
    along = b - a
    length = float(np.hypot(*along))
    if abs(bend) < 0.01 and min(start @ along, end @ along) > 0.9995 * length:
        return np.stack([a, b])
    u = np.linspace(0.0, 1.0, max(9, round(length / 6.0)))[:, None]
    handle = 0.36 * length
    line = a * (1 - u) ** 3 + 3 * u * (1 - u) ** 2 * (a + start * handle)
    line += 3 * u**2 * (1 - u) * (b - end * handle) + b * u**3
    # sin^2 over the middle 70%: junction arms keep their directions. A street that winds already gets none.
    bend *= max(0.0, 1.0 - 4.0 * (1.0 - min(start @ along, end @ along) / length))
    bow = np.sin(np.pi * np.clip((u - 0.15) / 0.7, 0.0, 1.0)) ** 2
    return line + np.array([-along[1], along[0]]) * bend * bow
