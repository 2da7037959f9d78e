"""An Episode's fields in, named parquet columns out, and back: the ONE place that knows our column names.

Vectors and arrays are stored flat, one fixed-size list per frame, so that any parquet reader opens them;
their true shapes are kept in `shapes`. Camera images are not columns: they live in video files.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.exploration import Exploration, ExplorationConfig
from drivebyword.core.faults import FaultConfig
from drivebyword.core.records import AFFORDANCES, EGO_FIELDS, PLAN_DISTANCES, Episode, InstructionRecord
from drivebyword.core.rig import Weather

IMAGE_PREFIX = "observation.images."
SCHEMA_VERSION = 2
"""Raised when a column changes its meaning; older sets are then refused by name."""


@dataclass(frozen=True, slots=True)
class Column:
    """How one field of Episode is stored."""

    name: str
    field: str
    dtype: str
    names: tuple[str, ...] = ()
    """Names of the elements; without them elements are numbered."""
    optional: bool = False


_ACTUATION = ("steering", "throttle", "brake")
_REASON = ("decision", "cause", "relation")
COLUMNS = (
    Column("observation.state", "ego_observed", "float32", EGO_FIELDS),
    Column("observation.lidar", "lidar", "float32", optional=True),
    Column("observation.radar", "radar", "float32", optional=True),
    Column("observation.radar_valid", "radar_valid", "bool", optional=True),
    Column("action", "actuation", "float32", _ACTUATION),
    Column("act", "act", "float32"),
    Column("reason", "reason", "int32", _REASON),
    Column("verdict", "verdict", "int32"),
    Column("verdict_why", "verdict_why", "string"),
    Column("disturbed", "disturbed", "bool"),
    Column("log_prob", "log_prob", "float32", optional=True),
    Column("passed", "passed", "float32", optional=True),
    Column("expert.act", "expert_act", "float32", _ACTUATION),
    Column("expert.reason", "expert_reason", "int32", _REASON),
    Column("expert.plan", "expert_plan", "float32", tuple(f"{a}_{d:g}m" for d in PLAN_DISTANCES for a in "xy")),
    Column("expert.speed", "expert_speed", "float32"),
    Column("expert.affordances", "affordances", "float32", AFFORDANCES),
    Column("events", "events", "int32"),
    Column("route_completion", "route_completion", "float32"),
    Column("lane_offset", "lane_offset", "float32"),
    Column("time_to_collision", "time_to_collision", "float32"),
    Column("pose", "pose", "float64", ("x", "y", "yaw")),
    Column(
        "motion",
        "motion",
        "float32",
        ("speed", "yaw_rate", "longitudinal_acceleration", "lateral_acceleration", "steering"),
    ),
    Column("instruction_index", "instruction_index", "int32"),
    Column("time_s", "time_s", "float64"),
)
_BY_NAME = {column.name: column for column in COLUMNS}


def shapes_of(episode: Episode) -> dict[str, list[int]]:
    """Return the shape of one row of every column present, and of every camera image."""
    shapes = {}
    for column in COLUMNS:
        value = getattr(episode, column.field)
        if value is None and column.optional:
            continue
        shapes[column.name] = list(np.shape(value)[1:])
    for name, images in episode.cameras.items():
        shapes[IMAGE_PREFIX + name] = list(images.shape[1:])
    return shapes


def require_whole(episode: Episode) -> None:
    """Raise one ValueError line if a field is missing, or has another number of rows than `time_s`."""
    frames = len(episode.time_s)
    if frames == 0:
        raise ValueError("an episode without frames cannot be recorded: drive at least one decision")
    values: dict[str, Any] = {column.field: getattr(episode, column.field) for column in COLUMNS}
    values |= {f"cameras[{name!r}]": images for name, images in episode.cameras.items()}
    optional = {column.field for column in COLUMNS if column.optional}
    for name, value in values.items():
        if value is None and name in optional:
            continue
        if value is None or len(value) != frames:
            rows = "nothing" if value is None else f"{len(value)} rows"
            raise ValueError(f"episode field {name} has {rows}, but time_s has {frames}: record every field each step")
    if (episode.radar is None) != (episode.radar_valid is None):
        raise ValueError("episode fields radar and radar_valid must come together")
    index = np.asarray(episode.instruction_index)
    if index.min() < 0 or index.max() >= len(episode.instructions):
        raise ValueError(
            f"episode field instruction_index spans {index.min()}..{index.max()}, "
            f"but there are {len(episode.instructions)} instructions"
        )


def table_of(episode: Episode) -> pa.Table:
    """Return the columns of an episode as an arrow table of T rows, without the cameras."""
    arrays = {}
    for column in COLUMNS:
        value = getattr(episode, column.field)
        if value is not None:
            arrays[column.name] = to_arrow(value, column.dtype)
    return pa.table(arrays)


def to_arrow(value: Any, dtype: str) -> pa.Array:
    """Return a column: scalars as they are, anything wider as fixed-size lists."""
    if dtype == "string":
        return pa.array([str(v) for v in value], pa.string())
    array = np.ascontiguousarray(value, dtype=dtype)
    flat = pa.array(array.reshape(-1))
    if array.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))


def from_arrow(column: pa.ChunkedArray | pa.Array, shape: list[int]) -> Shaped[np.ndarray, "T ..."] | list[str]:
    """Return a column as an array of `shape` per row, or as a list of strings."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_string(whole.type):
        return whole.to_pylist()
    rows = len(whole)
    if pa.types.is_fixed_size_list(whole.type) or pa.types.is_list(whole.type):
        whole = whole.flatten()
    # A copy, so that the array owns writable memory and the file's buffers can go.
    return np.array(whole.to_numpy(zero_copy_only=False)).reshape(rows, *shape)


