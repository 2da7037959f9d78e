"""Episodes in, a LeRobot v3.0 data set out, and back as episodes, columns or images.

While recording, each episode is a folder of its own under `root/.parts/` (`episode.py`); `finalize` turns
them into the published layout (`merge.py`). `Dataset` reads both, so training need not wait for the end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import UInt8

from drivebyword.core.records import Episode
from drivebyword.core.rig import RigConfig
from drivebyword.core.seeds import require_training_seed
from drivebyword.data.episode import (
    FRAMES_FILE,
    camera_names,
    frames_per_second,
    read_columns,
    read_part,
    read_part_summary,
    verify_part,
    write_part,
)
from drivebyword.data.files import TEMPORARY_PREFIX, one_line_errors
from drivebyword.data.merge import (
    DATA_PATH,
    PARTS_FOLDER,
    VIDEO_PATH,
    Meta,
    load_meta,
    merge_parts,
)
from drivebyword.data.schema import IMAGE_PREFIX, build_episode, same_shapes, shapes_of
from drivebyword.data.verify import require_fields, require_name, verify_files
from drivebyword.data.video import read_video

__all__ = [
    "Dataset",
    "DatasetWriter",
    "EpisodeEntry",
    "part_name",
    "parts",
    "read_part",
    "rig_shapes",
]


def part_name(scenario: str, seed: int, driver: str) -> str:
    """Return the name an episode is known by: recording the same one twice is recording it once."""
    return f"{quote(scenario, safe='')}.{quote(driver, safe='')}.seed-{seed:07d}"


def parts(root: str | Path) -> list[Path]:
    """Return the folders of episodes recorded and not yet merged, sorted by name."""
    folder = Path(root) / PARTS_FOLDER
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(TEMPORARY_PREFIX))


def is_ours(root: Path) -> bool:
    """Tell whether a folder holds a set of ours, or at least none made elsewhere."""
    return (root / "meta" / "drivebyword.json").exists() or not (root / "meta" / "info.json").exists()


class DatasetWriter:
    """Records episodes into one folder; any number of processes may each hold a writer to the same folder."""

    def __init__(
        self,
        root: str | Path,
        *,
        fps: int = 5,
        rig: RigConfig | None = None,
        training: bool = True,
        held_out: Collection[str] = (),
    ) -> None:
        """Open a folder for recording; what is there already is kept and skipped.

        Args:
            root: The data set's folder, made if missing.
            fps: Decisions a second.
            rig: If given, episodes must carry exactly its sensors.
            training: Refuse episodes of validation and test seeds.
            held_out: Scenarios or families that must not be recorded for training.
        """
        self.root = Path(root)
        self._fps = fps
        self._rig = rig
        self._training = training
        self._held_out = held_out
        folder = self.root / PARTS_FOLDER
        with one_line_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        meta = load_meta(self.root)
        self._merged = _merged_seeds(meta)
        self._shapes = meta.shapes if meta else None
        if self._shapes is None and (recorded := parts(self.root)):
            self._shapes = read_part_summary(recorded[0])["shapes"]

    def has(self, scenario: str, seed: int, driver: str) -> bool:
        """Return whether that episode is recorded already."""
        name = part_name(scenario, seed, driver)
        return name in self._merged or (self.root / PARTS_FOLDER / name).is_dir()

    def seeds(self) -> set[int]:
        """Return the scene seeds recorded here so far, by any process."""
        return {*self._merged.values(), *(int(p.name.rpartition("-")[2]) for p in parts(self.root))}

    def add(self, episode: Episode) -> bool:
        """Record an episode, whole or not at all; False if it was there already."""
        self._require_allowed(episode)
        if self.has(episode.scenario, episode.seed, episode.driver):
            return False
        folder = self.root / PARTS_FOLDER / part_name(episode.scenario, episode.seed, episode.driver)
        try:
            write_part(folder, episode)
        except ValueError:
            if folder.is_dir():  # another process was quicker with the same one
                return False
            raise
        return True

    def finalize(self) -> int:
        """Merge what was recorded into the data set; return how many episodes were new.

        Call once, when no process records any more. Killed and called again, it carries on.
        """
        new = merge_parts(self.root)
        self._merged = _merged_seeds(load_meta(self.root))
        return new

    def _require_allowed(self, episode: Episode) -> None:
        if self._training:
            require_training_seed(episode.seed, episode.scenario, self._held_out)
        if frames_per_second(episode.dt) != self._fps:
            raise ValueError(f"episode field dt is {episode.dt}, the data set holds {self._fps} decisions a second")
        where = f"episode of scenario {episode.scenario!r}, seed {episode.seed}"
        found = shapes_of(episode)
        if self._rig is not None:
            sensors = rig_shapes(self._rig)
            same_shapes(sensors, {k: v for k, v in found.items() if k in sensors or _is_sensor(k)}, where)
        if self._shapes is None:
            self._shapes = found
        same_shapes(self._shapes, found, where)


def _merged_seeds(meta: Meta | None) -> dict[str, int]:
    return {e["drivebyword.part"]: e["drivebyword.seed"] for e in meta.episodes} if meta else {}


def rig_shapes(rig: RigConfig) -> dict[str, list[int]]:
    """Return the shape per frame of every sensor of a rig, by column name."""
    shapes: dict[str, list[int]] = {}
    if rig.lidar is not None:
        shapes["observation.lidar"] = [rig.lidar.beams, rig.lidar.columns, 2]
    if rig.radar is not None:
        shapes["observation.radar"] = [rig.radar.detections, 4]
        shapes["observation.radar_valid"] = [rig.radar.detections]
    return shapes | {IMAGE_PREFIX + c.name: [c.height, c.width, 3] for c in rig.cameras}


def _is_sensor(name: str) -> bool:
    return name.startswith("observation.") and name != "observation.state"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeEntry:
    """One row of a data set's table of episodes, and where the episode lies."""

    name: str
    scenario: str
    seed: int
    driver: str
    ended: str
    frames: int
    record: dict[str, Any]
    """Everything of the episode that is not per frame, `instructions` and `weather` included."""
    frames_file: Path
    row_group: int
    videos: dict[str, Path]
    video_start: int
    """Frame of the video files at which the episode begins."""


