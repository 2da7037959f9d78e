"""Worlds for gymnasium's people: registered, vectorised, rewarded as they go, and gone when their parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import drivebyword.world  # noqa: F401 - registers the environments
from drivebyword import metrics
from drivebyword.core.records import Act, Decision, Event, Snapshot
from drivebyword.loop.driver import ConstantSpeed, Driver
from drivebyword.loop.rollout import ExpertPolicy, run_episode
from drivebyword.world import LANE_KEEPING_STEPS
from drivebyword.world.env import DrivingEnv
from drivebyword.world.rigs import reference
from drivebyword.world.vector import make_worlds, sentence_bytes, sentences_of

STANDING = np.array([0.0, 0.0, 1.0], np.float32)
PARTS = ("camera_front", "lidar", "radar", "radar_valid", "ego")


class Restless:
    """Shakes wheel and pedals: what a beginner's policy does."""

    def reset(self):
        self.rng = np.random.default_rng(3)

    def decide(self, observation):
        return Decision(act=Act(np.tile(self.rng.uniform((-0.15, 0, 0), (0.15, 1, 0.5)), (4, 1))), reason=None)


@pytest.mark.parametrize("name", ["Town-v0", "LaneKeeping-v0"])
@pytest.mark.filterwarnings("ignore:.*Box.*")
def test_a_registered_world_is_made_by_name_and_passes_gymnasiums_check(name):
    env = gymnasium.make(f"drivebyword/{name}")
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


class Counted(DrivingEnv):
    """A world that keeps what its steps paid."""

    def __init__(self):
        super().__init__(render_sensors=False)
        self.paid = []

    def step(self, action):
        result = super().step(action)
        self.paid.append(result[1])
        return result


@pytest.mark.parametrize(
    ("who", "scenario", "seeds"),
    [("expert", "town", (5, 7)), ("constant", "town", (1, 2, 3)), ("restless", "town", (3,)),
     ("expert", "cut_in_short_ttc", (1,)), ("constant", "partial_blocker", (1,))],
)  # fmt: skip
def test_rewards_paid_as_it_drives_add_up_to_the_reward_of_the_episode(who, scenario, seeds):
    env = Counted()
    policy = {"expert": lambda: ExpertPolicy(env), "constant": ConstantSpeed, "restless": Restless}[who]()
    for seed in seeds:
        env.paid.clear()
        episode = run_episode(env, Driver(policy, None), seed=seed, scenario=scenario, name=who, label=False)
        assert sum(env.paid) == pytest.approx(metrics.reward(episode).sum(), abs=1e-4), (seed, episode.ended)
        assert all(map(np.isfinite, env.paid))
    env.close()


@pytest.fixture(scope="module")
def worlds():
    made = make_worlds(2, rig=reference())
    yield made
    made.close()


def test_each_world_shows_what_it_would_show_alone(worlds):
    alone = DrivingEnv(rig=reference())
    seen, _ = worlds.reset(seed=40)
    sequences = {seed: [] for seed in (40, 41)}
    for _ in range(4):
        for k, seed in enumerate(sequences):
            sequences[seed].append([seen[part][k].tobytes() for part in PARTS] + [sentences_of(seen)[k]])
        seen, *_ = worlds.step(np.tile([0.0, 0.6, 0.0], (2, 1)).astype(np.float32))
    for seed, together in sequences.items():
        seen, _ = alone.reset(seed=seed)
        for shown in together:
            assert shown == [np.asarray(seen[part]).tobytes() for part in PARTS] + [seen["instruction"]]
            seen, *_ = alone.step(np.array([0.0, 0.6, 0.0], np.float32))


def test_the_sentence_in_shared_memory_is_the_one_in_force(worlds):
    for sentence in ("turn left at the next intersection", "поверните налево", ""):
        seen, _ = worlds.reset(seed=3, options={"instruction": (sentence, None)})
        assert sentences_of(seen) == (sentence, sentence)
    assert sentences_of({"instruction": sentence_bytes("go on")}) == ("go on",)


def test_truth_of_worlds_with_different_crowds_merges(worlds):
    _, info = worlds.reset(seed=[3, 77])
    assert all(isinstance(snapshot, Snapshot) for snapshot in info["snapshot"])
    assert len({len(snapshot.agents) for snapshot in info["snapshot"]}) == 2
    *_, info = worlds.step(np.tile(STANDING, (2, 1)))
    assert info["events"].shape == (2,) and info["_events"].all()


