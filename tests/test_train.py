"""Training: a killed run goes on bit-exactly, learns what it is shown, and refuses another run's folder."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from train_small import small

from drivebyword.data.dataset import Dataset
from drivebyword.data.files import read_json, sha256_file
from drivebyword.model.checkpoint import from_pretrained
from drivebyword.presets import tiny
from drivebyword.train.curriculum import CurriculumConfig
from drivebyword.train.loop import learning_rate, train
from drivebyword.train.practice import PracticeConfig
from drivebyword.train.reinforce import ReinforceConfig
from drivebyword.train.rounds import RoundConfig
from drivebyword.train.state import fingerprint

PROGRAM = [sys.executable, str(Path(__file__).with_name("train_small.py"))]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    subprocess.run([*PROGRAM, str(out)], check=True, timeout=500)
    return out


def newest_state(out: Path) -> Path:
    return sorted((out / "states").glob("step-*"))[-1]


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_same_bytes_as_one_left_alone(whole_run: Path, tmp_path: Path):
    out = tmp_path / "killed"
    for wanted in (4, 14):
        process = subprocess.Popen([*PROGRAM, str(out)], start_new_session=True)
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline and process.poll() is None:
            states = list((out / "states").glob("step-*")) if (out / "states").exists() else []
            if any(int(state.name[5:]) >= wanted for state in states):
                break
            time.sleep(0.02)
        assert process.poll() is None, "the run ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*PROGRAM, str(out)], check=True, timeout=500)
    assert newest_state(out).name == newest_state(whole_run).name
    for name in ("state.safetensors",):
        assert sha256_file(newest_state(out) / name) == sha256_file(newest_state(whole_run) / name)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_finished_run_leaves_a_checkpoint_a_log_and_a_learning_curve(whole_run: Path):
    assert (whole_run / "checkpoint" / "manifest.json").exists()
    rows = [json.loads(line) for line in (whole_run / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 20 and rows[-1]["decisions"] == 10 * 4 + 10 * 4 * 2
    curve = [json.loads(line) for line in (whole_run / "curve.jsonl").read_text().splitlines()]
    assert [point["scenes"] for point in curve] == [1]
    assert list((whole_run / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_round_practises_by_lot_and_the_next_learns_from_what_was_earned(whole_run: Path):
    recorded = Dataset(whole_run / "round-0" / "practice")
    assert len({(e.scenario, e.seed) for e in recorded.episodes}) == 2 and len(recorded.episodes) == 4
    episodes = [recorded.read_episode(k) for k in range(4)]
    assert all(len(e) == 40 or e.ended != "aborted" for e in episodes)
    assert all(np.isfinite(e.log_prob).all() and (e.log_prob < 0).all() for e in episodes)
    assert sorted({e.exploration.rollout for e in episodes}) == [0, 1]
    rows = [json.loads(line) for line in (whole_run / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([rows[-1][name] for name in ("gain", "kl", "ratio", "clipped", "practice")]).all()
    spent = read_json(whole_run / "round-0" / "spent.json")
    assert spent["optimiser"] > 0 and spent["worlds and expert"] > 0 and spent["networks"] > 0
    state = read_json(newest_state(whole_run) / "state.json")["state"]
    # Two scenes of practice, then one that it drove alone.
    assert state["curriculum"]["tries"] == {"town-mixed": pytest.approx(0.7 * 2.0 + 1.0)}


@pytest.mark.slow
def test_a_folder_with_another_configuration_is_refused(whole_run: Path):
    other = dataclasses.replace(small(), learning_rate=5e-4)
    with pytest.raises(ValueError, match="another configuration"):
        train(other, whole_run, show_progress=False)


@pytest.mark.slow
def test_a_run_may_begin_with_a_checkpoint_and_learn_from_recordings_alone(whole_run: Path, tmp_path: Path):
    config = dataclasses.replace(
        small(),
        start=whole_run / "checkpoint",
        data=(whole_run / "round-0" / "demonstrations", whole_run / "round-0" / "rollouts"),
        rounds=(RoundConfig(steps=2, batch=4),),
    )
    before = from_pretrained(whole_run / "checkpoint").state_dict()
    after = from_pretrained(train(config, tmp_path / "tuned", show_progress=False)).state_dict()
    # Trained on single frames, it no longer carries what only a longer memory needs.
    same = [name for name, value in after.items() if name in before and value.shape == before[name].shape]
    assert len(same) > 0.9 * len(before)
    moved = max(float((after[name] - before[name]).abs().max()) for name in same)
    assert 0 < moved < 2.5 * config.learning_rate  # Adam moves a weight by at most about one rate a step.
    rows = [json.loads(line) for line in (tmp_path / "tuned" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["decisions"] == 8


@pytest.mark.slow
def test_a_start_of_another_architecture_and_a_run_without_data_are_refused(whole_run: Path, tmp_path: Path):
    wider = dataclasses.replace(tiny(), start=whole_run / "checkpoint")
    with pytest.raises(ValueError, match="another architecture"):
        train(wider, tmp_path / "wider", show_progress=False)
    with pytest.raises(ValueError, match="--data"):
        train(dataclasses.replace(small(), rounds=(RoundConfig(steps=1),)), tmp_path / "empty", show_progress=False)


def test_the_learning_rate_warms_up_holds_and_falls():
    config = small(100)
    rates = [learning_rate(config, step) for step in range(config.steps)]
    assert rates[0] < rates[1] < rates[2] == config.learning_rate
    assert rates[100] == config.learning_rate
    assert rates[-1] < 0.1 * config.learning_rate


def test_what_practice_there_is_belongs_to_a_runs_configuration_and_nothing_else_of_it():
    plain = dataclasses.replace(small(), rounds=(RoundConfig(demonstrations=2, steps=5),))
    elsewhere = dataclasses.replace(plain, curriculum=CurriculumConfig(floor=0.9))
    assert fingerprint(plain) == fingerprint(elsewhere)
    (round_,) = plain.rounds
    practising = dataclasses.replace(plain, rounds=(dataclasses.replace(round_, practice=PracticeConfig()),))
    reinforced = dataclasses.replace(round_, practice=PracticeConfig(), reinforce=ReinforceConfig(beta=1.0))
    runs = (
        plain,
        practising,
        dataclasses.replace(practising, curriculum=CurriculumConfig(floor=0.9)),
        dataclasses.replace(plain, rounds=(reinforced,)),
    )
    assert len({fingerprint(run) for run in runs}) == len(runs)
