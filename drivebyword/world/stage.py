"""Where a family's scene is set, and who is put on it: a seed in; a place, a start and a cast out.

A family's `build` asks the stage for a place (a road, a junction), draws its parameters from the stage's ranges and
adds actors. In a twin everything is drawn alike, but what is marked as the edge element is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float

from drivebyword.core.geometry import arc_lengths, resample
from drivebyword.core.records import HAZARD, Lights, other_side
from drivebyword.core.rig import Weather
from drivebyword.core.seeds import split_of
from drivebyword.world.asks import Ask
from drivebyword.world.cast import AT_ONCE, CAR, SIGN, Actor, Beat, Body, after, arrives, mirrored
from drivebyword.world.demand import Spawn
from drivebyword.world.graph import RoadGraph
from drivebyword.world.judging import direction_of
from drivebyword.world.paths import Track, lay_track, shifted
from drivebyword.world.place import Place
from drivebyword.world.roads import Junction, TownConfig, sample_town
from drivebyword.world.signs import BESIDE
from drivebyword.world.solids import SignKind, sign_code
from drivebyword.world.starts import place_for
from drivebyword.world.town import POOL_SIZES, SPLIT_STARTS

if TYPE_CHECKING:
    from drivebyword.world.scenario import Scene

Range = tuple[float, float]
Choice = TypeVar("Choice")
ROADS = 6
"""Roads of one kind in a split's pool: few, so that caching pays."""
TRIES = 6
"""Starts looked at in every town of a pool for one that fits."""
IN_SIGHT_S, TOWN_PACE = 6.0, 25 / 3.6
"""Seconds for which who comes along a street is there to be seen; m/s that they drive all the same."""
BLOCK = 280.0
"""Metres between a road's junctions."""


