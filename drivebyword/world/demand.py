"""Who is on the road: a town and a seed in, SUMO's route file and every agent's body out.

Everybody is there from the start, spread over the town by random walks along legal branches, so that a
scene needs only a short warm-up. SUMO moves them; their bodies (kind, length, width, height) are fixed here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import AgentKind
from drivebyword.world.roads import RoadMap

EGO = "ego"
MIN_GAP = 2.5
"""Metres the ego keeps to who stands ahead, in SUMO's plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One vehicle type: what it measures and how it drives."""

    kind: AgentKind
    length: float
    width: float
    height: float
    share: float
    """Share among vehicles on the road."""
    sumo: str
    """SUMO's vehicle class and car-following attributes."""


# They leave a prioritised car two seconds, not SUMO's one: the ego brakes where SUMO's own cars would not.
_WARY = 'jmTimegapMinor="2.0"'
_CAR = f'{_WARY} vClass="passenger" accel="2.4" decel="4.5" sigma="0.3" speedFactor="normc(0.95,0.08,0.75,1.1)"'
_HEAVY = f'{_WARY} accel="1.2" decel="4.0" sigma="0.3" speedFactor="normc(0.85,0.05,0.7,0.95)"'

BODIES = (
    Body(kind=AgentKind.CAR, length=3.8, width=1.68, height=1.48, share=0.22, sumo=_CAR),
    Body(kind=AgentKind.CAR, length=4.4, width=1.80, height=1.46, share=0.27, sumo=_CAR),
    Body(kind=AgentKind.CAR, length=4.8, width=1.90, height=1.70, share=0.19, sumo=_CAR),
    Body(kind=AgentKind.VAN, length=5.6, width=2.00, height=2.45, share=0.11, sumo=_CAR),
    Body(kind=AgentKind.TRUCK, length=7.8, width=2.40, height=3.30, share=0.06, sumo=f'vClass="truck" {_HEAVY}'),
    Body(kind=AgentKind.BUS, length=10.5, width=2.50, height=3.10, share=0.05, sumo=f'vClass="bus" {_HEAVY}'),
    Body(
        kind=AgentKind.BICYCLE, length=1.8, width=0.60, height=1.75, share=0.10,
        sumo=f'{_WARY} vClass="bicycle" accel="1.2" decel="3.0" sigma="0.3" maxSpeed="6.5" '
        'speedFactor="normc(1,0.1,0.8,1.2)" minGap="1.0"',
    ),
)  # fmt: skip
PERSON_LENGTH, PERSON_WIDTH, PERSON_HEIGHT = 0.45, 0.55, 1.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How busy the town is."""

    vehicles: int = 35
    people: int = 15
    around: tuple[float, float] | None = None
    """Agents are more often put near this place (x, y)."""
    gather: float = 180.0
    """Distance in metres at which being near counts half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Everybody of a scene, by row: SUMO ids and bodies."""

    vehicle_rows: dict[str, int]
    person_rows: dict[str, int]
    kind: Int[np.ndarray, " M"]
    size: Float[np.ndarray, "M 3"]
    """Length, width, height in metres."""
    key: Int[np.ndarray, " M"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Where the ego starts: lane, and its front bumper's distance along it."""

    lane: str
    position: float
    route: tuple[str, ...]
    """Edges from the spawn's on."""


class Streets:
    """Edges cars may use and where they lead, for walks through the town."""

    def __init__(self, road_map: RoadMap) -> None:
        lanes = road_map.lanes
        lengths = {
            lane.edge: float(np.hypot(*np.diff(lane.line, axis=0).T).sum())
            for lane in lanes.values()
            if lane.kind == "drive"
        }
        self.edges = sorted(lengths)
        self.length = np.array([lengths[edge] for edge in self.edges])
        self.middle = np.zeros((len(self.edges), 2))
        at = {edge: i for i, edge in enumerate(self.edges)}
        for lane in lanes.values():
            if lane.kind == "drive":
                self.middle[at[lane.edge]] = lane.line.mean(axis=0)
        self.paved = sorted({lane.edge for lane in lanes.values() if lane.kind == "sidewalk"} & set(self.edges))
        self.paved_middle = self.middle[[at[edge] for edge in self.paved]]
        following: dict[str, set[str]] = {edge: set() for edge in self.edges}
        for link in road_map.links:
            start, end = lanes[link.from_lane].edge, lanes[link.to_lane].edge
            if start in following and end in following and link.direction != "turn":
                following[start].add(end)
        self.following = {edge: tuple(sorted(ends)) for edge, ends in following.items()}

    def walk(self, start: str, count: int, rng: np.random.Generator) -> list[str]:
        """Return up to `count` edges, each a legal follower of the one before."""
        route = [start]
        draws = rng.random(count)
        for draw in draws:
            ends = self.following[route[-1]]
            if not ends:
                break
            route.append(ends[int(draw * len(ends))])
        return route


