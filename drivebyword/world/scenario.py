"""Recipes for scenes: a scenario's name and a seed in, one concrete start out.

The seed decides everything: the town (from a pool of its split), who is on the road, the light, the
passenger's script. Splits follow `core.seeds`; no town is shared between splits.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drivebyword.core.faults import FaultConfig, fault_of
from drivebyword.core.ranges import require_kind, require_ranges
from drivebyword.core.records import JUNCTION_INTENTS, other_side
from drivebyword.core.rig import Weather
from drivebyword.core.seeds import split_of
from drivebyword.world.building import MapSource
from drivebyword.world.families import FAMILIES
from drivebyword.world.family import Family
from drivebyword.world.outside import OutsideMap, credit_of, imported
from drivebyword.world.roads import town_for_scene

CONDITIONS = ("day", "night", "fog", "rain", "glare", "dirt")
LONGER = 2.0
"""Times the time limit on outside maps: their streets may be several times as long as a town's."""

INTENT_SHARES = {
    # Left, right and straight are equally frequent: a driver who ignores the sentence gains nothing by habit.
    "left": 0.17,
    "right": 0.17,
    "straight": 0.17,
    "left_second": 0.05,
    "right_second": 0.05,
    "straight_second": 0.05,
    "stop": 0.08,
    "pull_over": 0.06,
    "slower": 0.055,
    "faster": 0.055,
    "lane_left": 0.035,
    "lane_right": 0.035,
    "follow": 0.01,
    "null": 0.01,
}

ERRANDS = {
    # One sentence in seven asks for a stop in a town; whoever learns from that forgets it before the car stands.
    "stop": 0.26,
    "pull_over": 0.26,
    "slower": 0.08,
    "faster": 0.08,
    "lane_left": 0.08,
    "lane_right": 0.08,
    "left": 0.06,
    "right": 0.05,
    "straight": 0.05,
}
"""What is asked for where sentences that do not speak of junctions are to be learned."""
TURNS = {"left": 0.35, "right": 0.35, "straight": 0.1, "left_second": 0.1, "right_second": 0.1}
"""What is asked for where those are to be learned who cross the street one turns into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One concrete start."""

    scenario: str
    seed: int
    town: MapSource
    vehicles: int
    people: int
    weather: Weather
    script: tuple[str, ...]
    """Intents, in the order they are asked for."""
    time_limit_s: float
    family: Family | None = None
    """What sets the scene, in place of town and script."""
    twin: bool = False
    """Without the family's edge element."""
    image: bool = False
    """The exact mirror image of a scene on the other side of the road (mirror.py)."""
    faults: tuple[FaultConfig, ...] = ()
    """What goes wrong with the sensors."""

    @property
    def credit(self) -> str:
        """Return whom an outside map is from and its licence; nothing for our own towns."""
        return credit_of(imported(self.town)) if isinstance(self.town, OutsideMap) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Ranges a scene is drawn from; both ends included."""

    name: str
    instructions: tuple[int, int] = (2, 4)
    intents: tuple[tuple[str, float], ...] = tuple(INTENT_SHARES.items())
    """What is asked for, and how often; shares need not add up to 1."""
    vehicles: tuple[int, int] = (8, 36)
    people: tuple[int, int] = (5, 25)
    conditions: tuple[float, ...] = (1.0, 0.0, 0.0)
    """Shares of CONDITIONS, in their order; those not named have none."""
    night: tuple[float, float] = (0.6, 1.0)
    fog_visibility: tuple[float, float] = (35.0, 90.0)
    rain: tuple[float, float] = (2.0, 50.0)
    """mm/h; light rain is as frequent as heavy: drawn evenly on a logarithmic scale."""
    glare: tuple[float, float] = (0.5, 1.0)
    sun_elevation: tuple[float, float] = (0.07, 0.25)
    """Radians, in glare; the sun then stands anywhere round the town."""
    dirt: tuple[float, float] = (0.3, 1.0)
    town: MapSource | None = None
    """One town or outside map for every seed, instead of the split's pool."""
    family: Family | None = None
    twin: bool = False
    left_hand: bool = False
    """In towns with left-hand traffic: the same scenes, mirrored, and asked for accordingly."""
    faults: tuple[FaultConfig, ...] = ()

    def __post_init__(self) -> None:
        """Refuse ranges nothing could be drawn from."""
        require_ranges(self, whole=True, instructions=(0, 20), vehicles=(0, 500), people=(0, 500))
        require_ranges(self, night=(0.0, 1.0), fog_visibility=(1.0, 1e6), rain=(0.01, 200.0), glare=(0.0, 1.0))
        require_ranges(self, sun_elevation=(-1.6, 1.6), dirt=(0.0, 1.0))
        for intent, share in self.intents:
            if intent not in INTENT_SHARES or not share >= 0.0:
                raise ValueError(f"Scenario.intents: {intent!r}: {share!r} is no share of {', '.join(INTENT_SHARES)}")
        shares = self.conditions
        if (
            not isinstance(shares, tuple)
            or not 1 <= len(shares) <= len(CONDITIONS)
            or not all(0.0 <= s <= 1.0 for s in shares)
            or abs(sum(shares) - 1.0) > 1e-6
        ):
            raise ValueError(
                f"Scenario.conditions must be shares of {', '.join(CONDITIONS)} that add up to 1, got {shares!r}"
            )
        require_kind(
            self, name=str, town=MapSource | None, family=Family | None, twin=bool, left_hand=bool, faults=tuple
        )

    def sample(self, seed: int) -> Scene:
        """Draw the scene of a seed."""
        split_of(seed)
        rng = np.random.default_rng([seed, 3])
        condition = CONDITIONS[int(rng.choice(len(self.conditions), p=self.conditions))]
        night, fog = float(rng.uniform(*self.night)), float(rng.uniform(*self.fog_visibility))
        weather = Weather(
            night=night if condition == "night" else 0.0,
            fog_visibility=fog if condition == "fog" else 1000.0,
            **self._later(condition, np.random.default_rng([seed, 37])),
        )
        count = int(rng.integers(self.instructions[0], self.instructions[1] + 1))
        script = draw_script(rng, count, self.intents)
        town = self.town or town_for_scene(seed)
        if self.left_hand:
            town, script = replace(town, left_hand=True), tuple(other_side(intent) for intent in script)
        return Scene(
            scenario=self.name,
            seed=seed,
            town=town,
            vehicles=int(rng.integers(self.vehicles[0], self.vehicles[1] + 1)),
            people=int(rng.integers(self.people[0], self.people[1] + 1)),
            weather=weather,
            script=script,
            time_limit_s=(140.0 + 45.0 * len(script)) * (LONGER if isinstance(self.town, OutsideMap) else 1.0),
            family=self.family,
            twin=self.twin,
            faults=self.faults,
        )

    def _later(self, condition: str, rng: np.random.Generator) -> dict[str, float]:
        """Draw what came to the conditions later, from numbers of its own."""
        rain, glare, dirt = np.exp(rng.uniform(*np.log(self.rain))), rng.uniform(*self.glare), rng.uniform(*self.dirt)
        azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(*self.sun_elevation)
        if condition == "glare":
            return {"glare": float(glare), "sun_azimuth": float(azimuth), "sun_elevation": float(elevation)}
        value = {"rain": float(rain), "dirt": float(dirt)}.get(condition)
        return {} if value is None else {condition: value}


