"""A small share of what `drivebyword bench fuzz`, `soak` and `repeats` run whole: nonsense, and the same again."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.rig import CameraConfig, LidarConfig, RadarConfig, RigConfig, Weather
from drivebyword.world.env import DrivingEnv
from drivebyword.world.roads import TownConfig
from drivebyword.world.scenario import Scenario
from drivebyword.world.vector import make_worlds

ROOT = Path(__file__).parent.parent
CAMERA = CameraConfig(name="front", width=32, height=16, fov_deg=90.0)
NOTHING = float("nan")


def bench(what: str, share: float, tmp_path: Path) -> dict:
    """Run a bench as a person does, in a process of its own; return its rows."""
    command = "import sys; from drivebyword.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "bench", what, "--share", str(share), "--out", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    report = json.loads((tmp_path / f"{what}.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr + str(report.get("crashes"))
    assert report["command"].startswith(f"drivebyword bench {what}")
    return report["rows"]


@pytest.mark.slow
def test_nonsense_is_refused_or_works_and_never_crashes(tmp_path):
    rows = bench("fuzz", 0.02, tmp_path)
    assert rows["crashes"]["value"] == rows["hangs"]["value"] == 0
    assert rows["fuzzed actions"]["value"] == 2000 and rows["fuzzed parameters"]["value"] == 20
    assert rows["actions: refused"]["value"] > 200 and rows["parameters: taken"]["value"] > 0


@pytest.mark.slow
def test_the_same_scenes_give_the_same_bytes_in_three_processes_and_after_other_scenes(tmp_path):
    rows = bench("repeats", 0.1, tmp_path)
    assert rows["distinct digests"]["value"] == rows["scenes"]["value"] == 5


@pytest.mark.parametrize(
    ("config", "wrong", "says"),
    [
        (Weather(), {"night": NOTHING}, "Weather.night"),
        (Weather(), {"fog_visibility": 0.0}, "Weather.fog_visibility"),
        (CAMERA, {"width": 0}, "CameraConfig.width"),
        (CAMERA, {"fov_deg": float("inf")}, "CameraConfig.fov_deg"),
        (CAMERA, {"name": "../front"}, "one plain word"),
        (LidarConfig(columns=8, beams=2), {"elevation_min_deg": 10.0}, "elevation_max_deg"),
        (RadarConfig(columns=8, rows=2, detections=4), {"detections": -1}, "RadarConfig.detections"),
        (
            RigConfig(name="rig", cameras=(CAMERA,), lidar=None, radar=None),
            {"cameras": (CAMERA, CAMERA)},
            "a name each",
        ),
        (CarConfig(), {"mass": 0.0}, "CarConfig.mass"),
        (CarConfig(), {"rear_overhang": 3.0}, "CarConfig.rear_overhang"),
        (TownConfig(), {"size": 500}, "TownConfig.size"),
        (TownConfig(), {"bend": NOTHING}, "TownConfig.bend"),
        (TownConfig(), {"seed": -1}, "TownConfig.seed"),
        (Scenario(name="x"), {"vehicles": (5, 2)}, "Scenario.vehicles"),
        (Scenario(name="x"), {"conditions": (1.0, 1.0, 0.0)}, "add up to 1"),
        (Scenario(name="x"), {"night": (0.0, NOTHING)}, "Scenario.night"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line_that_names_it(config, wrong, says):
    with pytest.raises(ValueError, match=says) as error:
        replace(config, **wrong)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def env():
    return DrivingEnv(render_sensors=False)


@pytest.mark.parametrize(
    "action",
    [
        [NOTHING, 0, 0],
        [0, float("inf"), 0],
        [0, 0],
        [[0, 0, 0]],
        ["a", 0, 0],
        [1j, 0, 0],
        None,
        "abc",
        {},
        [2**2000, 0, 0],
    ],
)
def test_an_action_that_is_none_is_refused_and_the_car_stays_where_it_is(env, action):
    env.reset(seed=4)
    env.step([0.0, 1.0, 0.0])
    before = env.pose()
    with pytest.raises(ValueError, match="three finite numbers") as error:
        env.step(action)
    assert "\n" not in str(error.value) and np.array_equal(env.pose(), before)
    *_, info = env.step([0.0, 1.0, 0.0])
    assert info["snapshot"]["time_s"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seed", "options", "says"),
    [
        (-1, {}, "seed -1"),
        (2**31, {}, "seed 2147483648"),
        (3, {"scenario": "twon"}, "did you mean town"),
        (3, {"scenario": 7}, "name or a Scenario"),
        (3, {"weather": "fog"}, "must be a Weather"),
        (3, {"instruction": ("go", "fly")}, "intent"),
        (3, {"instruction": "x" * 513}, "512 bytes"),
        (3, {"until_s": NOTHING}, "until_s"),
        (3, {"wording": "best"}, "wording"),
        (3, {"wether": Weather()}, "unknown option"),
    ],
)
def test_a_reset_asked_for_nonsense_is_refused_and_the_scene_goes_on(env, seed, options, says):
    env.reset(seed=4)
    with pytest.raises(ValueError, match=says):
        env.reset(seed=seed, options=options)
    *_, info = env.step([0.0, 1.0, 0.0])
    assert info["ended"] is None


def test_wild_but_finite_actions_are_clipped(env):
    def driven(action):
        env.reset(seed=4)
        for _ in range(5):
            env.step(action)
        return env.pose().tobytes()

    assert driven([0.0, 1e300, -1e300]) == driven([0.0, 1.0, 0.0])


def test_worlds_closed_leave_no_process_no_file_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    files = []
    for _ in range(2):
        made = make_worlds(2, render_sensors=False)
        made.reset(seed=1)
        assert len(list(tmp_path.glob("drivebyword-*"))) == 2
        pids = [process.pid for process in made.processes]
        made.close()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        del made
        gc.collect()
        files.append(len(list(Path("/proc/self/fd").iterdir())))
    assert not list(tmp_path.glob("drivebyword-*"))
    assert files[0] == files[1]  # the first starts multiprocessing's own helpers