class Dataset:
    """A data set of ours, opened for reading: merged episodes first, then parts not yet merged."""

    def __init__(self, root: str | Path, *, verify: bool = True) -> None:
        """Open a data set.

        Args:
            root: The folder `DatasetWriter` wrote to.
            verify: Compare the SHA-256 of every file; sizes are compared in any case.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"{self.root} is not a folder: record a data set there first")
        if not is_ours(self.root):
            raise ValueError(
                f"{self.root}: meta/drivebyword.json is missing: a LeRobot set made elsewhere; "
                "say what its fields mean with --layout l2d, or --layout FILE.json"
            )
        meta = load_meta(self.root)
        self.episodes: list[EpisodeEntry] = []
        self.shapes: dict[str, list[int]] = {}
        self.fps = 0
        if meta is not None:
            verify_files(self.root, hashes=verify)
            self.shapes, self.fps = meta.shapes, meta.fps
            self.episodes += _merged_entries(self.root, meta)
            _require_columns(self.root, meta)
        self._add_parts(verify)
        if not self.episodes:
            raise ValueError(f"{self.root} holds no episodes: record some there first")
        self.starts = np.concatenate([[0], np.cumsum([e.frames for e in self.episodes])])
        """Row of the first frame of each episode, and the number of frames at the end."""

    def _add_parts(self, verify: bool) -> None:
        known = {e.name for e in self.episodes}
        for folder in parts(self.root):
            if folder.name in known:
                continue
            summary = read_part_summary(folder)
            if verify:
                verify_part(folder, summary)
            self.shapes, self.fps = self.shapes or summary["shapes"], self.fps or summary["fps"]
            same_shapes(self.shapes, summary["shapes"], str(folder))
            videos = {name: folder / f"{name}.mp4" for name in camera_names(self.shapes)}
            self.episodes.append(
                _entry(folder.name, summary["episode"], summary["frames"], folder / FRAMES_FILE, 0, videos, 0)
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self.starts[-1])

    def read_episode(self, index: int, *, cameras: Collection[str] | None = None) -> Episode:
        """Read one episode; `cameras` limits which are decoded (None: all)."""
        entry = self.episodes[index]
        columns = read_columns(pq.ParquetFile(entry.frames_file), self.shapes, row_group=entry.row_group)
        images = {}
        for name in camera_names(self.shapes):
            if cameras is None or name in cameras:
                images[name] = np.empty((entry.frames, *self.shapes[IMAGE_PREFIX + name]), np.uint8)
                read_video(entry.videos[name], images[name], entry.video_start)
        return build_episode(entry.record, columns, images)

    def load_columns(
        self,
        names: Sequence[str],
        episodes: Sequence[int] | None = None,
        *,
        dtypes: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Return columns over all frames, or over those of `episodes`, in that order.

        Args:
            names: Column names as stored, e.g. `observation.state`, `expert.act`, `observation.lidar`.
            episodes: Rows of `self.episodes`; None means all.
            dtypes: Column name -> dtype to keep it in, e.g. float16 for a LiDAR that fills the memory.
        """
        stored = [n for n in self.shapes if not n.startswith(IMAGE_PREFIX)]
        for name in names:
            require_name(name, stored, f"{self.root}: column")
        chosen = [self.episodes[i] for i in (range(len(self.episodes)) if episodes is None else episodes)]
        columns: dict[str, Any] = {}
        total, start = sum(e.frames for e in chosen), 0
        opened: tuple[Path, pq.ParquetFile] | None = None
        for entry in chosen:
            if opened is None or opened[0] != entry.frames_file:
                opened = (entry.frames_file, pq.ParquetFile(entry.frames_file))
            for name, value in read_columns(opened[1], self.shapes, names, entry.row_group).items():
                if isinstance(value, list):
                    columns.setdefault(name, []).extend(value)
                    continue
                if name not in columns:  # filled in place: joining copies would need the memory twice
                    columns[name] = np.empty((total, *value.shape[1:]), dtypes.get(name, value.dtype))
                columns[name][start : start + entry.frames] = value
            start += entry.frames
        return columns

    def load_frames(
        self,
        camera: str,
        episodes: Sequence[int] | None = None,
        *,
        out: UInt8[np.ndarray, "T H W 3"] | None = None,
        threads: int = 1,
    ) -> UInt8[np.ndarray, "T H W 3"]:
        """Decode one camera over all frames, or over those of `episodes`, in that order.

        Args:
            camera: Camera name, e.g. `wide`.
            episodes: Rows of `self.episodes`; None means all.
            out: Where to put the images, e.g. a memory-mapped array; made if not given.
            threads: Episodes decoded at the same time.
        """
        require_name(camera, camera_names(self.shapes), f"{self.root}: camera")
        chosen = [self.episodes[i] for i in (range(len(self.episodes)) if episodes is None else episodes)]
        starts = np.concatenate([[0], np.cumsum([e.frames for e in chosen])]).astype(int)
        shape = (int(starts[-1]), *self.shapes[IMAGE_PREFIX + camera])
        images = np.empty(shape, np.uint8) if out is None else out
        if images.shape != shape:
            raise ValueError(f"out has shape {images.shape}, camera {camera} of these episodes needs {shape}")

        def decode(row: int) -> None:
            entry = chosen[row]
            read_video(entry.videos[camera], images[starts[row] : starts[row + 1]], entry.video_start)

        if threads == 1:
            for row in range(len(chosen)):
                decode(row)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, range(len(chosen))))
        return images

    def sentences(self) -> list[str]:
        """Return every sentence of the set once, in order of appearance."""
        return list(dict.fromkeys(i["sentence"] for e in self.episodes for i in e.record["instructions"]))