ON = "@"
"""NAME@MAP is the scenario on an outside map: a file, or the folder of an imported one."""
TWIN = "twin"
"""NAME/twin is the family's nominal twin: the same scenes without the edge element."""


def _of_family(family: Family) -> tuple[Scenario, Scenario]:
    """Return a family's scenario and its twin: little other traffic, nobody on foot."""
    edge = Scenario(name=family.name, instructions=(1, 1), vehicles=(0, 0), people=(0, 0), family=family)
    return edge, replace(edge, name=f"{family.name}/{TWIN}", twin=True)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="town"),
        Scenario(name="town-night", conditions=(0.0, 1.0, 0.0)),
        Scenario(name="town-fog", conditions=(0.0, 0.0, 1.0)),
        Scenario(name="town-mixed", conditions=(0.6, 0.2, 0.2)),
        Scenario(name="town-errands", conditions=(0.6, 0.2, 0.2), instructions=(3, 5), intents=tuple(ERRANDS.items())),
        Scenario(
            # Elsewhere a moving car gives way to somebody on foot in one frame of 700: too seldom to learn from.
            name="town-crowd",
            conditions=(0.6, 0.2, 0.2),
            instructions=(3, 5),
            intents=tuple(TURNS.items()),
            people=(80, 160),
            vehicles=(10, 40),
        ),
        Scenario(name="town-left", left_hand=True),
        Scenario(name="town-rain", conditions=(0.0, 0.0, 0.0, 1.0)),
        Scenario(name="town-glare", conditions=(0.0, 0.0, 0.0, 0.0, 1.0)),
        Scenario(name="town-dirt", conditions=(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
        *(scenario for family in FAMILIES.values() for scenario in _of_family(family)),
    )
}


NOMINAL = tuple(name for name, scenario in SCENARIOS.items() if scenario.family is None)


def find_scenario(name: str) -> Scenario:
    """Return a scenario by name: NAME, NAME@MAP on an outside map, and with faults as +FAULT (see `core.faults`).

    So town+lidar.empty@5:1, or town-night@out/map+wide.black. Raises ValueError with the nearest names.
    """
    whole, *faults = name.split("+")
    plain, on, path = whole.partition(ON)
    if plain not in SCENARIOS:
        near = difflib.get_close_matches(plain, SCENARIOS, n=3, cutoff=0.4) or list(SCENARIOS)
        raise ValueError(f"unknown scenario {plain!r}: did you mean {', '.join(near)}?")
    found = SCENARIOS[plain]
    if on:
        if found.family is not None:
            raise ValueError(f"{plain} chooses its own roads: only {', '.join(NOMINAL)} take a map")
        found = replace(found, name=name, town=OutsideMap(path=Path(path)))
    return replace(found, name=name, faults=tuple(fault_of(text) for text in faults)) if faults else found


def draw_script(
    rng: np.random.Generator, count: int, intents: tuple[tuple[str, float], ...] = tuple(INTENT_SHARES.items())
) -> tuple[str, ...]:
    """Draw `count` intents; a stop that is not the last is followed by go on."""
    names, shares = [name for name, _ in intents], np.array([share for _, share in intents])
    script: list[str] = []
    while len(script) < count:
        intent = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        if script and intent == script[-1] and intent not in JUNCTION_INTENTS:
            continue
        script.append(intent)
        if intent in ("stop", "pull_over") and len(script) < count:
            script.append("go_on")
    return tuple(script)
