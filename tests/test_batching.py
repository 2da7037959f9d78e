"""Claims about many drivers asking one network, and about processes that end."""

import dataclasses
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_policy import observe

from drivebyword.loop.batching import Checkpoint, Networks, Question, _Driver, _Switchboard, engine_here
from drivebyword.loop.policies import checkpoint_folder
from drivebyword.model.streaming import StreamingPolicy
from drivebyword.tokens.action import DRIVEN_TOKENS


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return Checkpoint(checkpoint_folder("tiny"))


def test_drivers_that_share_a_network_get_the_decisions_they_would_get_alone(shipped):
    alone = _held(shipped)
    with Networks(1) as networks:
        served = networks.serve(shipped)
        drivers = [served() for _ in range(3)]
        for step in range(4):
            for k, driver in enumerate(drivers):
                one = observe(step, ("turn left", "stop here", "")[k], seed=k)
                if step == 2:
                    driver.reset()
                answer = driver.decide(one)
                assert answer.act.steps.shape == (4, 3)
                if k == 0:
                    alone.reset() if step == 2 else None
                    np.testing.assert_array_equal(alone.decide(one).act.steps[0], answer.act.steps[0])


def _held(checkpoint: Checkpoint) -> StreamingPolicy:
    """Return a checkpoint as a network's process holds it."""
    return _Switchboard()._policy(checkpoint.folder)


@pytest.mark.skipif(engine_here() == "torch", reason="PyTorch rounds otherwise in batches of another size")
def test_a_decision_is_the_same_to_the_last_bit_in_any_company(shipped):
    held = _held(shipped)
    sentences = ("turn left", "stop here", "", "take the second right")
    seen = [[observe(step, sentences[k % 4], seed=k) for k in range(12)] for step in range(4)]
    together = [held.remember() for _ in range(12)]
    alone = [held.remember() for _ in range(12)]
    for row in seen:
        shared = held.decide_all(together, row)
        for k, one in enumerate(row):
            own = held.decide_all([alone[k]], [one])[0]
            np.testing.assert_array_equal(own.act.steps[0], shared[k].act.steps[0])
            np.testing.assert_array_equal(
                alone[k].trace.logits[:DRIVEN_TOKENS], together[k].trace.logits[:DRIVEN_TOKENS]
            )
            np.testing.assert_array_equal(alone[k].trace.plan, together[k].trace.plan)


def test_a_bad_observation_is_its_own_drivers_error(shipped):
    with Networks(1) as networks:
        good, bad = networks.serve(shipped)(), networks.serve(shipped)()
        with pytest.raises(ValueError, match="camera 'wide' has shape"):
            bad.decide(dataclasses.replace(observe(0), cameras={"wide": np.zeros((8, 8, 3), np.uint8)}))
        assert np.isfinite(good.decide(observe(0)).act.steps).all()
        assert np.isfinite(bad.decide(observe(0)).act.steps).all()


def test_an_error_in_a_batch_reaches_the_driver_who_caused_it_alone(shipped, tmp_path):
    switchboard, asked, hears = _Switchboard(), [], []
    bad = dataclasses.replace(observe(0), cameras={"wide": np.zeros((8, 8, 3), np.uint8)})
    for folder, seen in [(shipped.folder, observe(0)), (shipped.folder, bad), (tmp_path, observe(0))]:
        near, far = mp.Pipe()
        switchboard.drivers[near] = _Driver(near, question=Question(folder, True, seen))
        asked.append(switchboard.drivers[near])
        hears.append(far)
    switchboard.answer(asked)
    good, misshapen, absent = (far.recv() for far in hears)
    assert np.isfinite(good.act.steps).all()
    assert isinstance(misshapen, ValueError) and "camera 'wide' has shape" in str(misshapen)
    assert isinstance(absent, Exception)


def test_a_network_that_dies_is_named(shipped):
    with Networks(1) as networks:
        driver = networks.serve(shipped)()
        driver.decide(observe(0))
        networks.check()
        (held,) = networks._held
        os.kill(held.pid, signal.SIGKILL)
        held.join()
        with pytest.raises(ConnectionError, match="is gone"):
            driver.decide(observe(1))
        with pytest.raises(RuntimeError, match="died with exit code -9"):
            networks.check()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_network_that_dies_or_stands_still_is_replaced_and_answers_the_next_episode(shipped, fault):
    with Networks(1, hang_s=8.0) as networks:
        driver = networks.serve(shipped)()
        before = driver.decide(observe(0))
        os.kill(networks._held[0].pid, fault)
        deadline = time.monotonic() + 60
        while not networks.replaced:
            assert time.monotonic() < deadline, "the network was not replaced"
            networks.tend()
            time.sleep(0.1)
        with pytest.raises(ConnectionError, match="is gone"):
            driver.decide(observe(1))
        driver.reset()
        again = driver.decide(observe(0))
        np.testing.assert_array_equal(again.act.steps, before.act.steps)
        networks.check()


def test_nobody_answers_for_a_checkpoint_that_is_not_served(shipped):
    with pytest.raises(ValueError, match="nobody serves"):
        shipped()


SLEEPERS = """
import os, sys, time
from drivebyword.loop.fleet import run_tasks

def make_worker():
    print(os.getpid(), flush=True)
    return time.sleep

if __name__ == "__main__":
    list(run_tasks(make_worker, [60.0, 60.0], 2))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
