"""Claims about worker processes that die, stand still, hang or cannot be made: work goes on, nothing is left out."""

import multiprocessing as mp
import os
import random
import signal
import time

import pytest
from light_work import broken, busy, deadly, sleeper, wordy

from drivebyword.evaluate.faults import Misfortune
from drivebyword.loop.fleet import run_tasks


def test_twenty_killed_and_twenty_stopped_workers_cost_their_tasks_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("READY", str(tmp_path))
    faults = [signal.SIGKILL] * 20 + [signal.SIGSTOP] * 20
    random.Random(3).shuffle(faults)
    tasks = [0.4 + 0.001 * k for k in range(160)]
    misfortune = Misfortune(faults, 0.1, fit=lambda pid: (tmp_path / str(pid)).exists())
    misfortune.start()
    done = list(run_tasks(sleeper, tasks, 6, silence_s=2.5, start_s=15.0))
    misfortune.spare()
    assert len(misfortune.struck) == 40, "the work was over before all faults had struck"
    assert sorted(one.task for one in done) == tasks
    lost = [one for one in done if one.lost]
    # Who was struck between two tasks costs none.
    assert 25 <= len(lost) <= 40
    assert all(one.error for one in lost) and not any(one.error for one in done if not one.lost)
    killed, stopped = ([w in one.error for one in lost].count(True) for w in ("exit code -9", "stood still"))
    assert killed + stopped == len(lost) and killed >= 10 and stopped >= 10
    assert not [child for child in mp.active_children() if child.name == "drivebyword worker"]


def test_a_worker_stopped_in_the_middle_of_its_answer_is_waited_for_by_nobody():
    misfortune = Misfortune([signal.SIGSTOP] * 4, 0.2)
    misfortune.start()
    done = list(run_tasks(wordy, list(range(60)), 3, silence_s=2.5, start_s=15.0))
    misfortune.spare()
    assert sorted(one.task for one in done) == list(range(60))
    assert all(one.lost or one.value == f"{one.task}" * 2_000_000 for one in done)


def test_a_task_that_never_ends_is_given_up_and_the_others_are_done():
    done = {one.task: one for one in run_tasks(busy, [True, False], 1, limit_s=2.0)}
    assert done[True].lost and "took more than 2 s" in done[True].error
    assert done[False].value == "done"


def test_an_error_is_the_tasks_own_and_not_a_loss():
    (done,) = run_tasks(sleeper, [-1.0], 1)
    assert not done.lost and done.error == "ValueError: sleep length must be non-negative"


def test_workers_that_cannot_be_made_end_the_work_with_a_reason():
    with pytest.raises(RuntimeError, match="ValueError: no road to drive on"):
        list(run_tasks(broken, [1], 1))
    with pytest.raises(RuntimeError, match="12 processes ended before they could work; the last died with exit code 3"):
        list(run_tasks(deadly, [1], 1))


def test_an_employer_that_looked_away_does_not_blame_its_workers():
    found = run_tasks(sleeper, [0.01, 7.0, 0.01], 2, limit_s=8.0)
    first = next(found)
    time.sleep(6.0)
    others = list(found)
    assert not any(one.lost for one in (first, *others))


def test_nobody_is_left_when_the_work_is_broken_off():
    found = run_tasks(sleeper, [0.01] + [60.0] * 3, 2)
    next(found)
    pids = [child.pid for child in mp.active_children() if child.name == "drivebyword worker"]
    assert pids
    found.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
