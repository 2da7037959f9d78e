"""`drivebyword world`: look at what this world can do to a driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class World:
    """Show the world: `gallery` draws every family of edge cases before, at and after its critical moment."""

    show: Annotated[tyro.conf.Positional[Literal["gallery"]], tyro.conf.arg(metavar="gallery")] = "gallery"
    """What to show."""
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
