"""Bytes in, files on disk out: every file appears whole or not at all, and its SHA-256 can be checked.

A file or folder is written beside its place, flushed to the disk and renamed into place, so a kill at any
moment leaves either the old content or the new. A folder that cannot be written gives one ValueError line.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_UNWRITABLE = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "something of that name is there already",
    errno.ENOTEMPTY: "something of that name is there already",
    errno.EISDIR: "a folder of that name is there already",
}
TEMPORARY_PREFIX = ".writing-"
"""Names that start so are leftovers of a killed writer: never read, free to delete."""


@contextlib.contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turn a read-only, forbidden or full disk into one ValueError line that names `path`."""
    try:
        yield
    except OSError as error:
        why = _UNWRITABLE.get(error.errno or 0)
        if why is None:
            raise
        raise ValueError(f"cannot write {path}: {why}; choose another place or make room there") from error


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write a file at; it becomes `path` when the block ends, or nothing changes."""
    path = Path(path)
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_own_prefix())
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files only the owner can read; a data set is meant to be shared.
            temporary.chmod(0o644)
            _sync(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write a whole file or leave what was there; text is stored as UTF-8. Returns the path."""
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> Path:
    """Write `value` as JSON, atomically. NaN and infinity are refused: no JSON reader agrees on them."""
    return write_atomic(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; a damaged file gives one ValueError line."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): the file is damaged or truncated") from None


@contextlib.contextmanager
def write_folder_atomic(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `path` when the block ends, and vanishes if the block raises.

    Args:
        path: The folder to make.
        replace: Swap out an existing folder; without it an existing folder is an error.
    """
    path = Path(path)
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_own_prefix()))
    try:
        # The block's own OSErrors (a full disk while it writes) deserve the same one line.
        with one_line_errors(path):
            temporary.chmod(0o755)
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            _sync(temporary)
            _move_folder(temporary, path, replace=replace)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_folder(source: Path, path: Path, *, replace: bool) -> None:
    if not path.exists():
        source.rename(path)
    elif not replace:
        raise ValueError(f"{path} exists already: choose another place or delete it")
    elif not _exchange(source, path):
        # Where the file system cannot swap two folders in one step, the old one steps aside first.
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=_own_prefix()))
        path.rename(aside / "old")
        source.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step (Linux `renameat2`); False where that does not exist."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(one.absolute()), here, os.fsencode(other.absolute()), exchange) == 0


def sync_folder(path: str | Path) -> None:
    """Make renames inside a folder survive a power cut."""
    _sync(Path(path))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_prefix() -> str:
    """Return a prefix that names this process, so that others can see whether the writer still lives."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-"


def _writer_lives(path: Path) -> bool:
    pid = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_leftovers(folder: str | Path) -> int:
    """Delete what killed writers left in `folder`, sparing those at work on this machine; return how many."""
    found = [path for path in Path(folder).glob(TEMPORARY_PREFIX + "*") if not _writer_lives(path)]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)
