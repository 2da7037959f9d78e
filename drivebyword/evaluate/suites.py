"""A suite's name in; scenarios, scenes and a hash of all of it out.

A suite is frozen: what it asks of a driver is fixed by this file and by the recipes of its scenarios, and
both go into `suite_hash`, so that two reports with one hash were judged on the same scenes.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass

from drivebyword.core.seeds import TEST_SEEDS, split_of
from drivebyword.world.families import FAMILIES, HELD_OUT
from drivebyword.world.outside import OutsideMap, about, imported
from drivebyword.world.scenario import ON, TWIN, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A named list of scenarios; scene i of a suite is one seed in scenario i modulo their number."""

    name: str
    about: str
    scenarios: tuple[str, ...]
    scenes: int = 300
    """Test seeds it is meant to be judged on."""

    def scenario_of(self, seed: int) -> str:
        """Return the scenario a seed is driven in."""
        return self.scenarios[seed % len(self.scenarios)]


_ALL: tuple[Suite, ...] = (
    Suite(name="town", about="nominal driving by day", scenarios=("town",)),
    Suite(name="town-night", about="the same scenes at night", scenarios=("town-night",)),
    Suite(name="town-fog", about="the same scenes in fog", scenarios=("town-fog",)),
    Suite(name="town-mixed", about="as in training: day, night and fog", scenarios=("town-mixed",)),
    Suite(name="left-hand", about="the same scenes by day, mirrored: one drives on the left", scenarios=("town-left",)),
    Suite(
        name="weather",
        about="night, fog, rain, low sun and dirty lenses",
        scenarios=("town-night", "town-fog", "town-rain", "town-glare", "town-dirt"),
    ),
)
_OPEN = tuple(name for name in FAMILIES if name not in HELD_OUT)
_ALL += tuple(
    Suite(name=name, about=about, scenarios=(*names, *(f"{n}/{TWIN}" for n in names)), scenes=25 * 2 * len(names))
    for name, about, names in (
        ("edge", "every open family of edge cases, and its nominal twin", _OPEN),
        ("holdout", "the families kept out of all training, and their twins", HELD_OUT),
    )
)
_ALL += (
    Suite(
        name="families",
        about="every family, open or held out, without the twins: what a driver makes of edge cases",
        scenarios=tuple(FAMILIES),
        scenes=50 * len(FAMILIES),
    ),
)
SUITES = {suite.name: suite for suite in _ALL}


def suite(name: str) -> Suite:
    """Return a suite by name (SUITE@MAP: on an outside map), or raise ValueError with the nearest names."""
    if name in SUITES:
        return SUITES[name]
    plain, on, path = name.partition(ON)
    if on:
        there = suite(plain)
        return dataclasses.replace(there, name=name, scenarios=tuple(f"{s}{ON}{path}" for s in there.scenarios))
    near = difflib.get_close_matches(name, SUITES, n=2, cutoff=0.3) or list(SUITES)
    raise ValueError(f"unknown suite {name!r}: did you mean {' or '.join(near)}?")


def parse_seeds(text: str) -> tuple[int, int]:
    """Read `A:B` (B excluded) or `N` (the first N test seeds); return (A, B)."""
    first, colon, last = text.strip().partition(":")
    try:
        a, b = (int(first), int(last)) if colon else (TEST_SEEDS.start, TEST_SEEDS.start + int(first))
    except ValueError:
        raise ValueError(f"seeds {text!r} are neither A:B nor a number of test scenes, e.g. 100") from None
    if b <= a:
        raise ValueError(f"seeds {text!r} name no scene: give at least one")
    split_of(a), split_of(b - 1)
    return a, b


def suite_hash(chosen: Suite) -> str:
    """Return 16 hex digits of the SHA-256 of a suite and of its scenarios' recipes."""
    from drivebyword.world.mission import SPARE_SHARES
    from drivebyword.world.scenario import INTENT_SHARES, find_scenario

    definition = dataclasses.asdict(chosen)
    recipes = [find_scenario(name) for name in chosen.scenarios]
    definition["recipes"] = [_told(recipe) for recipe in recipes]
    maps = [about(imported(recipe.town))["net_sha256"] for recipe in recipes if isinstance(recipe.town, OutsideMap)]
    if maps:  # what is in a map's file decides, not where it lies
        definition["maps"] = maps
    definition["intents"] = INTENT_SHARES
    definition["spare"] = SPARE_SHARES
    raw = json.dumps(definition, sort_keys=True)
    return hashlib.sha256(raw.encode()).hexdigest()[:16]


def _told(recipe: Scenario) -> dict[str, str]:
    """Return what a recipe says besides the defaults: a range that comes to Scenario later changes no suite's hash."""
    usual = type(recipe)(name="")
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    return {name: repr(value) for name, value in fields.items() if value != getattr(usual, name)}
