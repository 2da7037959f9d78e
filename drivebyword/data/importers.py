"""Data sets made elsewhere in, named columns out: any LeRobot v3.0 set, names mapped by the caller, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from drivebyword.data.files import read_json
from drivebyword.data.merge import CODEBASE_VERSION
from drivebyword.data.schema import from_arrow
from drivebyword.data.verify import require_fields, require_name


def lerobot_info(root: Path) -> dict[str, Any]:
    """Return a set's `meta/info.json`. Raises ValueError where it is no LeRobot v3.0 set."""
    path = root / "meta" / "info.json"
    if not path.exists():
        raise ValueError(f"{path} is missing: not a LeRobot v3.0 data set")
    info: dict[str, Any] = read_json(path)
    version = info.get("codebase_version")
    if version != CODEBASE_VERSION:
        raise ValueError(f"{path}: field codebase_version is {version}, only v3.0 can be read")
    return info


def load_foreign_columns(root: str | Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Read columns of any LeRobot v3.0 set, e.g. L2D, over all frames.

    Args:
        root: The set's folder.
        names: Our name for a column -> its name there. Names are mapped, never guessed.
    """
    root = Path(root)
    info = lerobot_info(root)
    features = info.get("features", {})
    for theirs in names.values():
        require_name(theirs, list(features), f"{root / 'meta/info.json'}: field")
        if features[theirs]["dtype"] in ("video", "image"):
            raise ValueError(f"{root / 'meta/info.json'}: field {theirs} is a camera: only columns can be read so")
    files = sorted((root / "data").glob("*/*.parquet"))
    if not files:
        raise ValueError(f"{root / 'data'}: no parquet files: the data set is incomplete")
    pieces: dict[str, list[Any]] = {ours: [] for ours in names}
    for path in files:
        require_fields(path, names.values())
        table = pq.read_table(path, columns=list(names.values()))
        for ours, theirs in names.items():
            shape = features[theirs]["shape"]
            pieces[ours].append(from_arrow(table[theirs], [] if shape == [1] else shape))
    return {
        ours: [text for v in values for text in v] if isinstance(values[0], list) else np.concatenate(values)
        for ours, values in pieces.items()
    }
