"""A data set's files in, silence out, or one line that names the file and the field that is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from drivebyword.data.files import read_json, sha256_file


def require_file(path: Path) -> Path:
    """Return the path if a file is there, else raise one line."""
    if not path.exists():
        raise ValueError(f"{path} is missing: not a data set of ours, or an incomplete copy")
    return path


def verify_files(root: Path, *, under: str = "", hashes: bool = True) -> None:
    """Raise one line if a file of a set is missing, cut short or altered.

    Args:
        root: The data set's folder.
        under: Look only at files whose names begin so, e.g. `meta/`.
        hashes: Compare every byte by SHA-256, not just the size.
    """
    listed = read_json(require_file(root / "meta" / "checksums.json"))
    for name, expected in listed.items():
        if not name.startswith(under):
            continue
        path = root / name
        if not path.exists():
            raise ValueError(f"{path} is missing, meta/checksums.json lists it: the data set is incomplete")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ValueError(f"{path} has {size} bytes, meta/checksums.json says {expected['bytes']}: it is truncated")
        if hashes and sha256_file(path) != expected["sha256"]:
            raise ValueError(f"{path}: its SHA-256 differs from meta/checksums.json: the file was altered")


def require_fields(path: Path, wanted: Collection[str]) -> None:
    """Raise one line if a parquet file cannot be read or lacks a column."""
    try:
        found = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    for name in wanted:
        require_name(name, found, f"{path}: field")


def require_name(name: str, known: Sequence[str], what: str) -> None:
    """Raise one line with the nearest names if `name` is not among `known`."""
    if name not in known:
        near = get_close_matches(name, known, 3) or list(known)[:8]
        raise ValueError(f"{what} {name!r} does not exist; nearest: {', '.join(near)}")
