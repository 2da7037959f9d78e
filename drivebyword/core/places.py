"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return where things of a kind are kept that can be made again: in $DRIVEBYWORD_CACHE or ~/.cache/drivebyword."""
    return Path(os.environ.get("DRIVEBYWORD_CACHE") or Path.home() / ".cache" / "drivebyword") / name
