"""One Episode in, one folder on disk out, and back: what a drive leaves behind and what data sets are made of.

    frames.parquet    one row per frame: every column of `schema.COLUMNS` the episode has
    <camera>.mp4      one file per camera, T images
    episode.json      the rest: scenario, seed, instructions, shapes, and the SHA-256 of the files above

The folder appears whole or not at all, so any number of processes may write side by side and be killed.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from drivebyword.core.records import Episode
from drivebyword.data.files import read_json, sha256_file, write_folder_atomic, write_json
from drivebyword.data.schema import (
    COLUMNS,
    IMAGE_PREFIX,
    SCHEMA_VERSION,
    build_episode,
    episode_record,
    from_arrow,
    require_whole,
    shapes_of,
    table_of,
)
from drivebyword.data.video import read_video, video_header, write_video

FRAMES_FILE = "frames.parquet"
EPISODE_FILE = "episode.json"
_STATS_IMAGES = 32
"""Images of an episode that its pixel statistics are taken from, spread evenly."""


def write_part(folder: str | Path, episode: Episode, *, replace: bool = False) -> Path:
    """Write an episode as a folder of its own, whole or not at all.

    Args:
        folder: Where; must not exist unless `replace`.
        episode: What to write; `snapshots` are left out.
        replace: Take the place of what is there.
    """
    require_whole(episode)
    fps = frames_per_second(episode.dt)
    folder = Path(folder)
    with write_folder_atomic(folder, replace=replace) as place:
        write_frames(place / FRAMES_FILE, [table_of(episode)])
        for name, images in episode.cameras.items():
            write_video(place / f"{name}.mp4", images, fps)
        files = {file.name: sha256_file(file) for file in sorted(place.iterdir())}
        summary = {
            "schema_version": SCHEMA_VERSION,
            "frames": len(episode),
            "fps": fps,
            "shapes": shapes_of(episode),
            "video_headers": {name: video_header(place / f"{name}.mp4") for name in episode.cameras},
            "image_stats": {name: image_stats(images) for name, images in episode.cameras.items()},
            "checksums": files,
            "episode": episode_record(episode),
        }
        write_json(place / EPISODE_FILE, summary)
    return folder


def read_part_summary(folder: str | Path) -> dict[str, Any]:
    """Return `episode.json` of a part, checked for schema."""
    folder = Path(folder)
    path = folder / EPISODE_FILE
    if not path.exists():
        raise ValueError(f"{path} is missing: {folder} is not a recorded episode")
    summary = read_json(path)
    wanted = ("schema_version", "frames", "fps", "shapes", "checksums", "episode")
    for field in wanted:
        if not isinstance(summary, dict) or field not in summary:
            raise ValueError(f"{path}: field {field} is missing: this is not an episode of ours")
    if summary["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: field schema_version is {summary['schema_version']}, this program reads {SCHEMA_VERSION}"
        )
    return summary


def read_part(folder: str | Path, *, cameras: Collection[str] | None = None, verify: bool = True) -> Episode:
    """Read an episode from its folder.

    Args:
        folder: What `write_part` wrote.
        cameras: Which cameras to decode; None means all.
        verify: Compare the SHA-256 of each file first.
    """
    folder = Path(folder)
    summary = read_part_summary(folder)
    if verify:
        verify_part(folder, summary)
    shapes, frames = summary["shapes"], summary["frames"]
    columns = read_columns(pq.ParquetFile(folder / FRAMES_FILE), shapes)
    images = {}
    for name in camera_names(shapes):
        if cameras is None or name in cameras:
            images[name] = np.empty((frames, *shapes[IMAGE_PREFIX + name]), np.uint8)
            read_video(folder / f"{name}.mp4", images[name])
    return build_episode(summary["episode"], columns, images)


def verify_part(folder: Path, summary: dict[str, Any]) -> None:
    """Raise one line if a file of a part is missing or altered."""
    for name, digest in summary["checksums"].items():
        path = folder / name
        if not path.exists():
            raise ValueError(f"{path} is missing, {EPISODE_FILE} lists it: the episode is incomplete")
        if sha256_file(path) != digest:
            raise ValueError(
                f"{path}: its SHA-256 differs from {EPISODE_FILE}: the file is truncated or altered; "
                f"delete {folder} and record it again"
            )


def write_frames(path: Path, tables: list[pa.Table]) -> None:
    """Write tables to one parquet file, one row group each, so that an episode can be read alone."""
    floats: list[str] = []
    others: list[str] = []
    for field in tables[0].schema:
        wide = pa.types.is_fixed_size_list(field.type)
        value = field.type.value_type if wide else field.type
        leaf = f"{field.name}.list.element" if wide else field.name
        (floats if pa.types.is_floating(value) else others).append(leaf)
    with pq.ParquetWriter(
        path,
        tables[0].schema,
        compression="zstd",
        compression_level=1,
        # Sorting a float's bytes by significance before compressing makes sensor data a third smaller.
        use_byte_stream_split=floats,
        use_dictionary=others,
        write_statistics=False,
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))


def read_columns(
    file: pq.ParquetFile, shapes: dict[str, list[int]], names: Collection[str] | None = None, row_group: int = 0
) -> dict[str, Any]:
    """Return the columns of one episode in a parquet file as arrays; None means all of ours."""
    wanted = [c.name for c in COLUMNS if c.name in shapes and (names is None or c.name in names)]
    table = file.read_row_group(row_group, columns=wanted, use_threads=False)
    return {name: from_arrow(table[name], shapes[name]) for name in wanted}


def camera_names(shapes: dict[str, list[int]]) -> list[str]:
    """Return the camera names of a shape table, in recorded order."""
    return [name.removeprefix(IMAGE_PREFIX) for name in shapes if name.startswith(IMAGE_PREFIX)]


def frames_per_second(dt: float) -> int:
    """Return the frame rate of a decision period; LeRobot's layout holds whole numbers only."""
    fps = round(1.0 / dt) if dt > 0 else 0
    if fps < 1 or abs(fps * dt - 1.0) > 1e-6:
        raise ValueError(f"episode field dt is {dt}: a data set needs a whole number of frames a second, e.g. 0.2")
    return fps


def image_stats(images: UInt8[np.ndarray, "T H W 3"]) -> dict[str, Any]:
    """Return min, max, mean and std per channel in [0, 1] and the number of images looked at."""
    chosen = images[np.linspace(0, len(images) - 1, min(_STATS_IMAGES, len(images))).astype(int)]
    pixels = chosen.reshape(-1, 3).astype(np.float32) / 255.0
    values = {"min": pixels.min(0), "max": pixels.max(0), "mean": pixels.mean(0), "std": pixels.std(0)}
    return {key: [[[float(v)]] for v in value] for key, value in values.items()} | {"count": [len(chosen)]}
