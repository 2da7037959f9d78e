"""A recorded episode's folder in, bytes that travel between machines out, and back: whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from drivebyword.data.dataset import parts
from drivebyword.data.episode import read_part_summary, verify_part
from drivebyword.data.files import write_folder_atomic
from drivebyword.data.merge import PARTS_FOLDER

Parcel = dict[str, dict[str, bytes]]
"""Name of an episode's folder -> name of a file -> what is in it."""


def packed(root: Path) -> Parcel:
    """Take every episode that is recorded and not merged out of a folder."""
    found = parts(root)
    parcel = {part.name: {file.name: file.read_bytes() for file in part.iterdir()} for part in found}
    for part in found:
        shutil.rmtree(part)
    return parcel


def unpacked(parcel: Parcel, root: Path) -> None:
    """Put episodes into a folder; those that are there already stay as they are."""
    for name, files in parcel.items():
        folder = root / PARTS_FOLDER / name
        if folder.exists():
            continue
        with write_folder_atomic(folder) as place:
            for file, content in files.items():
                (place / file).write_bytes(content)
            verify_part(place, read_part_summary(place))
