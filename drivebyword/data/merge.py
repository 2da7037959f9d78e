"""Recorded episodes (`.parts/`) in, a LeRobot v3.0 data set out: the step that makes parts a published set.

New parts become new data and video files; then `meta/` is swapped in one step; then the parts go. Killed
before the swap, nothing happened; killed after it, the next run finds the parts already listed and only
deletes them. So nothing is lost and nothing is doubled.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from drivebyword.data.episode import (
    EPISODE_FILE,
    FRAMES_FILE,
    camera_names,
    read_part_summary,
    verify_part,
    write_frames,
)
from drivebyword.data.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    one_line_errors,
    read_json,
    remove_leftovers,
    sha256_file,
    write_folder_atomic,
    write_json,
)
from drivebyword.data.schema import IMAGE_PREFIX, SCHEMA_VERSION, features_of, from_arrow, same_shapes
from drivebyword.data.statistics import Stats, column_stats, merge_stats
from drivebyword.data.verify import require_file, verify_files
from drivebyword.data.video import PIXEL_FORMAT, join_videos

PARTS_FOLDER = ".parts"
CODEBASE_VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
EPISODES_FILE = "episodes/chunk-000/file-000.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_WIDE = 64
"""Columns with more elements than this have no per-episode statistics: they would outweigh the episode table."""


@dataclass(slots=True)
class Meta:
    """What `meta/` holds, in memory."""

    shapes: dict[str, list[int]]
    fps: int
    tasks: dict[str, int] = field(default_factory=dict)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Stats] = field(default_factory=dict)
    checksums: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: int = 0

    @property
    def frames(self) -> int:
        """Return the number of frames in the set."""
        return int(self.episodes[-1]["dataset_to_index"]) if self.episodes else 0


@dataclass(frozen=True, slots=True)
class _Part:
    folder: Path
    summary: dict[str, Any]


def merge_parts(root: Path) -> int:
    """Merge every part under `root` into its data set; return how many episodes were new.

    Call when no process is recording into `root`.
    """
    parts_folder = root / PARTS_FOLDER
    if not parts_folder.is_dir():
        return 0
    with _alone(root):
        for folder in (root, parts_folder, *root.glob("data/*"), *root.glob("videos/*/*")):
            remove_leftovers(folder)
        meta = load_meta(root, statistics=True)
        known = {e["drivebyword.part"] for e in meta.episodes} if meta else set()
        parts: list[Path] = []
        done: list[Path] = []
        for folder in sorted(p for p in parts_folder.iterdir() if p.is_dir()):
            (done if folder.name in known else parts).append(folder)
        fresh = [_Part(folder, read_part_summary(folder)) for folder in parts]
        if fresh:
            meta = meta or Meta(shapes=fresh[0].summary["shapes"], fps=fresh[0].summary["fps"])
            for part in fresh:
                _require_fit(part, meta)
            for group in _groups(fresh):
                _write_group(root, group, meta)
            save_meta(root, meta)
        for folder in [*done, *parts]:
            _discard(folder)
        return len(fresh)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process at a time merge: a second one waits, then finds nothing left to do."""
    with one_line_errors(root), (root / PARTS_FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_fit(part: _Part, meta: Meta) -> None:
    where = f"{part.folder / EPISODE_FILE}"
    same_shapes(meta.shapes, part.summary["shapes"], where)
    if part.summary["fps"] != meta.fps:
        raise ValueError(f"{where}: field fps is {part.summary['fps']}, the data set has {meta.fps}")
    verify_part(part.folder, part.summary)


def _groups(parts: list[_Part]) -> Iterator[list[_Part]]:
    """Split parts into files that stay below the size limits and whose videos can be joined."""
    group: list[_Part] = []
    data = video = 0
    for part in parts:
        part_data = (part.folder / FRAMES_FILE).stat().st_size
        part_video = max((f.stat().st_size for f in part.folder.glob("*.mp4")), default=0)
        full = data + part_data > DATA_FILE_MB * 2**20 or video + part_video > VIDEO_FILE_MB * 2**20
        if group and (full or part.summary["video_headers"] != group[0].summary["video_headers"]):
            yield group
            group, data, video = [], 0, 0
        group.append(part)
        data, video = data + part_data, video + part_video
    if group:
        yield group


def _write_group(root: Path, group: list[_Part], meta: Meta) -> None:
    """Write one data file and one video file per camera, and enter them into `meta`."""
    place = {"chunk_index": meta.files // CHUNK_FILES, "file_index": meta.files % CHUNK_FILES}
    meta.files += 1
    tables, columns, images, start_s = [], [], [], 0.0
    for part in group:
        table = pq.read_table(part.folder / FRAMES_FILE, use_threads=False)
        row = _episode_row(part, meta, place, start_s)
        start_s += len(table) / meta.fps
        tables.append(_with_indices(table, part.summary["episode"]["instructions"], row, meta))
        stats = _table_stats(tables[-1], meta.shapes)
        columns.append(stats)
        images.append({IMAGE_PREFIX + k: v for k, v in part.summary["image_stats"].items()})
        row["tasks"] = _tasks_used(tables[-1], meta)
        row |= _flat_stats({k: v for k, v in stats.items() if len(v["mean"]) <= _WIDE} | images[-1])
        meta.episodes.append(row)
    data = DATA_PATH.format(**place)
    with atomic_path(root / data) as temporary:
        write_frames(temporary, tables)
    _enter(root, data, meta)
    for camera in camera_names(meta.shapes):
        video = VIDEO_PATH.format(video_key=IMAGE_PREFIX + camera, **place)
        with atomic_path(root / video) as temporary:
            join_videos(temporary, [(p.folder / f"{camera}.mp4", p.summary["frames"]) for p in group], meta.fps)
        _enter(root, video, meta)
    for stats in [*columns, *images]:
        for name, value in stats.items():
            meta.stats[name] = merge_stats([meta.stats[name], value]) if name in meta.stats else value


def _episode_row(part: _Part, meta: Meta, place: dict[str, int], start_s: float) -> dict[str, Any]:
    frames, record = part.summary["frames"], part.summary["episode"]
    row: dict[str, Any] = {
        "episode_index": len(meta.episodes),
        "tasks": [],
        "length": frames,
        "dataset_from_index": meta.frames,
        "dataset_to_index": meta.frames + frames,
        "data/chunk_index": place["chunk_index"],
        "data/file_index": place["file_index"],
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    for camera in camera_names(meta.shapes):
        key = f"videos/{IMAGE_PREFIX}{camera}"
        row |= {f"{key}/chunk_index": place["chunk_index"], f"{key}/file_index": place["file_index"]}
        row |= {f"{key}/from_timestamp": start_s, f"{key}/to_timestamp": start_s + frames / meta.fps}
    for name in ("scenario", "seed", "driver", "ended"):
        row[f"drivebyword.{name}"] = record[name]
    row["drivebyword.record"] = json.dumps(record)
    row["drivebyword.part"] = part.folder.name
    return row


def _with_indices(table: pa.Table, instructions: list[dict[str, Any]], row: dict[str, Any], meta: Meta) -> pa.Table:
    """Append LeRobot's own five columns; the task of a frame is the sentence in force."""
    tasks = [meta.tasks.setdefault(i["sentence"], len(meta.tasks)) for i in instructions]
    count = len(table)
    frame = np.arange(count, dtype=np.int64)
    table = table.append_column("timestamp", pa.array((frame / meta.fps).astype(np.float32)))
    table = table.append_column("frame_index", pa.array(frame))
    table = table.append_column("episode_index", pa.array(np.full(count, row["episode_index"], np.int64)))
    table = table.append_column("index", pa.array(frame + row["dataset_from_index"]))
    task = np.asarray(tasks, np.int64)[table["instruction_index"].to_numpy()]
    return table.append_column("task_index", pa.array(task))


def _tasks_used(table: pa.Table, meta: Meta) -> list[str]:
    sentences = list(meta.tasks)
    return [sentences[i] for i in dict.fromkeys(table["task_index"].to_pylist())]


def _table_stats(table: pa.Table, shapes: dict[str, list[int]]) -> dict[str, Stats]:
    stats = {}
    for field_ in table.schema:
        if not pa.types.is_string(field_.type):
            size = int(np.prod(shapes.get(field_.name, []), dtype=int))
            values = from_arrow(table[field_.name], [size])
            assert isinstance(values, np.ndarray)
            stats[field_.name] = column_stats(values)
    return stats


def _flat_stats(stats: dict[str, Stats]) -> dict[str, Any]:
    return {f"stats/{name}/{key}": value for name, one in stats.items() for key, value in one.items()}


def _enter(root: Path, relative: str, meta: Meta) -> None:
    path = root / relative
    meta.checksums[relative] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def _discard(folder: Path) -> None:
    """Make a part vanish in one step, so that no half of it is ever read."""
    aside = folder.with_name(TEMPORARY_PREFIX + folder.name)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def load_meta(root: Path, *, statistics: bool = False) -> Meta | None:
    """Return the set's `meta/`, or None where there is none yet; per-episode statistics only if asked for."""
    folder = root / "meta"
    if not folder.exists():
        return None
    ours = read_json(require_file(folder / "drivebyword.json"))
    if ours.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{folder / 'drivebyword.json'}: field schema_version is {ours.get('schema_version')}, "
            f"this program reads {SCHEMA_VERSION}"
        )
    verify_files(root, under="meta/")
    tasks = pq.read_table(folder / "tasks.parquet").to_pylist()
    return Meta(
        shapes=ours["shapes"],
        fps=ours["fps"],
        tasks={t["__index_level_0__"]: t["task_index"] for t in tasks},
        episodes=_episode_rows(folder / EPISODES_FILE, statistics),
        stats=read_json(folder / "stats.json"),
        checksums={k: v for k, v in read_json(folder / "checksums.json").items() if not k.startswith("meta/")},
        files=ours["files"],
    )


def _episode_rows(path: Path, statistics: bool) -> list[dict[str, Any]]:
    names = [n for n in pq.read_schema(path).names if statistics or not n.startswith("stats/")]
    return pq.read_table(path, columns=names).to_pylist()


def save_meta(root: Path, meta: Meta) -> None:
    """Replace `meta/` in one step."""
    with write_folder_atomic(root / "meta", replace=True) as place:
        write_json(place / "info.json", _info(meta), indent=4)
        write_json(place / "stats.json", meta.stats, indent=None)
        write_json(
            place / "drivebyword.json",
            {"schema_version": SCHEMA_VERSION, "shapes": meta.shapes, "fps": meta.fps, "files": meta.files},
        )
        pq.write_table(_task_table(meta.tasks), place / "tasks.parquet")
        (place / EPISODES_FILE).parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(meta.episodes), place / EPISODES_FILE)
        checksums = dict(meta.checksums)
        for file in sorted(f for f in place.rglob("*") if f.is_file()):
            name = f"meta/{file.relative_to(place).as_posix()}"
            checksums[name] = {"sha256": sha256_file(file), "bytes": file.stat().st_size}
        write_json(place / "checksums.json", checksums)


def _info(meta: Meta) -> dict[str, Any]:
    cameras = camera_names(meta.shapes)
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": "drivebyword",
        "total_episodes": len(meta.episodes),
        "total_frames": meta.frames,
        "total_tasks": len(meta.tasks),
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": meta.fps,
        "splits": {"train": f"0:{len(meta.episodes)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if cameras else None,
        "features": features_of(meta.shapes, meta.fps, PIXEL_FORMAT),
    }


def _task_table(tasks: dict[str, int]) -> pa.Table:
    """Return tasks as LeRobot stores them: a pandas frame whose index is the sentence."""
    index = "__index_level_0__"

    def column(name: str | None, field_name: str, kind: str, numpy_type: str) -> dict[str, Any]:
        return {
            "name": name,
            "field_name": field_name,
            "pandas_type": kind,
            "numpy_type": numpy_type,
            "metadata": None,
        }

    pandas = {
        "index_columns": [index],
        "column_indexes": [column(None, "None", "unicode", "object") | {"metadata": {"encoding": "UTF-8"}}],
        "columns": [column("task_index", "task_index", "int64", "int64"), column(None, index, "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
