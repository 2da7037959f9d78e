"""Shared by tests: a driving set in the layout of yaak-ai's L2D, made of simple drives whose every number is known."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CAMERAS = ("front_left", "left_forward", "right_forward", "left_backward", "right_backward", "rear", "map")
STATE = ("speed", "heading", "heading_error", "hp_loc_latitude", "hp_loc_longitude", "hp_loc_altitude",
         "acceleration_x", "acceleration_y")  # fmt: skip
PEDALS = ("gas_pedal_normalized", "brake_pedal_normalized", "steering_angle_normalized")
FPS, FRAMES, SIZE = 10, 121, (72, 128)
SENTENCES = (
    "When you have the right of way, take the second exit from the roundabout",
    "Turn left at the junction, then give way to the tram",
)


def drive(number: int) -> dict[str, np.ndarray | list[str]]:
    """Return a drive: straight on at 36 km/h, a turn by 93 degrees (left if even, right if odd), then a stop."""
    side = 1.0 if number % 2 == 0 else -1.0
    frame = np.arange(FRAMES)
    turning = (frame >= 40) & (frame < 71)
    speed = np.where(frame < 90, 36.0, np.maximum(36.0 - 1.8 * (frame - 89), 0.0))
    heading = (350.0 - np.cumsum(np.where(turning, side * 3.0, 0.0))) % 360.0
    state = np.zeros((FRAMES, 8), np.float32)
    state[:, 0], state[:, 1] = speed, heading
    state[:, 6] = np.gradient(speed / 3.6) * FPS
    pedals = np.zeros((FRAMES, 3), np.float32)
    pedals[:, 0] = np.where(frame < 90, 0.2, 0.0)
    pedals[:, 1] = np.where((frame >= 90) & (speed > 0), 0.5, 0.0)
    pedals[:, 2] = np.where(turning, side * 0.4, 0.0)
    signal = np.where((frame >= 20) & (frame < 71), 1 if side > 0 else 2, 0)
    said = [SENTENCES[number % 2] if k < 90 else "Stop at the kerb" for k in range(FRAMES)]
    return {
        "observation.state.vehicle": state,
        "action.continuous": pedals,
        "action.discrete": np.stack([np.full(FRAMES, 3), signal], 1).astype(np.int32),
        "task.instructions": said,
        "task.policy": ["expert"] * FRAMES,
    }


def picture(number: int, frame: int, camera: int) -> np.ndarray:
    """Return an image that tells which it is: red the frame, green the episode, blue the camera; the top is white."""
    image = np.empty((*SIZE, 3), np.uint8)
    image[:] = (20 + 2 * min(frame, 110), 40 + 60 * number, 30 * camera)
    image[:8] = 255
    return image


def made_set(root: Path, episodes: int = 3, codec: str = "libx264", **changes: object) -> Path:
    """Write the set; `changes` to `info.json` spoil it."""
    features = {
        "observation.state.vehicle": {"dtype": "float32", "shape": [8], "names": {"axes": list(STATE)}},
        "action.continuous": {"dtype": "float32", "shape": [3], "names": {"axes": list(PEDALS)}},
        "action.discrete": {"dtype": "int32", "shape": [2], "names": {"axes": ["gear", "turn_signal"]}},
        "task.instructions": {"dtype": "string", "shape": [1], "names": None},
        "task.policy": {"dtype": "string", "shape": [1], "names": None},
        **{f"observation.images.{c}": {"dtype": "video", "shape": [3, *SIZE], "names": ["channel", "height", "width"]}
           for c in CAMERAS},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{n: {"dtype": "int64", "shape": [1], "names": None}
           for n in ("frame_index", "episode_index", "index", "task_index")},
    }  # fmt: skip
    info = {
        "codebase_version": "v3.0", "robot_type": "KIA Niro EV 2023", "total_episodes": episodes, "fps": FPS,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }  # fmt: skip
    drives = [drive(number) for number in range(episodes)]
    columns: dict[str, pa.Array] = {}
    for name in drives[0]:
        if isinstance(drives[0][name], list):
            columns[name] = pa.array([text for one in drives for text in one[name]])
        else:
            columns[name] = pa.array(np.concatenate([one[name] for one in drives]).tolist(),
                                     pa.list_(pa.float32() if "discrete" not in name else pa.int32()))  # fmt: skip
    frames = np.tile(np.arange(FRAMES), episodes)
    columns["episode_index"] = pa.array(np.repeat(np.arange(episodes), FRAMES))
    columns["frame_index"], columns["timestamp"] = pa.array(frames), pa.array((frames / FPS).astype(np.float32))
    columns["task_index"] = pa.array(np.zeros(len(frames), np.int64))
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    pq.write_table(pa.table(columns), root / "data/chunk-000/file-000.parquet")
    rows = []
    for number in range(episodes):
        place = {"chunk_index": 0, "file_index": 0}
        row = {"episode_index": number, "length": FRAMES, **{f"data/{k}": v for k, v in place.items()}}
        for camera in CAMERAS:
            key = f"videos/observation.images.{camera}"
            row |= {f"{key}/{k}": v for k, v in place.items()}
            row |= {f"{key}/from_timestamp": number * FRAMES / FPS, f"{key}/to_timestamp": (number + 1) * FRAMES / FPS}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    tasks = {"task_index": [0], "__index_level_0__": ["Follow the waypoints while adhering to traffic rules"]}
    pq.write_table(pa.table(tasks), root / "meta/tasks.parquet")
    for index, camera in enumerate(CAMERAS):
        write_video(root / f"videos/observation.images.{camera}/chunk-000/file-000.mp4", episodes, index, codec)
    (root / "meta/info.json").write_text(json.dumps(info | changes))
    return root


def write_video(path: Path, episodes: int, camera: int, codec: str) -> None:
    """Encode all episodes of a camera into one file, with B-frames, as LeRobot does."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=FPS, options={"crf": "18", "preset": "10" if "av1" in codec else "fast"}
        )
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number in range(episodes):
            for frame in range(FRAMES):
                image = av.VideoFrame.from_ndarray(picture(number, frame, camera), format="rgb24")
                image.pts = number * FRAMES + frame
                container.mux(stream.encode(image))
        container.mux(stream.encode())