def test_a_world_that_ends_starts_its_next_scene_by_itself_as_its_seed_says():
    def starts():
        made = make_worlds(2, render_sensors=False, seeds=(1_000_000, 1_000_050))
        made.reset(seed=[1_000_003, 1_000_004])
        found, over = [], np.zeros(2, bool)
        for _ in range(400):
            _, reward, terminated, truncated, info = made.step(np.tile([0.4, 1.0, 0.0], (2, 1)).astype(np.float32))
            for k in np.flatnonzero(over):
                assert reward[k] == 0 and info["events"][k] == Event.NONE
                found.append((int(k), info["snapshot"][k].ego.tobytes()))
            over = terminated | truncated
            if {k for k, _ in found} == {0, 1}:
                break
        made.close()
        return found

    first = starts()
    assert first and first == starts()


def test_the_last_observation_is_kept_where_the_next_scene_starts_at_once():
    made = make_worlds(1, render_sensors=False, autoreset_mode=AutoresetMode.SAME_STEP)
    made.reset(seed=2)
    for _ in range(300):
        _, _, terminated, _, info = made.step(np.array([[0.5, 1.0, 0.0]], np.float32))
        if terminated[0]:
            break
    assert info["final_info"]["ended"][0] in ("collision", "offroad") and "ego" in info["final_obs"][0]
    made.close()


def test_what_is_refused_leaves_every_world_able_to_go_on(worlds):
    worlds.reset(seed=5)
    with pytest.raises(ValueError, match="three finite numbers") as error:
        worlds.step(np.array([[0, 0, 0], [np.nan, 0, 0]], np.float32))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="2 rows"):
        worlds.step(np.zeros((3, 3), np.float32))
    for wrong in ({"seed": -1}, {"seed": [3, 2**31]}, {"options": {"scenario": "twon"}}, {"options": {"weather": 1}}):
        with pytest.raises(ValueError):
            worlds.reset(**wrong)
    *_, info = worlds.step(np.tile(STANDING, (2, 1)))
    assert [snapshot.time_s for snapshot in info["snapshot"]] == [0.2, 0.2]


def test_a_world_already_running_here_does_not_disturb_the_others():
    here = DrivingEnv(render_sensors=False)
    here.reset(seed=8)
    made = make_worlds(1, render_sensors=False)
    made.reset(seed=8)
    for _ in range(3):
        *_, mine = here.step(STANDING)
        *_, info = made.step(STANDING[None])
    assert info["snapshot"][0].agents.tobytes() == mine["snapshot"]["agents"].tobytes()
    made.close()


ORPHANS = """
import signal, numpy as np
from drivebyword.world.vector import make_worlds
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    worlds = make_worlds(2, render_sensors=False)
    worlds.reset(seed=1)
    print(*[p.pid for p in worlds.processes], flush=True)
    while True:
        worlds.step(np.tile(np.array([0, 0, 1], np.float32), (2, 1)))
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_world_outlives_the_process_that_made_it(how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(running, pids))
    parent.send_signal(how)
    parent.wait(timeout=60)
    until = time.monotonic() + 30
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(running, pids))


def test_worlds_that_still_owe_an_answer_are_ended_at_once():
    worlds = make_worlds(2, render_sensors=False)
    worlds.reset(seed=1)
    pids = [process.pid for process in worlds.processes]
    worlds.step_async(np.tile(np.array([0, 0, 1], np.float32), (2, 1)))
    worlds.parent_pipes[0].recv_bytes()  # an interrupt came before the rest was read
    worlds.close()
    assert not any(map(running, pids))


def test_lane_keeping_pays_who_follows_the_lane_and_ends_when_it_is_left():
    env = gymnasium.make("drivebyword/LaneKeeping-v0")

    def drive(act):
        seen, _ = env.reset(seed=1_000_004)
        total, steps, over = 0.0, 0, False
        while not over:
            seen, reward, left, timeout, _ = env.step(act(seen))
            total, steps, over = total + reward, steps + 1, left or timeout
        return total, steps, left

    def looking_ahead(seen):
        bend = np.abs(seen[7:10]).max()
        speed = 12.0 if bend < 0.05 else 8.0 if bend < 0.12 else 4.5
        return np.array([3.2 * seen[7] - 0.05 * seen[3], 0.5 * (speed - 15.0 * seen[0])])

    good, steps, left = drive(looking_ahead)
    assert steps == LANE_KEEPING_STEPS and not left and good > 60.0
    bad, steps, left = drive(lambda seen: np.array([0.0, 0.4 * (8.0 - 15.0 * seen[0])]))
    assert left and steps < 150 and bad < 0.5 * good
    with pytest.raises(ValueError, match="two finite numbers"):
        env.unwrapped.step(np.array([np.nan, 0.0]))
    with pytest.raises(ValueError, match="has none"):
        env.reset(options={"scenario": "town"})
    env.close()