class Stage:
    """One scene of a family, being built."""

    def __init__(self, seed: int, name: str, twin: bool, town: Callable[..., Place]) -> None:
        self.seed, self.name, self.twin, self._town = seed, name, twin, town
        self.left_hand = False
        """Drive on the left. A family is written for right-hand traffic; its scene is mirrored when it is built."""
        self.rng = np.random.default_rng([seed, 23])
        self.actors: list[Actor] = []
        self.edge_actors: list[str] = []
        """Names of those the scene is about."""
        self.intent = "follow"
        """What the passenger asks for at the start."""
        self.weather: Weather | None = None
        self.held_green, self.red_s = False, 0.0
        """What the ego's signal is held at: green for the whole scene, or red for so long while its neighbours go."""
        self.signals_off = False
        """All signals of the junction ahead are dark."""
        self.friction: float | None = None
        self.preventable = True
        """Whether UN R157's careful driver would come through unharmed."""
        self.crossing: tuple[Float[np.ndarray, "P 2"], float, float]
        """At a junction: the way of somebody who crosses the ego's, and the arc lengths, on it and on the ego's, of
        the place where the two meet."""
        self.detour: tuple[float, float] | None = None
        """Arc lengths of the way between which the oncoming lane may be used."""
        self.barred_s: float | None = None
        """Arc length of the way at which nobody can go on: standing before it ends the scene well."""
        self.asks: list[Ask] = []
        """What is asked besides no harm."""
        self.place: Place
        self.spawn: Spawn
        self.way: Track
        self.ego_s = 0.0
        """Arc length of the ego's front bumper on the way at the start."""
        self.speed = 0.0
        """m/s the ego starts with."""
        self.tail = 150.0
        """Metres to drive after the last instruction came true."""

    # ------------------------------------------------------------------ draws

    def draw(self, values: Range) -> float:
        """Draw from a range, both ends included."""
        return float(self.rng.uniform(*values))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Draw one of several."""
        return choices[int(self.rng.integers(len(choices)))]

    # ------------------------------------------------------------------ places

    def on_road(self, limit_kph: float, lanes: int = 1, lane: int = 0, bend: float = 0.0, before: float = 20.0) -> None:
        """Set the scene on a road with a junction every BLOCK metres, at the speed the limit allows.

        Args:
            limit_kph: Rounded to tens.
            lanes: Each way.
            lane: The ego's, 0 is the rightmost.
            bend: Sagitta of its stretches as a share of their length: 0.1 is a radius of about 350 m.
            before: Metres from the road's beginning to the ego's front bumper.
        """
        limit = round(limit_kph / 10) * 10.0
        seed = SPLIT_STARTS[split_of(self.seed)] + int(self.rng.integers(ROADS))
        config = TownConfig(
            style="road",
            size=3,
            block=BLOCK,
            main_lanes=lanes,
            main_limit_kph=limit,
            side_limit_kph=min(limit, 50.0),
            signal_share=0.0,
            crossings=False,
            bend=bend,
            jitter=0.0,
            seed=seed,
        )
        self.place, self._config = self._town(config), config
        edges = ["r0_r1", "r1_r2", "r2_r3"]
        self._begin(f"r0_r1_{self.graph.lanes_of(edges[0])[lane].index}", before, edges)
        self.speed = limit / 3.6 * 0.85

    def at_junction(
        self,
        intent: str,
        before: float = 60.0,
        signal: bool | None = None,
        lanes: int = 1,
        crossed: bool = False,
        oncoming: bool = False,
    ) -> None:
        """Set the scene before a junction at which the passenger wants an intent, and can have it.

        Args:
            intent: One of JUNCTION_INTENTS.
            before: Metres from the junction to the ego's front bumper.
            signal: Whether the junction has signals; None: either.
            lanes: At least so many lanes on the ego's street.
            crossed: Somebody could come from the side: `crossing` is their way.
            oncoming: Somebody could come towards the ego: `crossing` is their way.
        """
        pool, size = SPLIT_STARTS[split_of(self.seed)], POOL_SIZES[split_of(self.seed)]
        for number in self.rng.permutation(np.tile(np.arange(size), TRIES)):
            self._config = sample_town(pool + int(number))
            self.place = self._town(self._config)
            graph = self.place.graph
            spawn = place_for(graph, intent, self.rng)
            if spawn is None or graph.length(spawn.lane) < before + 10.0:
                continue
            edge = graph.road_map.lanes[spawn.lane].edge
            junction = graph.next_junction(edge)
            if junction is None or (signal is not None and (junction.kind == "traffic_light") != signal):
                continue
            if len(graph.lanes_of(edge)) < lanes:
                continue
            onward = graph.branches(edge)[direction_of(intent)[0]]
            self._begin(spawn.lane, graph.length(spawn.lane) - before, [edge, onward])
            if crossed or oncoming:
                ways = self._crossings(junction, edge, onward, oncoming)
                if not ways:
                    continue
                self.crossing = self.pick(ways)
            self.intent, self.speed = intent, 0.7 * graph.road_map.lanes[spawn.lane].speed_limit
            return
        raise ValueError(f"no town of the pool of seed {self.seed} has a junction for {intent!r}")

    def _crossings(self, junction: Junction, edge: str, onward: str, oncoming: bool) -> list:
        """Return (path, arc length on it, arc length on the ego's way) of those whose straight way meets the ego's."""
        graph, lanes, found = self.graph, self.graph.road_map.lanes, []
        mine = self.way.s > self.ego_s
        for link in sorted(graph.road_map.links, key=lambda k: (k.from_lane, k.to_lane)):
            middle = link.path[len(link.path) // 2]
            near = np.hypot(*(middle - junction.center)) < 25.0
            apart = lanes[link.from_lane].edge != edge and lanes[link.to_lane].edge != onward
            if link.direction != "straight" or not apart or not near:
                continue
            turn = np.cos(_heading(link.path) - self.way.heading_at(self.ego_s))
            if (turn > -0.7) if oncoming else (abs(turn) > 0.7):
                continue
            before = lanes[link.from_lane].line
            if np.cos(_heading(before[:2]) - _heading(link.path)) < 0.9:
                continue  # it would come out of a bend, out of sight
            path = np.concatenate([before, link.path, lanes[link.to_lane].line])
            path = resample(path[np.r_[True, np.hypot(*np.diff(path, axis=0).T) > 1e-3]], 0.5)
            gaps = np.hypot(path[:, None, 0] - self.way.line[mine, 0], path[:, None, 1] - self.way.line[mine, 1])
            there, here = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
            if gaps.min() < 1.0:
                found.append((path, float(arc_lengths(path)[there]), float(self.way.s[mine][here])))
        return found

    def _begin(self, lane: str, position: float, edges: list[str]) -> None:
        self.spawn = Spawn(lane=lane, position=position, route=tuple(edges))
        self.way, self.ego_s = lay_track(self.place.graph, lane, edges[1:]), position

    # ------------------------------------------------------------------ geometry of the place

    @property
    def graph(self) -> RoadGraph:
        """Return the roads, indexed."""
        return self.place.graph

    @property
    def entry(self) -> float:
        """Return the arc length at which the ego's way enters the next junction."""
        return next(span.start for span in self.way.spans if span.link is not None)

    @property
    def lane_width(self) -> float:
        """Return the width of the ego's lane."""
        return self.graph.road_map.lanes[self.spawn.lane].width

    def kerb(self, left: bool = False) -> float:
        """Return metres from the way's middle to the road's right (left: the whole road's left) edge."""
        lane = self.graph.road_map.lanes[self.spawn.lane]
        lanes = self.graph.lanes_of(lane.edge)
        here = [other.index for other in lanes].index(lane.index)
        if not left:
            return lane.width * (here + 0.5)
        return lane.width * (len(lanes) - here - 0.5) + lane.width * len(lanes)

    def beside(self, aside: float) -> Float[np.ndarray, "P 2"]:
        """Return the way moved to the left by `aside` metres."""
        return shifted(self.way, -1.0, aside, aside, 1.0).line

    def _point(self, s: float, aside: float) -> Float[np.ndarray, " 2"]:
        """Return the place `aside` metres to the left of the way."""
        heading = self.way.heading_at(s)
        return np.array(self.way.at(s)) + aside * np.array([-np.sin(heading), np.cos(heading)])

    def across(self, s: float, start: float, end: float) -> Float[np.ndarray, "2 2"]:
        """Return a straight path over the way at `s`, from `start` to `end` metres to its left."""
        return np.stack([self._point(s, start), self._point(s, end)])

    def turned(self, s: float, aside: float, tilt: float) -> Float[np.ndarray, "2 2"]:
        """Return a straight path of 10 m whose middle is at a place of the way, turned left by `tilt` radians."""
        middle, heading = self._point(s, aside), self.way.heading_at(s)
        ahead = np.array([np.cos(heading + tilt), np.sin(heading + tilt)])
        return np.stack([middle - 5.0 * ahead, middle + 5.0 * ahead])

    def length_of(self, line: Float[np.ndarray, "P 2"]) -> float:
        """Return a path's length in metres."""
        return float(arc_lengths(line)[-1])

    # ------------------------------------------------------------------ the cast

    def green(self) -> None:
        """Show the ego green at the junction ahead, for the whole scene."""
        self.held_green = True

    def add(self, actor: Actor) -> None:
        """Put an actor on the stage, in the twin too."""
        self.actors.append(actor)

    def edge(self, actor: Actor) -> None:
        """Put the actor on the stage whom the scene is about; the twin goes without."""
        if not self.twin:
            self.actors.append(actor)
            self.edge_actors.append(actor.name)

    def sign(self, kind: SignKind, s: float, value: int = 0) -> None:
        """Put up a sign at the right kerb that tells of what the scene is about; the twin goes without."""
        place, says = self.turned(s, -self.kerb() - BESIDE, np.pi), Lights(sign_code(kind, value))
        name = f"sign {kind.name.lower()}"
        self.edge(Actor(name=name, body=SIGN, path=place, s=5.0, lights=says, in_traffic=False))

    def ask(self, *asks: Ask) -> None:
        """Ask something of the driver besides no harm; nothing is asked in the twin."""
        if not self.twin:
            self.asks += asks

    def standing(self, name: str, body: Body, s: float, aside: float = 0.0, hazard: bool = False) -> Actor:
        """Return what stands at a place of the way, or beside it, for good; a broken-down vehicle warns of itself."""
        lights = HAZARD if hazard else Lights(0)
        return Actor(name=name, body=body, path=self.way.line, s=s, aside=aside, lights=lights, in_traffic=False)

    def lead(self, gap: float, *beats: Beat) -> Actor:
        """Return a car that drives `gap` metres ahead of the ego until its first beat."""
        s = self.ego_s + gap + CAR.length / 2
        return Actor(name="lead", body=CAR, path=self.way.line, s=s, speed=self.speed, gap=gap, beats=beats)

    def stream(self, name: str, count: int, pace: float, gaps_s: Range, ahead_s: float, shared: bool = False) -> None:
        """Send cars along `crossing`, the first of which is the event and meets the ego where the two ways do.

        Args:
            name: What they are called, with a number each.
            count: Cars.
            pace: m/s; less where their street is so short that they would come out of nowhere.
            gaps_s: Seconds between two of them.
            ahead_s: Seconds before that meeting at which they come on, at most.
            shared: In the twin too.
        """
        path, meets, at = self.crossing
        pace = min(pace, max(meets / IN_SIGHT_S, TOWN_PACE))
        later, s = 0.0, max(meets - ahead_s * pace, 0.0)
        for k in range(count):
            first = Beat(when=arrives(at, min(meets / pace, ahead_s), least_speed=4.0))
            comes = Beat(when=after(later), speed=pace, accel=AT_ONCE, edge=k == 0 and not (shared and self.twin))
            actor = Actor(name=f"{name} {k}", body=CAR, path=path, s=s, enters=2, beats=(first, comes))
            if shared and self.twin:
                self.add(actor)
            else:
                self.edge(actor)
            later += self.draw(gaps_s)

    def edge_beats(self, actor: str, *beats: Beat) -> tuple[Beat, ...]:
        """Return the beats that make a harmless actor the one the scene is about; none in the twin."""
        if self.twin:
            return ()
        self.edge_actors.append(actor)
        return beats

    # ------------------------------------------------------------------ the other side of the road

    def change_side(self, left_hand: bool, image: bool) -> None:
        """Move what was built for right-hand traffic to where the scene is: the same junction, the same actors.

        Args:
            left_hand: Mirror it.
            image: In the mirror image of the other side's town, instead of a town of its own.
        """
        self.left_hand = left_hand
        self.place = self._town(replace(self._config, left_hand=left_hand), image)
        self.way = lay_track(self.place.graph, self.spawn.lane, list(self.spawn.route[1:]))
        if left_hand:
            self.actors = [mirrored(actor) for actor in self.actors]
            self.intent = other_side(self.intent)


def _heading(path: Float[np.ndarray, "P 2"]) -> float:
    """Return the direction from a path's first point to its last."""
    return float(np.arctan2(*(path[-1] - path[0])[::-1]))


def set_stage(scene: Scene, town: Callable[..., Place]) -> Stage | None:
    """Build the scene of an edge case's family, on its side of the road; None for a nominal scene."""
    if scene.family is None:
        return None
    stage = Stage(scene.seed, scene.family.name, scene.twin, town)
    scene.family.build(stage)
    left_hand = stage.left_hand != scene.town.left_hand
    if left_hand or scene.image:
        stage.change_side(left_hand, scene.image)
    return stage