def _weights(middle: np.ndarray, length: np.ndarray, demand: Demand) -> np.ndarray:
    """Return the chance of each edge to be somebody's start."""
    weight = length.copy()
    if demand.around is not None:
        far = np.hypot(*(middle - np.array(demand.around)).T)
        weight = weight / (0.15 + (far / demand.gather) ** 2)
    return weight / weight.sum()


def first_round(route: Sequence[str]) -> list[str]:
    """Return a route up to its first repeated edge: moveToXY would put the ego on the later of two passages."""
    repeats = [i for i, edge in enumerate(route) if edge in route[:i]]
    return list(route[: repeats[0]] if repeats else route)


def write_demand(streets: Streets, demand: Demand, spawn: Spawn, car: CarConfig, seed: int) -> tuple[str, Population]:
    """Return the text of SUMO's route file, ego included, and who everybody is."""
    rng = np.random.default_rng([seed, 11])
    lines = ["<routes>", _ego_type(car)]
    for i, body in enumerate(BODIES):
        lines.append(
            f'<vType id="b{i}" length="{body.length}" width="{body.width}" height="{body.height}" {body.sumo}/>'
        )
    lines.append(
        f'<vType id="walker" vClass="pedestrian" length="{PERSON_LENGTH}" width="{PERSON_WIDTH}" '
        'speedFactor="normc(1,0.12,0.7,1.3)"/>'
    )
    index = spawn.lane.rsplit("_", 1)[1]
    lines.append(
        f'<vehicle id="{EGO}" type="ego" depart="0" departLane="{index}" departPos="{spawn.position:.2f}" '
        f'departSpeed="0" insertionChecks="none"><route edges="{" ".join(first_round(spawn.route))}"/></vehicle>'
    )
    people = _people(streets, demand, rng)
    lines += people  # SUMO wants entries in order of departure
    kinds = rng.choice(len(BODIES), size=demand.vehicles, p=[body.share for body in BODIES])
    starts = rng.choice(len(streets.edges), size=demand.vehicles, p=_weights(streets.middle, streets.length, demand))
    for i, (body, start) in enumerate(zip(kinds, starts)):
        route = streets.walk(streets.edges[start], 40, rng)
        lines.append(
            f'<vehicle id="v{i}" type="b{body}" depart="0.2" departPos="random_free" departLane="best" '
            f'departSpeed="0"><route edges="{" ".join(route)}"/></vehicle>'
        )
    lines.append("</routes>")
    return "\n".join(lines), _population(kinds, len(people), seed)


def _ego_type(car: CarConfig) -> str:
    """Return the ego's type: SUMO plans for it with a calm driver's limits."""
    return (
        f'<vType id="ego" vClass="passenger" length="{car.length}" width="{car.width}" height="{car.height}" '
        f'accel="2.0" decel="3.5" emergencyDecel="8.0" sigma="0" speedFactor="1" speedDev="0" '
        f'minGap="{MIN_GAP}" tau="1.2" lcKeepRight="0"/>'
    )


def _people(streets: Streets, demand: Demand, rng: np.random.Generator) -> list[str]:
    """Return persons walking from street to street; a town without sidewalks has none."""
    if not streets.paved:
        return []
    chance = _weights(streets.paved_middle, np.ones(len(streets.paved)), demand)
    ends = rng.choice(len(streets.paved), size=(demand.people, 2), p=chance)
    lines = []
    for i, (start, end) in enumerate(ends):
        # Onward to a second place: nobody should arrive, and vanish, while the scene runs.
        last = int(rng.integers(len(streets.paved)))
        legs = [streets.paved[start], streets.paved[end], streets.paved[last]]
        walks = "".join(f'<walk from="{a}" to="{b}"/>' for a, b in itertools.pairwise(legs))
        lines.append(f'<person id="p{i}" type="walker" depart="0" departPos="random">{walks}</person>')
    return lines


def _population(kinds: np.ndarray, people: int, seed: int) -> Population:
    """Return bodies by row: vehicles first, then people."""
    count = len(kinds)
    size = np.empty((count + people, 3))
    kind = np.full(count + people, int(AgentKind.PEDESTRIAN), np.int64)
    for i, body in enumerate(kinds):
        b = BODIES[body]
        size[i], kind[i] = (b.length, b.width, b.height), int(b.kind)
    size[count:] = PERSON_LENGTH, PERSON_WIDTH, PERSON_HEIGHT
    size[count:, 2] += np.random.default_rng([seed, 13]).uniform(-0.25, 0.15, people)
    key = (np.arange(count + people, dtype=np.int64) + 1) * 7919 + (seed % 7919)
    return Population(
        vehicle_rows={f"v{i}": i for i in range(count)},
        person_rows={f"p{i}": count + i for i in range(people)},
        kind=kind,
        size=size,
        key=key,
    )
