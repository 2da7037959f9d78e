"""What a reset was asked for: gymnasium's `options` in, checked wishes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

from drivebyword.core.rig import Weather
from drivebyword.world.mirror import mirror
from drivebyword.world.saying import typed_of, wording_of
from drivebyword.world.scenario import Scenario, Scene, find_scenario

OPTIONS = ("scenario", "instruction", "weather", "wording", "until_s", "mirror")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of one reset."""

    scenario: Scenario
    weather: Weather | None
    typed: tuple[str, str | None] | None
    wording: str
    until_s: float
    mirrored: bool

    def scene(self, seed: int) -> Scene:
        """Draw the scene of a seed, or its exact mirror image."""
        scene = self.scenario.sample(seed)
        return mirror(scene) if self.mirrored else scene

    @staticmethod
    def of(options: Mapping[str, Any], scenario: Scenario) -> Wanted:
        """Read options; `scenario` is the one where none is named. Raises ValueError in one line."""
        if not isinstance(options, Mapping):
            raise ValueError(f"options must be a dict of {', '.join(OPTIONS)}, got {options!r}")
        unknown = sorted(map(str, set(options) - set(OPTIONS)))
        if unknown:
            raise ValueError(f"unknown option {unknown[0]!r}: use {', '.join(OPTIONS)}")
        weather, until_s, wording = options.get("weather"), options.get("until_s") or 0.0, options.get("wording")
        if not isinstance(weather, Weather | None):
            raise ValueError(f"the weather must be a Weather, got {weather!r}")
        if not isinstance(until_s, Real) or not isfinite(until_s) or until_s < 0:
            raise ValueError(f"until_s must be seconds from 0 on, got {until_s!r}")
        if not isinstance(options.get("mirror", False), bool):
            raise ValueError(f"mirror must be True or False, got {options['mirror']!r}")
        wording_of(wording or "train")
        return Wanted(
            scenario=scenario_of(options["scenario"]) if options.get("scenario") is not None else scenario,
            weather=weather,
            typed=typed_of(options.get("instruction")),
            wording=wording or "train",
            until_s=float(until_s),
            mirrored=options.get("mirror", False),
        )


def scenario_of(scenario: Any) -> Scenario:
    """Return a scenario given by name or as itself. Raises ValueError."""
    if isinstance(scenario, Scenario):
        return scenario
    if not isinstance(scenario, str):
        raise ValueError(f"the scenario must be a name or a Scenario, got {scenario!r}")
    return find_scenario(scenario)
