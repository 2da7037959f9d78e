"""A LeRobot v3.0 driving set made elsewhere in, its recordings as our episodes out; `layout.py` says what is what.

What a set has not is left open, never made up: no LiDAR, no radar, a camera it lacks, affordances (NaN), the cause of
a decision (-1), the meaning of a sentence (UNREAD). What follows from the recording itself is worked out: the path
driven, the speed a second later, the odometry since the sentence, and from the turn signal the decision to turn or to
change lanes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int, UInt8

from drivebyword.core.records import AFFORDANCES, DECISIONS, PLAN_DISTANCES, UNREAD, Episode, InstructionRecord
from drivebyword.core.rig import RigConfig, Weather
from drivebyword.data.dataset import Dataset, is_ours
from drivebyword.data.importers import lerobot_info
from drivebyword.data.layout import Channel, Indicator, Layout, find_layout
from drivebyword.data.reproject import Reprojection
from drivebyword.data.verify import require_fields, require_name

DECISIONS_A_SECOND = 5
FUTURE_STEPS = 4
"""Steps of a recorded chunk."""
TURN = np.radians(35.0)
"""A driver who signals and turns by more within AHEAD_S turns off; by less, changes lanes."""
AHEAD_S = 6.0


@dataclass(frozen=True, slots=True)
class ForeignEntry:
    """One episode of a set and where it lies."""

    number: int
    frames: int
    """Decisions, at our rate."""
    row: dict[str, Any]


class ForeignSet:
    """A set opened for reading, as `Dataset` is."""

    def __init__(self, root: str | Path, layout: Layout, rig: RigConfig) -> None:
        """Open a set and check that its fields are what the layout says.

        Raises:
            ValueError: One line that names the file and the field.
        """
        self.root, self.layout, self.rig = Path(root), layout, rig
        self.info_path = self.root / "meta" / "info.json"
        self.info = lerobot_info(self.root)
        fps = self.info.get("fps")
        if not isinstance(fps, int | float) or fps % DECISIONS_A_SECOND or fps <= 0:
            raise ValueError(f"{self.info_path}: field fps is {fps}: it must be a multiple of {DECISIONS_A_SECOND}")
        self.fps, self.every = int(fps), int(fps) // DECISIONS_A_SECOND
        self.cameras = {c.name: c for c in rig.cameras if c.name in layout.cameras}
        if not self.cameras:
            named = ", ".join(layout.cameras)
            raise ValueError(f"rig {rig.name!r} has none of the layout's cameras ({named}): map one of its own")
        self.lenses = {name: self._lens(name) for name in self.cameras}
        self.channels = {name: self._channel(name) for name in _CHANNELS if getattr(layout, name) is not None}
        self._require(layout.sentence, ("string",) if layout.sentence != "task_index" else ("int64",))
        self.tasks = self._tasks()
        files = sorted((self.root / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise ValueError(f"{self.root / 'meta' / 'episodes'}: no parquet files: the data set is incomplete")
        self.episodes = [entry for path in files for entry in self._entries(path)]
        self._check_signs()

    # ------------------------------------------------------------------ what must be there

    def _feature(self, name: str) -> dict[str, Any]:
        features: dict[str, Any] = self.info.get("features", {})
        require_name(name, list(features), f"{self.info_path}: field")
        found: dict[str, Any] = features[name]
        return found

    def _require(self, name: str, dtypes: tuple[str, ...]) -> dict[str, Any]:
        feature = self._feature(name)
        if feature["dtype"] not in dtypes:
            raise ValueError(f"{self.info_path}: field {name} is {feature['dtype']}, not {' or '.join(dtypes)}")
        return feature

    def _lens(self, name: str) -> Reprojection:
        view = self.layout.cameras[name]
        shape = list(self._require(view.field, ("video",))["shape"])
        height, width = shape[1:] if shape[0] in (1, 3) else shape[:2]
        return Reprojection(view, (height, width), self.cameras[name])

    def _channel(self, name: str) -> tuple[str, int]:
        """Return a channel's field and element."""
        wanted: Channel | Indicator = getattr(self.layout, name)
        kinds = ("float32", "float64", "int32", "int64", "bool")
        feature = self._require(wanted.field, kinds)
        size = int(np.prod(feature["shape"]))
        if wanted.index is None and size != 1:
            raise ValueError(f"{self.info_path}: field {wanted.field} has {size} elements: say which is the {name}")
        if isinstance(wanted.index, str):
            names = feature.get("names") or []
            axes = [str(n) for n in (next(iter(names.values())) if isinstance(names, dict) else names)]
            require_name(wanted.index, axes, f"{self.info_path}: field {wanted.field}: element")
            return wanted.field, axes.index(wanted.index)
        index = wanted.index or 0
        if not 0 <= index < size:
            raise ValueError(f"{self.info_path}: field {wanted.field} has {size} elements, none of number {index}")
        return wanted.field, index

    def _tasks(self) -> dict[int, str]:
        if self.layout.sentence != "task_index":
            return {}
        path = self.root / "meta" / "tasks.parquet"
        require_fields(path, ["task_index"])
        table = pq.read_table(path)
        texts = next((n for n in table.column_names if pa.types.is_string(table[n].type)), None)
        if texts is None:
            raise ValueError(f"{path}: no field holds the tasks' text")
        return dict(zip(table["task_index"].to_pylist(), table[texts].to_pylist(), strict=True))

    def _entries(self, path: Path) -> Iterator[ForeignEntry]:
        videos = [f"videos/{self.layout.cameras[name].field}" for name in self.cameras]
        places = [f"{v}/{k}" for v in videos for k in ("chunk_index", "file_index", "from_timestamp")]
        wanted = ["episode_index", "length", "data/chunk_index", "data/file_index", *places]
        require_fields(path, wanted)
        for row in pq.read_table(path, columns=wanted).to_pylist():
            if row["length"] >= self.every:
                yield ForeignEntry(row["episode_index"], row["length"] // self.every, row)

    def _check_signs(self) -> None:
        """Refuse a layout by which the car steers one way and turns the other, or whose pedals are out of range."""
        agree = turning = 0
        for index in range(min(20, len(self.episodes))):
            found, path = self._numbers(index)
            for name, low in (("steering", -1.0), ("throttle", 0.0), ("brake", 0.0)):
                if found[name].min() < low - 0.05 or found[name].max() > 1.05:
                    spans = f"spans {found[name].min():.3g} to {found[name].max():.3g}"
                    raise ValueError(
                        f"{path}: field {self._told(name)} {spans}: give a factor to [{low:g}, 1] for {name}"
                    )
            if np.abs(found["speed"]).max() > 90.0:
                fastest = np.abs(found["speed"]).max()
                raise ValueError(
                    f"{path}: field {self._told('speed')} reaches {fastest:.3g} m/s: give its factor to m/s"
                )
            clear = (found["speed"] > 3.0) & (np.abs(found["yaw_rate"]) > 0.08) & (np.abs(found["steering"]) > 0.02)
            turning += int(clear.sum())
            agree += int((np.sign(found["yaw_rate"]) == np.sign(found["steering"]))[clear].sum())
        if turning >= 20 and agree < 0.3 * turning:
            turned = self._told("heading" if self.layout.heading is not None else "yaw_rate")
            raise ValueError(
                f"{self.info_path}: field {self._told('steering')} points the other way than {turned} turns in "
                f"{turning - agree} of {turning} frames: one of the two factors has the wrong sign"
            )

    def _told(self, name: str) -> str:
        field, index = self.channels[name]
        return f"{field}[{index}]"

    # ------------------------------------------------------------------ reading

    def _rows(self, index: int) -> tuple[pa.Table, Path]:
        entry = self.episodes[index]
        path = self.root / self.info["data_path"].format(
            chunk_index=entry.row["data/chunk_index"], file_index=entry.row["data/file_index"]
        )
        if not path.exists():
            raise ValueError(f"{path} is missing: the data set is incomplete")
        fields = {field for field, _ in self.channels.values()} | {self.layout.sentence}
        require_fields(path, [*fields, "episode_index"])
        table = _read(path, (*sorted(fields), "episode_index"))
        numbers = table["episode_index"].to_numpy()
        rows = np.flatnonzero(numbers == entry.number)
        if len(rows) != entry.row["length"]:
            meant = f"{len(rows)} rows of episode {entry.number}, meta/episodes says {entry.row['length']}"
            raise ValueError(f"{path}: field episode_index has {meant}")
        return table.slice(rows[0], len(rows)), path

    def _numbers(self, index: int) -> tuple[dict[str, Float[np.ndarray, " T"]], Path]:
        """Return every channel of an episode at the set's own rate, in our units and signs."""
        table, path = self._rows(index)
        found: dict[str, np.ndarray] = {}
        for name, (field, element) in self.channels.items():
            column = table[field].combine_chunks()
            wide = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
            values = column.flatten() if wide else column
            numbers = np.asarray(values.to_numpy(zero_copy_only=False), float).reshape(len(table), -1)[:, element]
            if not np.isfinite(numbers).all():
                raise ValueError(
                    f"{path}: field {field}[{element}] of episode {self.episodes[index].number} is not finite"
                )
            channel = getattr(self.layout, name)
            found[name] = numbers * channel.factor if isinstance(channel, Channel) else numbers
        if "heading" in found:
            found["yaw_rate"] = (
                np.gradient(np.unwrap(found.pop("heading"))) * self.fps if len(table) > 1 else np.zeros(1)
            )
        if "acceleration" not in found:
            found["acceleration"] = np.gradient(found["speed"]) * self.fps if len(table) > 1 else np.zeros(1)
        return found, path

    def _sentences(self, index: int) -> list[str]:
        column = self._rows(index)[0][self.layout.sentence].to_pylist()
        return [self.tasks[number] if self.tasks else (number or "") for number in column]

    def read_episode(self, index: int) -> Episode:
        """Read one recording as an episode of ours."""
        entry = self.episodes[index]
        found, _ = self._numbers(index)
        count, every, dt = entry.frames, self.every, 1.0 / DECISIONS_A_SECOND
        # What was done until the next decision is one act: its mean.
        held = {n: v[: count * every].reshape(count, every).mean(1) for n, v in found.items()}
        now = {n: v[: count * every : every] for n, v in found.items()}
        act = np.stack([held["steering"], held["throttle"], held["brake"]], 1).clip((-1, 0, 0), 1).astype(np.float32)
        pose = _dead_reckoned(found["speed"], found["yaw_rate"], self.fps)
        said, which = _told_apart(self._sentences(index)[: count * every : every])
        ahead = np.minimum(np.arange(count)[:, None] + np.arange(FUTURE_STEPS), count - 1)
        reason = np.full((count, 3), -1)
        if self.layout.turn_signal is not None:
            reason[:, 0] = _decisions(now["turn_signal"], pose[::every, 2][:count], self.layout.turn_signal)
        f32 = np.float32
        speed, yaw_rate, steering = (now[n].astype(f32) for n in ("speed", "yaw_rate", "steering"))
        later = np.full(count, np.nan, f32)
        later[:-DECISIONS_A_SECOND] = speed[DECISIONS_A_SECOND:]
        nothing, never = np.zeros(count, f32), np.full(count, np.nan, f32)
        return Episode(
            scenario="recorded", seed=entry.number, driver="human", dt=dt, map_id="", weather=Weather(),
            rig=self.rig.name, ended="aborted",
            instructions=[InstructionRecord(step=k, sentence=s, intent=UNREAD, deadline_s=np.inf) for k, s in said],
            time_s=np.arange(count) * dt,
            pose=pose[::every][:count],
            motion=np.stack([speed, yaw_rate, now["acceleration"], speed * yaw_rate, steering], 1).astype(f32),
            instruction_index=which,
            act=act[ahead], reason=reason, actuation=act, disturbed=np.zeros(count, bool),
            verdict=np.zeros(count, np.int64), verdict_why=[""] * count,
            expert_act=act, expert_reason=reason,
            expert_plan=_paths(pose)[::every][:count],
            expert_speed=later,
            affordances=np.full((count, len(AFFORDANCES)), np.nan, f32),
            events=np.zeros(count, np.int64), route_completion=nothing, lane_offset=never,
            time_to_collision=np.full(count, np.inf, f32),
            ego_observed=_measured(now, which, dt),
            cameras={name: self._images(entry, name) for name in self.cameras},
        )  # fmt: skip

    def _images(self, entry: ForeignEntry, name: str) -> UInt8[np.ndarray, "T H W 3"]:
        """Decode one camera at our rate."""
        key = self.layout.cameras[name].field
        place = {k: entry.row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
        path = self.root / self.info["video_path"].format(video_key=key, **place)
        start, camera, lens = entry.row[f"videos/{key}/from_timestamp"], self.cameras[name], self.lenses[name]
        images = np.zeros((entry.frames, camera.height, camera.width, 3), np.uint8)
        if not path.exists():
            raise ValueError(f"{path} is missing: the data set is incomplete")
        wanted = 0
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                if start > 0 and stream.time_base is not None:
                    container.seek(int(start / stream.time_base), stream=stream)
                for frame in container.decode(stream):
                    at = round((frame.time - start) * self.fps)
                    if at == wanted * self.every:
                        images[wanted] = lens(frame)
                        wanted += 1
                    if wanted == entry.frames:
                        return images
        except av.FFmpegError as error:
            raise ValueError(f"{path}: cannot be decoded in episode {entry.number} ({error}): it is damaged") from None
        raise ValueError(
            f"{path}: ends {entry.frames - wanted} frames before episode {entry.number} does: it is truncated"
        )


def opened(folder: Path, layout: str | None, rig: RigConfig) -> Dataset | ForeignSet:
    """Return a set of ours, or one made elsewhere whose fields mean what a layout says."""
    if layout is None or is_ours(folder):
        return Dataset(folder)
    return ForeignSet(folder, find_layout(layout), rig)


_CHANNELS = ("speed", "heading", "yaw_rate", "acceleration", "steering", "throttle", "brake", "turn_signal")


@lru_cache(4)
def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Read a file once for all its episodes."""
    return pq.read_table(path, columns=list(columns))


def _dead_reckoned(
    speed: Float[np.ndarray, " T"], yaw_rate: Float[np.ndarray, " T"], fps: int
) -> Float[np.ndarray, "T 3"]:
    """Return x, y, yaw from where the recording begins."""
    yaw = np.concatenate([[0.0], np.cumsum(yaw_rate[:-1])]) / fps
    middle = yaw + yaw_rate / fps / 2
    step = np.stack([speed * np.cos(middle), speed * np.sin(middle)], 1)[:-1] / fps
    return np.column_stack([np.concatenate([np.zeros((1, 2)), np.cumsum(step, 0)]), yaw])


def _paths(pose: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T P 2"]:
    """Return the path driven from every frame on, at PLAN_DISTANCES, ego frame; NaN past the recording's end."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(pose[:, :2], axis=0).T))])
    at = way[:, None] + np.array(PLAN_DISTANCES)
    there = np.stack([np.interp(at, way, pose[:, k]) for k in (0, 1)], -1) - pose[:, None, :2]
    c, s = np.cos(pose[:, 2])[:, None], np.sin(pose[:, 2])[:, None]
    turned = np.stack([there[..., 0] * c + there[..., 1] * s, there[..., 1] * c - there[..., 0] * s], -1)
    turned[at > way[-1]] = np.nan
    return turned.astype(np.float32)


def _told_apart(sentences: list[str]) -> tuple[list[tuple[int, str]], Int[np.ndarray, " T"]]:
    """Return each sentence with the decision it comes at, and which is in force."""
    said: list[tuple[int, str]] = []
    which = []
    for k, sentence in enumerate(sentences):
        if not said or said[-1][1] != sentence:
            said.append((k, sentence))
        which.append(len(said) - 1)
    return said, np.array(which)


def _decisions(
    signal: Float[np.ndarray, " T"], yaw: Float[np.ndarray, " T"], meaning: Indicator
) -> Int[np.ndarray, " T"]:
    """Return what the driver who signals is about to do; -1 where nothing is signalled."""
    ahead = np.minimum(np.arange(len(yaw)) + int(AHEAD_S * DECISIONS_A_SECOND), len(yaw) - 1)
    turned = yaw[ahead] - yaw
    found = np.full(len(yaw), -1)
    for value, sign, side in ((meaning.left, 1.0, "left"), (meaning.right, -1.0, "right")):
        on = signal == value
        found[on] = DECISIONS.index(f"change_{side}")
        found[on & (sign * turned > TURN)] = DECISIONS.index(f"turn_{side}")
    return found


def _measured(
    now: dict[str, Float[np.ndarray, " T"]], which: Int[np.ndarray, " T"], dt: float
) -> Float[np.ndarray, "T 7"]:
    """Return what the ego measures, in the order of EGO_FIELDS; odometry begins anew with each sentence."""
    travelled = np.concatenate([[0.0], np.cumsum(now["speed"][:-1] * dt)])
    turned = np.concatenate([[0.0], np.cumsum(now["yaw_rate"][:-1] * dt)])
    stood = np.concatenate([[0.0], np.cumsum((np.abs(now["speed"][:-1]) < 0.3) * dt)])
    first = np.searchsorted(which, which)
    since = [v - v[first] for v in (travelled, turned, stood)]
    rows = [now["speed"], now["yaw_rate"], now["steering"], now["acceleration"], *since]
    return np.stack(rows, 1).astype(np.float32)
