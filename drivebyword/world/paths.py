"""The way ahead as a line: lanes, links and a route in, a smooth Track out for the expert to follow."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import resample
from drivebyword.world.graph import RoadGraph
from drivebyword.world.roads import Lane, Link

SPACING = 0.5
"""Metres between a track's points."""
AHEAD = 110.0
"""Metres a track reaches beyond the edge it starts on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a track: on a lane, or through a junction where `link` is given."""

    start: float
    end: float
    lane: Lane
    """The lane driven on; of a link, the lane it leaves."""
    link: Link | None


class Track:
    """A line to follow, evenly spaced, with its headings, curvatures and speed limits."""

    def __init__(self, line: Float[np.ndarray, "P 2"], spans: tuple[Span, ...], limits: list[float]) -> None:
        self.line, self.spans = line, spans
        step = np.diff(line, axis=0)
        gaps = np.hypot(step[:, 0], step[:, 1])
        self.s = np.concatenate([[0.0], np.cumsum(gaps)])
        heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        self.heading = np.concatenate([heading[:1], (heading[1:] + heading[:-1]) / 2, heading[-1:]])
        reach = 3
        bend = np.zeros(len(line))
        if len(line) > 2 * reach:
            run = self.s[2 * reach :] - self.s[: -2 * reach]
            bend[reach:-reach] = (self.heading[2 * reach :] - self.heading[: -2 * reach]) / np.maximum(run, 1e-6)
        self.curvature = bend
        self.limit = np.full(len(line), limits[-1])
        for span, limit in zip(reversed(spans), reversed(limits)):
            self.limit[self.s < span.end] = limit

    @property
    def length(self) -> float:
        """Return the arc length."""
        return float(self.s[-1])

    def locate(
        self, x: float, y: float, near: float | None = None, back: float = 8.0, ahead: float = 20.0
    ) -> tuple[float, float, float]:
        """Return (arc length, offset positive left, heading) of the nearest place, searched around `near`."""
        low, high = 0, len(self.s)
        if near is not None:
            low = min(int(np.searchsorted(self.s, near - back)), high - 2)
            high = max(int(np.searchsorted(self.s, near + ahead)), low + 2)
        dx, dy = x - self.line[low:high, 0], y - self.line[low:high, 1]
        k = int(np.argmin(dx * dx + dy * dy))
        heading = float(self.heading[low + k])
        ux, uy = cos(heading), sin(heading)
        along, offset = dx[k] * ux + dy[k] * uy, -dx[k] * uy + dy[k] * ux
        if 0 < low + k < len(self.s) - 1:
            along = min(max(along, -SPACING), SPACING)
        return float(self.s[low + k] + along), float(offset), heading

    def at(self, s: float) -> tuple[float, float]:
        """Return the point at an arc length; beyond the ends it runs straight on."""
        last = self.length
        inside = min(max(s, 0.0), last)
        position = np.searchsorted(self.s, inside)
        k = min(max(int(position), 1), len(self.s) - 1)
        t = (inside - self.s[k - 1]) / max(self.s[k] - self.s[k - 1], 1e-9)
        x = self.line[k - 1, 0] + t * (self.line[k, 0] - self.line[k - 1, 0])
        y = self.line[k - 1, 1] + t * (self.line[k, 1] - self.line[k - 1, 1])
        over = s - inside
        if over:
            heading = self.heading[-1 if over > 0 else 0]
            x, y = x + over * cos(heading), y + over * sin(heading)
        return float(x), float(y)

    def heading_at(self, s: float) -> float:
        """Return the heading at an arc length."""
        return float(np.interp(s, self.s, self.heading))

    def span_at(self, s: float) -> Span:
        """Return the span an arc length is in."""
        for span in self.spans:
            if s < span.end:
                return span
        return self.spans[-1]

    def links_ahead(self, s: float) -> list[Span]:
        """Return the junction spans that end beyond an arc length."""
        return [span for span in self.spans if span.link is not None and span.end > s]


def target_lane(graph: RoadGraph, edge: str, index: int, onward: list[str]) -> int | None:
    """Return the lane index of `edge` from which `onward` (the next edges) is reached with fewest changes.

    None where no lane of the edge leads to the next edge. Of equals, the one nearest `index` wins.
    """
    lanes = graph.lanes_of(edge)
    if not onward:
        return index if any(lane.index == index for lane in lanes) else (lanes[0].index if lanes else None)
    best: tuple[float, int] | None = None
    for lane in lanes:
        link = link_onward(graph, lane.id, onward)
        if link is not None:
            cost = abs(lane.index - index) + 0.6 * _changes_after(graph, link, onward)
            if best is None or cost < best[0] - 1e-9:
                best = (cost, lane.index)
    return None if best is None else best[1]


def link_onward(graph: RoadGraph, lane: str, onward: list[str]) -> Link | None:
    """Return the link from a lane to the next edge whose end needs fewest lane changes afterwards."""
    lanes = graph.road_map.lanes
    links = [k for k in graph.links_from(lane) if lanes[k.to_lane].edge == onward[0]]
    return min(links, key=lambda k: _changes_after(graph, k, onward), default=None)


