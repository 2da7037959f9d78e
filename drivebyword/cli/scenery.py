"""`drivebyword world`: look at what this world can do to a driver, drive in it, and bring maps from outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Draw every family of edge cases before, at and after its critical moment."""

    families: Annotated[str | None, tyro.conf.arg(metavar="FAMILY,FAMILY")] = None
    """Families to draw; all of them without it."""
    seed: int = 2_000_003
    """Scene seed."""
    out: Path = Path("out/gallery")
    """Folder for the pictures and index.html."""

    def run(self) -> int:
        """Draw, naming each picture when it is done."""
        from drivebyword.loop.gallery import draw_gallery
        from drivebyword.world.families import FAMILIES
        from drivebyword.world.rigs import tiny

        names = list(FAMILIES) if self.families is None else [name.strip() for name in self.families.split(",")]
        page = draw_gallery(names, self.seed, self.out, tiny(), lambda s: print(self.out / f"{s.family}.webp"))
        print(f"look at them: {page}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Play:
    """Drive a scenario yourself, with the arrow keys in a page; recorded as a demonstration. Ctrl-C keeps it."""

    scenario: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SCENARIO")]
    """Scenario or family to drive in, e.g. town-mixed."""
    seed: int | None = None
    """Scene seed, a training one; the first not recorded yet without it."""
    out: Path = Path("out/play")
    """Folder of the data set the drive is added to."""
    record: bool = True
    """Without, any seed and held-out families may be driven, and nothing is kept."""
    port: int = 0
    """Port of the page on 127.0.0.1; 0 takes a free one."""
    browser: bool = True
    """Open the page in this machine's browser."""

    def run(self) -> int:
        """Serve the page, let somebody drive, say what came of it."""
        import webbrowser

        from drivebyword.loop.human import SHORTEST, PlayConfig, play
        from drivebyword.world.rigs import tiny

        def ready(address: str) -> None:
            print(f"drive here: {address} (arrow keys; Esc or Ctrl-C ends and keeps the drive)", flush=True)
            if self.browser:
                webbrowser.open(address)

        config = PlayConfig(
            out=self.out, scenario=self.scenario, seed=self.seed, record=self.record, port=self.port
        )  # fmt: skip
        played = play(config, tiny(), ready)
        episode = played.episode
        print(f"{played.outcome} ({len(episode) * episode.dt:.0f} s of {episode.scenario}, seed {episode.seed})")
        if played.kept:
            print(f"recorded: {self.out}")
        elif self.record:
            print(f"nothing recorded: a drive must be {SHORTEST * episode.dt:g} s long")
        return 0


@dataclass(frozen=True, kw_only=True)
class Import:
    """Bring a map from outside, to drive on with `drive --map FOLDER`."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """An OpenStreetMap extract (.osm), an OpenDRIVE file (.xodr) or a SUMO network (.net.xml)."""
    out: Path = Path("out/map")
    """Folder for the map, what is known about it (map.json) and its picture (map.png)."""
    within: Annotated[str | None, tyro.conf.arg(metavar="WEST,SOUTH,EAST,NORTH")] = None
    """Keep this part only: degrees in OpenStreetMap, metres of the file in other formats."""
    left_hand: bool = False
    """Traffic keeps left there."""
    walkers: bool = True
    """Add sidewalks and crossings where the file has none."""

    def run(self) -> int:
        """Import; say what there is to drive on, what its licence asks, and where to look."""
        from rich.console import Console

        from drivebyword.loop.importing import PICTURE, import_map
        from drivebyword.world.outside import OutsideMap

        config = OutsideMap(path=self.file, within=_box(self.within), left_hand=self.left_hand, walkers=self.walkers)
        console = Console(highlight=False, stderr=True)
        with console.status(f"importing {self.file} ..."):
            found = import_map(config, self.out)
        print(f"{self.out}: {found.line}")
        print(f"licence: {found.licence}")
        print(f"look at it: {self.out / PICTURE}")
        print(f'drive there: drivebyword drive "turn left" --map {self.out}')
        return 0


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    """Read WEST,SOUTH,EAST,NORTH."""
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--within {text!r}: write four numbers, WEST,SOUTH,EAST,NORTH") from None
    return west, south, east, north


@dataclass(frozen=True, kw_only=True)
class World:
    """Show the world: `gallery` draws its edge cases, `play` lets you drive, `import` brings a map from outside."""

    what: (
        Annotated[Gallery, tyro.conf.subcommand("gallery", prefix_name=False)]
        | Annotated[Play, tyro.conf.subcommand("play", prefix_name=False)]
        | Annotated[Import, tyro.conf.subcommand("import", prefix_name=False)]
    )

    def run(self) -> int:
        """Do what was chosen."""
        return self.what.run()
