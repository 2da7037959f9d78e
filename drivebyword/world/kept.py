"""What takes long to build, kept on disk: a key and arrays by name in, the same arrays out the next time.

A file is there whole or not at all. Damage, or a folder that cannot be written, only costs the next start its speed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Columns = dict[str, np.ndarray]


def kept(path: Path, build: Callable[[], Columns]) -> Columns:
    """Return what a file holds; where it holds nothing, build it and write it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        columns = build()
        _write(path, columns)
        return columns


def named(folder: Path, *what: object) -> Path:
    """Return the file in a folder for everything a thing is made from."""
    return folder / f"{hashlib.sha256(' '.join(map(str, what)).encode()).hexdigest()[:20]}.npz"


def content_of(*modules: str) -> str:
    """Return a digest of source files beside this one: what they build gets another key once they change."""
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in modules)).hexdigest()[:12]


def _write(path: Path, columns: Columns) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as handle:
            np.savez_compressed(handle, **columns)  # type: ignore[arg-type]
            handle.flush()
            os.fsync(handle.fileno())
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
