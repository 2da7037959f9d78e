"""Claims about the latency bench."""

import numpy as np
from small_policy import SMALL, ScriptedReader, make_policy

from drivebyword.data.files import write_json
from drivebyword.evaluate.latency import random_observation, time_decisions
from drivebyword.evaluate.peers import AT_ONCE, ONE_BY_ONE, Peaks, _drafted, _floor, _passes
from drivebyword.evaluate.precision import _Counts
from drivebyword.evaluate.precision import _rows as precision_rows
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


def test_a_draft_is_worth_what_one_by_one_costs_over_what_its_passes_cost():
    of = {"streaming": 6.0, "frame alone": 5.0, ONE_BY_ONE: 12.0, AT_ONCE: 2.0}
    rows = _drafted("int8", {f"int8: {way}": ms for way, ms in of.items()}, {1: 0.5, 2: 0.5})
    name = "int8: 12 tokens by a draft against one by one"
    assert [rows[f"{name}, {n} passes"]["value"] for n in (1, 2, 3)] == [12.0, 4.0, 2.4]
    assert rows[f"{name}, as driven"]["value"] == 6.0


def test_the_floor_is_arithmetic_or_memory_whichever_takes_longer():
    fast = Peaks(products={"int8": 1e12}, memory=1e15)
    slow = Peaks(products={"int8": 1e18}, memory=25e9)
    streaming, whole = (_floor(fast, "int8", way) for way in ("streaming", "nothing cached"))
    assert 2.5 < streaming < 3.2 < 9.5 < whole < 11.0  # 25 M weights, 62 and 212 tokens
    assert _floor(slow, "int8", "streaming") == _floor(slow, "int8", "nothing cached")
    assert 0.9 < _floor(slow, "int8", "streaming") < 1.1  # 25 MB


def test_passes_are_read_from_a_report_of_precision(tmp_path):
    counts = {"fused": _Counts(cpu=[1.0, 3.0], off=[0.0, 0.5])}
    right, wrong = np.ones(15, bool), np.ones(15, bool)
    wrong[[0, 3, 14]] = False
    counts["fused"].free = [right, wrong]
    counts["fused"].forced = [right, right]
    rows = precision_rows(counts, np.array([15, 14, 3, 15]), np.array([1, 1, 3, 1]), np.array([9.0]), 4, 15)
    assert rows["fused: act tokens equal"]["value"] == round(22 / 24, 5)
    assert (rows["fused: act tokens equal"]["k"], rows["fused: act tokens equal"]["n"]) == (22, 24)
    assert rows["fused: first triple equal"]["value"] == round(5 / 6, 5)
    assert rows["fused: reason equal"]["value"] == round(5 / 6, 5)
    assert rows["draft held whole"]["value"] == 0.75  # the last token nobody reads
    assert _passes(write_json(tmp_path / "report.json", {"rows": rows})) == {1: 0.75, 2: 0.0, 3: 0.25}
