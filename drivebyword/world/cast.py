"""Scripted road users: what the ego does in, their rows of the snapshot out, step by step.

An actor goes along a path and waits for its cues: each `Beat` says when (a condition on the ego) and what then
(another speed, another place beside the path, other lights). That is all a scene of an edge case needs, and it
happens in front of the ego whatever its speed, because the cue is the ego's own time of arrival.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import arc_lengths
from drivebyword.core.records import HAZARD, AgentKind, Lights
from drivebyword.world.solids import PLATE
from drivebyword.world.traffic import Agents

AT_ONCE = 1000.0
"""m/s2 of who comes on stage already at speed."""
LATERAL_ACCEL = 1.5
"""m/s2 with which an actor begins and ends moving sideways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """What an actor's conditions read."""

    time_s: float
    s: float
    """Arc length of the ego's front bumper on the stage's way."""
    speed: float
    """The ego's, m/s."""
    since_s: float = 0.0
    """Seconds since the actor's last beat, or since the scene began."""
    own_s: float = 0.0
    """Arc length of the actor's middle on its own path."""


When = Callable[[Cue], bool]


def after(seconds: float) -> When:
    """Hold so long after the actor's beat before."""
    return lambda cue: cue.since_s >= seconds


def arrives(s: float, within_s: float, least_speed: float = 1.0) -> When:
    """Hold once the ego, at its present speed, is `within_s` seconds or less from a place on its way."""
    return lambda cue: s - cue.s <= within_s * max(cue.speed, least_speed)


def aside_s(metres: float, sideways: float) -> float:
    """Return the seconds an actor takes for its first metres aside, at `sideways` m/s at most."""
    gaining = sideways**2 / (2 * LATERAL_ACCEL)
    if metres <= gaining:
        return math.sqrt(2 * metres / LATERAL_ACCEL)
    return sideways / LATERAL_ACCEL + (metres - gaining) / sideways


def nears(metres: float) -> When:
    """Hold once an actor on the stage's way is so many metres behind the ego or less; negative: ahead."""
    return lambda cue: cue.s - cue.own_s <= metres


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What an actor does from a moment on, until its next beat."""

    when: When
    speed: float | None = None
    """m/s to change to; None: as before."""
    accel: float = 2.5
    """m/s2 of that change, either way."""
    aside: float | None = None
    """Metres to the left of the path to move to; None: as before."""
    sideways: float = 1.0
    """m/s at most while moving aside."""
    lights: Lights | None = None
    edge: bool = False
    """The event the scene is about: its moment is recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What an actor measures."""

    kind: AgentKind
    length: float
    width: float
    height: float


CAR = Body(kind=AgentKind.CAR, length=4.4, width=1.8, height=1.46)
VAN = Body(kind=AgentKind.VAN, length=5.6, width=2.0, height=2.45)
TRUCK = Body(kind=AgentKind.TRUCK, length=7.8, width=2.4, height=3.3)
ADULT = Body(kind=AgentKind.PEDESTRIAN, length=0.45, width=0.55, height=1.75)
CHILD = Body(kind=AgentKind.PEDESTRIAN, length=0.35, width=0.42, height=1.15)
MOTORBIKE = Body(kind=AgentKind.MOTORBIKE, length=2.1, width=0.8, height=1.7)
OFFICER = Body(kind=AgentKind.OFFICER, length=0.5, width=0.6, height=1.8)
FLAGGER = Body(kind=AgentKind.FLAGGER, length=0.5, width=0.6, height=1.75)
CONE = Body(kind=AgentKind.CONE, length=0.4, width=0.4, height=0.75)
BARRIER = Body(kind=AgentKind.BARRIER, length=0.5, width=2.4, height=1.0)
SIGN = Body(kind=AgentKind.SIGN, length=0.2, width=PLATE[0], height=PLATE[1])
DOOR = Body(kind=AgentKind.DOOR, length=0.12, width=0.85, height=1.3)
BICYCLE = Body(kind=AgentKind.BICYCLE, length=1.8, width=0.6, height=1.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One scripted road user."""

    name: str
    body: Body
    path: Float[np.ndarray, "P 2"]
    """Where it goes, map frame; what stands still turns along it all the same."""
    s: float
    """Arc length of its middle on the path at the start."""
    speed: float = 0.0
    aside: float = 0.0
    lights: Lights = Lights(0)
    beats: tuple[Beat, ...] = ()
    gap: float | None = None
    """Until its first beat: keeps so many metres before the ego's front bumper; `path` is then the stage's way."""
    enters: int = 0
    """Not there before so many of its beats."""
    in_traffic: bool = True
    """SUMO's vehicles see it and keep off it; False for what stands beside the road and for who walks."""


