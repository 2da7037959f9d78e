"""Claims about the latency bench."""

from small_policy import SMALL, ScriptedReader, make_policy

from drivebyword.evaluate.latency import random_observation, time_decisions
from drivebyword.model.reader import ReaderConfig
from drivebyword.model.streaming import StreamingPolicy


def test_every_decision_is_timed_after_the_window_is_full():
    policy = StreamingPolicy(make_policy(), ScriptedReader(ReaderConfig()))
    wall, cpu, passes = time_decisions(policy, 5)
    assert len(wall) == len(cpu) == len(passes) == 5
    assert wall.min() > 0 and passes.min() >= 1


def test_random_observations_repeat_and_fit_the_rig():
    first, again = (random_observation(SMALL.rig, 7, "go on") for _ in range(2))
    assert all((first.cameras[name] == again.cameras[name]).all() for name in first.cameras)
    assert set(first.cameras) == {camera.name for camera in SMALL.rig.cameras}
