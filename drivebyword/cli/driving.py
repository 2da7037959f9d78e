"""`drivebyword drive`: a sentence, a live line while it drives, and where to watch it again."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from drivebyword.core.rig import Weather

_WEATHERS = ("day", "night", "fog", "night-fog", "rain", "night-rain", "dirt")


@dataclass(frozen=True, kw_only=True)
class Drive:
    """Type a sentence and watch the car drive it."""

    sentence: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SENTENCE")]
    """What the passenger types."""
    out: Path = Path("out/drive")
    """Folder for replay.html, drive.mp4, the episode and summary.json."""
    scenario: str = "town"
    """Scenario to drive in; +SENSOR.FAULT[@START[:SECONDS]] breaks a sensor, as town+wide.black@5."""
    map: Path | None = None
    """Drive on an outside map: an .osm or .xodr file, or a folder that `world import` made."""
    seed: int = 2_000_017
    """Scene seed: town, traffic, start, weather."""
    policy: str = "tiny"
    """`tiny` (shipped), `expert`, `constant`, or the folder of a checkpoint."""
    engine: str = "torch"
    """What computes a checkpoint: torch; onnx, openvino or fused (the same acts, faster); openvino-bf16, fused-bf16 or
    fused-int8 (nearly the same)."""
    then: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="SECOND:SENTENCE")] = ()
    """A later sentence and when to type it, as 12:"pull over"; may be given again."""
    sensors: Annotated[str | None, tyro.conf.arg(metavar="NAME,NAME")] = None
    """Give the driver only these sensors, e.g. wide,lidar."""
    weather: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """day, night, fog, night-fog, rain, night-rain or dirt; the scene decides without it."""
    rig: str = "tiny"
    """Sensors the car carries: tiny, seven-camera, vision-only or reference. A trained policy drives its own only."""
    guard: bool = True
    """Let the guard check every act."""
    seconds: float = 60.0
    """Longest drive in seconds."""

    def run(self) -> int:
        """Drive, then say what happened and where to look."""
        from drivebyword.loop.drive import DriveConfig, drive

        config = DriveConfig(
            sentence=self.sentence,
            out=self.out,
            scenario=self.scenario if self.map is None else f"{self.scenario}@{self.map}",
            seed=self.seed,
            policy=self.policy,
            engine=self.engine,
            then=tuple(_later(text) for text in self.then),
            sensors=tuple(part.strip() for part in self.sensors.split(",")) if self.sensors is not None else None,
            weather=_weather(self.weather),
            rig=self.rig,
            guard=self.guard,
            seconds=self.seconds,
        )
        with _Live() as live:
            result = drive(config, live.show)
        driven, wall = len(result.episode) * result.episode.dt, result.seconds
        print(
            f"{result.outcome} ({driven:.0f} s driven in {wall['drive_s']:.0f} s, drawn in {wall['pictures_s']:.0f} s)"
        )
        if result.credit:
            print(f"map: {result.credit}")
        print(f"watch it: {result.folder / 'replay.html'}")
        return 0


def _later(text: str) -> tuple[float, str]:
    """Read `12:pull over`."""
    second, colon, sentence = text.partition(":")
    try:
        at = float(second)
    except ValueError:
        colon = ""
    if not colon:
        raise ValueError(f'--then {text!r} names no second; write it as --then 12:"pull over"')
    return at, sentence


def _weather(name: str | None) -> Weather | None:
    """Return the weather of that name."""
    from drivebyword.core.rig import Weather
    from drivebyword.loop.policies import unknown

    if name is None:
        return None
    if name not in _WEATHERS:
        raise ValueError(unknown("weather", name, _WEATHERS))
    return Weather(
        night=1.0 if "night" in name else 0.0,
        fog_visibility=60.0 if "fog" in name else 1000.0,
        rain=20.0 if "rain" in name else 0.0,
        dirt=0.7 if "dirt" in name else 0.0,
    )


class _Live:
    """One line that is rewritten on a terminal, and a line every few seconds in a file."""

    every_s = 3.0

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(highlight=False)
        self.live = Live(console=self.console, refresh_per_second=10, transient=True)
        self.printed = 0.0

    def __enter__(self) -> _Live:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, line: str, keep: bool) -> None:
        """Show a line: for good, or until the next."""
        from rich.text import Text

        if self.console.is_terminal and not keep:
            self.live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif keep:
            self.console.print(line, markup=False)
        elif time.monotonic() - self.printed >= self.every_s:
            self.printed = time.monotonic()
            print(line, flush=True, file=sys.stdout)