@dataclass(slots=True)
class _Now:
    """Where one actor is."""

    s: float
    speed: float
    aside: float
    goal: float
    wanted: float
    accel: float = 2.5
    sideways: float = 1.0
    drift: float = 0.0
    beat: int = 0
    begun_s: float = 0.0
    lights: Lights = Lights(0)
    yaw: float = math.nan


def mirrored(actor: Actor) -> Actor:
    """Return an actor as in a mirror about the x axis: its path, its place beside it and its indicators."""
    beats = tuple(
        replace(
            beat,
            aside=None if beat.aside is None else -beat.aside,
            lights=None if beat.lights is None else swapped(beat.lights),
        )
        for beat in actor.beats
    )
    path = actor.path * np.array([1.0, -1.0])
    if actor.body.kind == AgentKind.SIGN:
        return replace(actor, path=path, aside=-actor.aside)  # its lights are what it says
    return replace(actor, path=path, aside=-actor.aside, lights=swapped(actor.lights), beats=beats)


def swapped(lights: Lights) -> Lights:
    """Return lamps with left and right indicator changed over."""
    rest = lights & ~HAZARD
    rest |= Lights.RIGHT if lights & Lights.LEFT else Lights(0)
    return rest | (Lights.LEFT if lights & Lights.RIGHT else Lights(0))


