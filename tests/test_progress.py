"""What one sees of a run: every loss on a terminal, success with its interval, time left; what trackers are told."""

import io
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from drivebyword.core.rates import wilson
from drivebyword.data.files import write_json
from drivebyword.train.drives import Collected
from drivebyword.train.log import TrainLog
from drivebyword.train.progress import Progress
from drivebyword.train.state import RunState
from drivebyword.train.trackers import require_trackers

LOSSES = {"loss": 3.25, "act": 1.5, "reason": 0.5, "reward_progress": 0.875}


def learn(log: TrainLog, steps: int, begin: int = 0) -> None:
    for step in range(begin, steps):
        state = RunState(step=step + 1, decisions=32 * (step + 1), seconds=float(step))
        log.step(state, steps, {name: value + step for name, value in LOSSES.items()}, 1e-3, 2.0)


def shown(terminal: bool) -> str:
    progress = Progress(True, 400, Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None))
    progress.success["validation"] = wilson(18, 20)
    row = {"step": 40, "decisions": 1280, "seconds": 12.0, **LOSSES, "learning_rate": 1e-3}
    progress.row(row | {"decisions_per_s": 105.0, "frames_per_s": 61.0, "left_s": 1800})
    progress.say("drove 20 scenes")
    progress.rest()
    return progress.console.file.getvalue()


def test_a_terminal_shows_every_part_of_the_loss_success_with_its_interval_speeds_and_time_left():
    table = shown(terminal=True)
    for part in ("loss", "3.2500", "reward progress", "0.8750", "success, validation", "18/20 = 90 % [70, 97]"):
        assert part in table
    for part in ("105 samples/s", "61 frames/s", "step 40 of 400, 30 min of steps left", "drove 20 scenes"):
        assert part in table


def test_elsewhere_a_row_is_one_line():
    lines = shown(terminal=False).splitlines()
    assert lines == [
        "step 40/400  loss 3.250  act 1.500  validation 18/20 = 90 % [70, 97]  105 samples/s  61 frames/s  30 min left",
        "drove 20 scenes",
    ]


def test_json_lines_are_written_whatever_the_trackers_and_resumed_steps_only_once(tmp_path: Path):
    log = TrainLog(tmp_path, 0, 60, False)
    learn(log, 60)
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert rows[0]["act"] == pytest.approx(1.5 + 9.5) and rows[-1]["left_s"] == 0
    TrainLog(tmp_path, 40, 60, False).close()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [20, 40]


def test_tensorboard_is_told_every_number_and_success(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TrainLog(tmp_path, 0, 40, False, ("tensorboard",))
    log.progress.success["validation"] = wilson(3, 4)
    learn(log, 40)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("reward_progress")] == [(20, 10.375), (40, 30.375)]
    assert events.Scalars("success_validation")[0].value == 0.75


TRACKED = """
import sys
from pathlib import Path
from drivebyword.train.trackers import open_trackers

(tracker,) = open_trackers(("trackio",), Path(sys.argv[1]), 0)
tracker.log({"loss": 2.5}, step=20)
tracker.finish()
"""


def test_trackio_keeps_a_run_on_this_disk(tmp_path: Path):
    pytest.importorskip("trackio")
    kept = tmp_path / "kept"
    # It reads where to keep runs as it is imported: a process of its own.
    environment = {**os.environ, "TRACKIO_DIR": str(kept)}
    subprocess.run([sys.executable, "-c", TRACKED, str(tmp_path / "run")], check=True, env=environment, timeout=300)
    found = []
    for path in kept.glob("*.db"):
        with sqlite3.connect(path) as opened:
            found += opened.execute("select run_name, step, metrics from metrics").fetchall()
    assert [(name, step, json.loads(metrics)["loss"]) for name, step, metrics in found] == [("run", 20, 2.5)]


def test_an_unknown_tracker_and_one_that_is_not_installed_are_one_line(monkeypatch):
    with pytest.raises(ValueError, match="no tracker 'tensorbord': choose from tensorboard, trackio, wandb"):
        require_trackers(("tensorbord",))
    monkeypatch.setattr("drivebyword.train.trackers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"tracker wandb is not installed: pip install 'drivebyword\[trackers\]'"):
        require_trackers(("wandb",))


def test_a_scene_that_failed_is_in_the_curves_denominator(tmp_path: Path):
    write_json(tmp_path / "driver" / "at.json", {"decisions": 5, "minutes": 1.0})
    log = TrainLog(tmp_path, 0, 10, False)
    driven = Collected(scenes=7, frames=700, failed=("seed 1: lost",), seconds=10.0, ended={"arrived": 7}, successes=6)
    log.point(tmp_path / "driver", driven, rescued=False)
    log.validated(tmp_path / "driver", wilson(3, 4))
    point = json.loads((tmp_path / "curve.jsonl").read_text())
    assert (point["successes"], point["scenes"], point["failed"]) == (6, 8, 1)
    assert log.frames_per_s == 70.0 and log.progress.success["rollouts"].n == 8
    assert json.loads((tmp_path / "validation.jsonl").read_text())["high"] == pytest.approx(0.9544, abs=1e-3)
