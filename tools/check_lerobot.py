"""A data set of ours in, LeRobot's own loader over every frame of it, one line out.

    python tools/check_lerobot.py [FOLDER]

Without FOLDER, two short scenes are driven first. LeRobot's data package (`lerobot-dataset`) pins old
versions, so it lives in `.venv-lerobot`, made here when missing. There it meets two obstacles on machines
without a GPU, both stepped over in `_open_with_lerobot` and `_make_environment`, outside our package:
torchvision's wheel wants CUDA operators, and torchcodec wants FFmpeg's libraries, which PyAV's wheel has.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-lerobot"
# torchcodec 0.13 and torchvision 0.28 are the ones made for torch 2.13.
PACKAGES = ("torch==2.13.0", "lerobot-dataset==0.4.4")
WITHOUT_DEPENDENCIES = ("torchvision==0.28.0", "torchcodec==0.13.*")
COMPARED = ("observation.state", "action", "expert.plan", "observation.lidar", "observation.radar", "events")


def main() -> int:
    """Check one folder; 0 if every frame came back equal."""
    parser = argparse.ArgumentParser(description="Open a data set of ours with LeRobot's own loader.")
    parser.add_argument("folder", nargs="?", type=Path, help="data set; without it two scenes are driven")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return _open_with_lerobot(options.folder, options.inside)
    _make_environment()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or _record(Path(scratch) / "dataset")
        expected = Path(scratch) / "expected.npz"
        try:
            _write_expected(folder, expected)
        except ValueError as error:
            print(f"check-lerobot: {error}", file=sys.stderr)
            return 2
        return subprocess.run(
            [ENVIRONMENT / "bin" / "python", __file__, str(folder.resolve()), "--inside", str(expected)],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(ENVIRONMENT / "ffmpeg"),
                "HF_HUB_OFFLINE": "1",
                "HF_HOME": scratch,
            },
            check=False,
        ).returncode


def _make_environment() -> None:
    """Make `.venv-lerobot` once; a half-made one is completed."""
    stamp = ENVIRONMENT / ".ready"
    if stamp.exists():
        return
    print(f"check-lerobot: installing LeRobot's loader into {ENVIRONMENT} (minutes, once)", flush=True)
    venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *PACKAGES], check=True)
    subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES], check=True)
    libraries = next(ENVIRONMENT.glob("lib/python*/site-packages/av.libs"))
    links = ENVIRONMENT / "ffmpeg"
    links.mkdir(exist_ok=True)
    for library in libraries.iterdir():
        # libavcodec-7ee0753d.so.61.19.101 is what others know as libavcodec.so.61.
        plain = re.sub(r"^(lib(?:av|sw)\w+)-[0-9a-f]+\.so\.(\d+)\..*$", r"\1.so.\2", library.name)
        for name in {plain, library.name}:
            (links / name).unlink(missing_ok=True)
            (links / name).symlink_to(library)
    stamp.touch()


def _record(folder: Path) -> Path:
    """Drive two short scenes with the expert."""
    from drivebyword.train.collect import CollectConfig, collect
    from drivebyword.world.rigs import tiny

    collected = collect(CollectConfig(out=folder, seeds=(0, 2), processes=2), tiny())
    print(f"check-lerobot: drove {collected.scenes} scenes, {collected.frames} frames", flush=True)
    return folder


def _write_expected(folder: Path, path: Path) -> None:
    """Read the set with our own reader, for comparison."""
    import numpy as np

    from drivebyword.data.dataset import Dataset, parts
    from drivebyword.data.episode import camera_names

    if parts(folder):
        raise ValueError(f"{folder} has {len(parts(folder))} episodes not merged yet: finish collecting first")
    dataset = Dataset(folder)
    columns = dataset.load_columns([name for name in COMPARED if name in dataset.shapes])
    index = dataset.load_columns(["instruction_index"])["instruction_index"]
    tasks = []
    for entry, start in zip(dataset.episodes, dataset.starts):
        sentences = [i["sentence"] for i in entry.record["instructions"]]
        tasks += [sentences[i] for i in index[start : start + entry.frames]]
    images = {f"images/{name}": dataset.load_frames(name) for name in camera_names(dataset.shapes)}
    np.savez(path, episodes=len(dataset.episodes), tasks=json.dumps(tasks), **columns, **images)


def _open_with_lerobot(folder: Path, path: Path) -> int:
    """Read every frame with LeRobot's loader and compare. Runs inside `.venv-lerobot`."""
    _let_torchvision_import()
    import numpy as np
    from ledataset.datasets.lerobot_dataset import LeRobotDataset

    started = time.monotonic()
    expected = np.load(path)
    tasks = json.loads(str(expected["tasks"]))
    dataset = LeRobotDataset("drivebyword/check", root=folder, video_backend="torchcodec")
    wrong: list[str] = []
    if (dataset.num_frames, dataset.num_episodes) != (len(tasks), int(expected["episodes"])):
        wrong.append(f"counts {dataset.num_frames} frames, {dataset.num_episodes} episodes")
    columns = {name: expected[name] for name in expected.files if name not in ("episodes", "tasks")}
    largest = 0.0
    for row in range(min(len(dataset), len(tasks))):
        frame = dataset[row]
        if frame["task"] != tasks[row]:
            wrong.append(f"frame {row} task {frame['task']!r}")
        for name, values in columns.items():
            if name.startswith("images/"):
                found = frame[f"observation.images.{name[7:]}"].permute(1, 2, 0).numpy() * 255.0
                largest = max(largest, float(np.abs(found - values[row]).mean()))
            elif not np.array_equal(frame[name].numpy().ravel(), values[row].ravel(), equal_nan=True):
                wrong.append(f"frame {row} column {name}")
    if largest > 2.0:
        wrong.append(f"images differ by {largest:.1f} of 255")
    if wrong:
        print(f"check-lerobot: FAILED on {folder}: {len(wrong)} differences, first: {wrong[0]}", file=sys.stderr)
        return 1
    cameras = sum(name.startswith("images/") for name in columns)
    print(
        f"check-lerobot: ok: LeRobot's loader read {len(dataset)} of {len(tasks)} frames, {dataset.num_episodes} "
        f"episodes, {cameras} cameras (mean difference at most {largest:.2f} of 255), {len(set(tasks))} sentences, "
        f"{len(columns) - cameras} columns equal, in {time.monotonic() - started:.1f} s"
    )
    return 0


def _let_torchvision_import() -> None:
    """Declare the operators that torchvision's CUDA library would bring; none of them is called here."""
    import importlib.util

    import torch

    package = importlib.util.find_spec("torchvision").submodule_search_locations[0]
    source = (Path(package) / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in re.findall(r'(?:register_meta\("|register_fake\("torchvision::)(\w+)"', source):
        library.define(f"{name}() -> ()")
    _let_torchvision_import.kept = library  # its operators vanish with it


if __name__ == "__main__":
    sys.exit(main())