def episode_record(episode: Episode) -> dict[str, Any]:
    """Return everything of an episode that is not one value per frame, ready for JSON."""
    return {
        "scenario": episode.scenario,
        "seed": int(episode.seed),
        "driver": episode.driver,
        "dt": float(episode.dt),
        "map_id": episode.map_id,
        "rig": episode.rig,
        "ended": episode.ended,
        "weather": asdict(episode.weather),
        "instructions": [_plain(asdict(i)) for i in episode.instructions],
        **({"edge": _plain(asdict(episode.edge))} if episode.edge is not None else {}),
        **({"faults": [asdict(fault) for fault in episode.faults]} if episode.faults else {}),
        **({"exploration": asdict(episode.exploration)} if episode.exploration is not None else {}),
    }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in record.items()}


def build_episode(
    record: dict[str, Any],
    columns: dict[str, Any],
    cameras: dict[str, Shaped[np.ndarray, "T H W 3"]],
) -> Episode:
    """Put an episode together again from its record, its columns and its images."""
    fields = {_BY_NAME[name].field: value for name, value in columns.items() if name in _BY_NAME}
    return Episode(
        **{key: record[key] for key in ("scenario", "seed", "driver", "dt", "map_id", "rig", "ended")},
        weather=Weather(**record["weather"]),
        instructions=[InstructionRecord(**i) for i in record["instructions"]],
        edge=EdgeRecord(**record["edge"]) if record.get("edge") else None,
        faults=tuple(FaultConfig(**fault) for fault in record.get("faults", ())),
        exploration=_exploration(record.get("exploration")),
        cameras=cameras,
        **fields,
    )


def _exploration(record: dict[str, Any] | None) -> Exploration | None:
    return None if record is None else Exploration(**(record | {"config": ExplorationConfig(**record["config"])}))


def features_of(shapes: dict[str, list[int]], fps: int, pixel_format: str) -> dict[str, dict[str, Any]]:
    """Return the `features` entry of LeRobot's info.json."""
    features: dict[str, dict[str, Any]] = {}
    for name, shape in shapes.items():
        if name.startswith(IMAGE_PREFIX):
            features[name] = _video_feature(shape, fps, pixel_format)
            continue
        size = int(np.prod(shape)) if shape else 1
        names = list(_BY_NAME[name].names) or None
        features[name] = {"dtype": _BY_NAME[name].dtype, "shape": [size], "names": names}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return features


def _video_feature(shape: list[int], fps: int, pixel_format: str) -> dict[str, Any]:
    height, width, channels = shape
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": pixel_format,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": shape, "names": ["height", "width", "channels"], "info": info}


def same_shapes(expected: dict[str, list[int]], found: dict[str, list[int]], where: str) -> None:
    """Raise one line that names the first field whose presence or shape differs."""
    for name in [*expected, *(n for n in found if n not in expected)]:
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{where}: field {name} has shape {json.dumps(found.get(name))}, the data set holds "
                f"{json.dumps(expected.get(name))} (null: absent); record with one rig, or into another folder"
            )