def _changes_after(graph: RoadGraph, link: Link, onward: list[str]) -> int:
    """Count the lane changes needed on the edge a link leads to, to leave it for the edge after."""
    if len(onward) < 2:
        return 0
    lanes = graph.road_map.lanes
    arrive = lanes[link.to_lane].index
    fits = [lane.index for lane in graph.lanes_of(onward[0]) if graph.leads(lane.id, onward[1])]
    return min((abs(index - arrive) for index in fits), default=0)


def lay_track(graph: RoadGraph, lane: str, onward: list[str], first: Link | None = None) -> Track:
    """Lay a track from the start of a lane along its links to the edges `onward`.

    Ends at the lane's end where the lane has no link to the next edge. `first` fixes the first link.
    """
    lanes = graph.road_map.lanes
    pieces: list[tuple[Float[np.ndarray, "_ 2"], Lane, Link | None, float]] = []
    current, rest, ahead = lanes[lane], list(onward), 0.0
    pieces.append((current.line, current, None, current.speed_limit))
    while rest and ahead < AHEAD:
        link = first if first is not None else link_onward(graph, current.id, rest)
        first = None
        if link is None and len(pieces) > 1:
            # Beyond the junction a change of lanes can be made: look on from the lane it will end on.
            index = target_lane(graph, current.edge, current.index, rest)
            if index is not None:
                current = next(other for other in graph.lanes_of(current.edge) if other.index == index)
                pieces[-1] = (_crossover(pieces[-1][0], current.line), current, None, current.speed_limit)
                link = link_onward(graph, current.id, rest)
        if link is None:
            break
        following = lanes[link.to_lane]
        rest = rest[1:] if following.edge == rest[0] else []
        pieces.append((link.path, current, link, min(current.speed_limit, following.speed_limit)))
        pieces.append((following.line, following, None, following.speed_limit))
        ahead += float(
            np.hypot(*np.diff(link.path, axis=0).T).sum() + np.hypot(*np.diff(following.line, axis=0).T).sum()
        )
        current = following
    return _join(pieces)


def _crossover(start: Float[np.ndarray, "P 2"], end: Float[np.ndarray, "Q 2"]) -> Float[np.ndarray, "R 2"]:
    """Blend from one lane of an edge to another over its middle."""
    count = max(8, int(np.hypot(*np.diff(start, axis=0).T).sum() / SPACING))
    u = np.linspace(0.0, 1.0, count)
    a, b = _even(start, count), _even(end, count)
    share = _smooth((u - 0.2) / 0.5)[:, None]
    return a * (1 - share) + b * share


def _even(line: Float[np.ndarray, "P 2"], count: int) -> Float[np.ndarray, "Q 2"]:
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, s[-1], count)
    return np.stack([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])], axis=1)


def _join(pieces: list[tuple[Float[np.ndarray, "_ 2"], Lane, Link | None, float]]) -> Track:
    """String pieces together, evenly spaced and smoothed."""
    spans, limits, at = [], [], 0.0
    for line, lane, link, limit in pieces:
        length = float(np.hypot(*np.diff(line, axis=0).T).sum())
        spans.append(Span(start=at, end=at + length, lane=lane, link=link))
        limits.append(limit)
        at += length
    raw = np.concatenate([line for line, *_ in pieces])
    fresh = np.concatenate([[True], np.hypot(*np.diff(raw, axis=0).T) > 1e-3])
    line = resample(raw[fresh], SPACING)
    return Track(_smoothed(line), tuple(spans), limits)


def _smoothed(line: Float[np.ndarray, "P 2"], reach: int = 3) -> Float[np.ndarray, "P 2"]:
    """Round the corners of a polyline by a moving average; its ends stay."""
    if len(line) < 2 * reach + 2:
        return line
    kernel = np.hanning(2 * reach + 3)[1:-1]
    kernel /= kernel.sum()
    padded = np.concatenate([2 * line[0] - line[reach:0:-1], line, 2 * line[-1] - line[-2 : -reach - 2 : -1]])
    return np.stack([np.convolve(padded[:, i], kernel, mode="valid") for i in (0, 1)], axis=1)


def _smooth(u: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """Return the quintic step from 0 to 1: no jump in slope or curvature at its ends."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u * u)


def shifted(track: Track, start: float, offset: float, goal: float, reach: float) -> Track:
    """Return the track moved sideways: `offset` at arc length `start`, blending to `goal` over `reach` metres."""
    away = offset + (goal - offset) * _smooth((track.s - start) / reach)
    left = np.stack([-np.sin(track.heading), np.cos(track.heading)], axis=1)
    moved = Track(track.line + away[:, None] * left, track.spans, [span.lane.speed_limit for span in track.spans])
    # Arc lengths, limits and spans stay those of the lanes: the sideways way is hardly longer.
    moved.limit, moved.s = track.limit, track.s
    return moved