def _entry(
    name: str, record: dict[str, Any], frames: int, file: Path, row_group: int, videos: dict[str, Path], start: int
) -> EpisodeEntry:
    return EpisodeEntry(
        name=name,
        scenario=record["scenario"],
        seed=record["seed"],
        driver=record["driver"],
        ended=record["ended"],
        frames=frames,
        record=record,
        frames_file=file,
        row_group=row_group,
        videos=videos,
        video_start=start,
    )


def _merged_entries(root: Path, meta: Meta) -> Iterator[EpisodeEntry]:
    row_group, start, last = 0, 0, None
    for row in meta.episodes:
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        if place != last:
            row_group, start, last = 0, 0, place
        videos = {c: root / VIDEO_PATH.format(video_key=IMAGE_PREFIX + c, **place) for c in camera_names(meta.shapes)}
        record = json.loads(row["drivebyword.record"])
        file = root / DATA_PATH.format(**place)
        yield _entry(row["drivebyword.part"], record, row["length"], file, row_group, videos, start)
        row_group, start = row_group + 1, start + row["length"]


def _require_columns(root: Path, meta: Meta) -> None:
    wanted = [n for n in meta.shapes if not n.startswith(IMAGE_PREFIX)]
    for file in sorted({e["data/file_index"] + 1000 * e["data/chunk_index"] for e in meta.episodes}):
        path = root / DATA_PATH.format(chunk_index=file // 1000, file_index=file % 1000)
        require_fields(path, wanted)