class Cast:
    """The actors of one scene."""

    def __init__(self, actors: tuple[Actor, ...], dt: float, seed: int) -> None:
        self.actors, self.dt = actors, dt
        self._lines = [(actor.path, arc_lengths(actor.path), _headings(actor.path)) for actor in actors]
        self._now = [
            _Now(s=a.s, speed=a.speed, aside=a.aside, goal=a.aside, wanted=a.speed, lights=a.lights) for a in actors
        ]  # fmt: skip
        # Beyond every key the town's population has (demand.py); by name, so that a twin's actors look the same.
        self.keys = [10_000_019 + (zlib.crc32(f"{a.name} {seed}".encode()) & 0x3FFFFFFF) for a in actors]
        self.edge_s: float | None = None
        """When the event the scene is about began."""
        self._places = [self._place(k, 0.0) for k in range(len(actors))]
        self._agents = self._assemble()

    def step(self, cue: Cue) -> None:
        """Move everybody by one decision period; `cue` is the ego at its start."""
        for k, (actor, now) in enumerate(zip(self.actors, self._now, strict=True)):
            while now.beat < len(actor.beats) and actor.beats[now.beat].when(
                replace(cue, since_s=cue.time_s - now.begun_s, own_s=now.s)
            ):
                self._begin(actor.beats[now.beat], now, cue)
            before = now.speed
            if actor.gap is not None and now.beat == 0:
                self._keep_ahead(actor, now, cue)
            else:
                change = now.wanted - now.speed
                now.speed += math.copysign(min(abs(change), now.accel * self.dt), change)
            now.s += (before + now.speed) / 2 * self.dt
            self._move_aside(now)
            self._places[k] = self._place(k, now.speed - before)
        self._agents = self._assemble()

    def _begin(self, beat: Beat, now: _Now, cue: Cue) -> None:
        now.beat, now.begun_s = now.beat + 1, cue.time_s
        now.wanted = now.wanted if beat.speed is None else beat.speed
        now.accel, now.sideways = beat.accel, beat.sideways
        now.goal = now.goal if beat.aside is None else beat.aside
        now.lights = now.lights if beat.lights is None else beat.lights
        if beat.edge and self.edge_s is None:
            self.edge_s = cue.time_s

    def _keep_ahead(self, actor: Actor, now: _Now, cue: Cue) -> None:
        """Drive like somebody whom the ego follows at the wanted distance; never backwards."""
        assert actor.gap is not None
        short = cue.s + actor.gap + actor.body.length / 2 - now.s
        wanted = max(0.0, cue.speed + 0.5 * short)
        now.speed += min(max(wanted - now.speed, -3.0 * self.dt), 3.0 * self.dt)
        now.wanted = now.speed

    def _move_aside(self, now: _Now) -> None:
        left = now.goal - now.aside
        # As fast as still lets it come to rest there.
        wanted = math.copysign(min(now.sideways, math.sqrt(1.2 * LATERAL_ACCEL * abs(left))), left) if left else 0.0
        now.drift += min(max(wanted - now.drift, -LATERAL_ACCEL * self.dt), LATERAL_ACCEL * self.dt)
        step = now.drift * self.dt
        if abs(step) >= abs(left):
            now.aside, now.drift = now.goal, 0.0
        else:
            now.aside += step

    def _place(self, k: int, gained: float) -> tuple[float, ...]:
        """Return (x, y, yaw, vx, vy, yaw rate, lights) of an actor."""
        now, (line, arc, heading) = self._now[k], self._lines[k]
        at = min(max(now.s, 0.0), float(arc[-1]))
        way = float(np.interp(at, arc, heading))
        cos, sin = math.cos(way), math.sin(way)
        over = now.s - at
        x = float(np.interp(at, arc, line[:, 0])) + over * cos - now.aside * sin
        y = float(np.interp(at, arc, line[:, 1])) + over * sin + now.aside * cos
        walks = self.actors[k].body.kind == AgentKind.PEDESTRIAN
        # People step aside as they are; vehicles turn to.
        yaw = way + (math.atan2(now.drift, max(now.speed, 2.0)) if not walks else 0.0)
        rate = 0.0 if math.isnan(now.yaw) else ((yaw - now.yaw + math.pi) % (2 * math.pi) - math.pi) / self.dt
        now.yaw = yaw
        braking = Lights.BRAKE if gained < -0.3 * self.dt or (now.speed < 0.1 and now.lights & Lights.BRAKE) else 0
        lights = int(now.lights & ~Lights.BRAKE) | int(braking)
        vx, vy = now.speed * cos - now.drift * sin, now.speed * sin + now.drift * cos
        return x, y, (yaw + math.pi) % (2 * math.pi) - math.pi, vx, vy, rate, float(lights)

    def present(self) -> list[int]:
        """Return the actors that are there now: come on, and not yet past the end of their path."""
        here = zip(self.actors, self._now, self._lines, strict=True)
        return [k for k, (a, n, line) in enumerate(here) if n.beat >= a.enters and n.s < line[1][-1] + 0.1]

    def arc(self, k: int) -> float:
        """Return an actor's arc length on its path."""
        return self._now[k].s

    def agents(self) -> Agents:
        """Return everybody who is there, in the layout of a snapshot."""
        return self._agents

    def _assemble(self) -> Agents:
        rows = self.present()
        agents = np.zeros((len(rows), 9), np.float32)
        kind, lights = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for i, k in enumerate(rows):
            x, y, yaw, vx, vy, rate, lit = self._places[k]
            body = self.actors[k].body
            agents[i] = x, y, yaw, body.length, body.width, body.height, vx, vy, rate
            kind[i], lights[i] = int(body.kind), int(lit)
        return Agents(agents=agents, kind=kind, lights=lights, key=np.array([self.keys[k] for k in rows], np.int64))


def _headings(line: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, " P"]:
    step = np.diff(line, axis=0)
    heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    return np.concatenate([heading, heading[-1:]])
