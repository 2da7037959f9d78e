"""The cycle: what may steer it, which scenes are near, and when a checkpoint is accepted."""

import json
import os
from collections import Counter

import numpy as np
import pytest

from drivebyword.core.seeds import VALIDATION_SEEDS
from drivebyword.data.files import read_json, write_json
from drivebyword.evaluate.iterate import (
    TOWN_FROM,
    IterateConfig,
    _Clock,
    _unseen,
    failing_scenes,
    iterate,
    variants,
    verdict,
)
from drivebyword.presets import preset
from drivebyword.train.curriculum import Scene
from drivebyword.world.families import HELD_OUT
from drivebyword.world.scenario import find_scenario

FAMILY = "lead_hard_brake"


def report(failures, split="validation"):
    return {"split": split, "seeds": [1_000_000, 1_000_040], "policies": {"policy": {"failures": failures}}}


def failure(scenario, seed):
    return {"scenario": scenario, "seed": seed, "family": "day", "ended": "timeout", "why": "timeout"}


def test_test_seeds_may_not_steer_training():
    with pytest.raises(ValueError, match="so that test seeds stay unseen"):
        failing_scenes(report([failure("town", 2_000_003)], "test"), "policy", 20)


def test_held_out_families_are_left_out_and_at_most_so_many_scenes_are_taken():
    failures = [failure(HELD_OUT[0], 1_000_000), *(failure("town", 1_000_001 + k) for k in range(5))]
    assert failing_scenes(report(failures), "policy", 3) == [Scene("town", 1_000_001 + k) for k in range(3)]
    for broken in (report(failures[:1]), report([])):
        with pytest.raises(ValueError, match="nothing to iterate on"):
            failing_scenes(broken, "policy", 20)
    with pytest.raises(ValueError, match="no row 'guarded'"):
        failing_scenes(report(failures), "guarded", 20)


def test_variants_are_training_scenes_of_the_same_scenario_in_the_same_light_with_the_same_wishes():
    failed = [Scene("town-mixed", 1_000_000 + k) for k in range(8)]
    near = variants(failed, 3)
    assert len(near) == 24 and all(0 <= s.seed < 1_000_000 and s.scenario == "town-mixed" for s in near)
    assert near == variants(failed, 3)
    recipe = find_scenario("town-mixed")
    rng = np.random.default_rng(0)

    def shared(one, other):
        a, b = recipe.sample(one), recipe.sample(other)
        same = sum((Counter(a.script) & Counter(b.script)).values()) / max(len(a.script), len(b.script))
        return same, abs(a.weather.night - b.weather.night)

    picked = np.array([shared(f.seed, n.seed) for k, f in enumerate(failed) for n in near[3 * k : 3 * k + 3]])
    drawn = np.array([shared(f.seed, int(rng.integers(1_000_000))) for f in failed for _ in range(3)])
    assert picked[:, 0].mean() > drawn[:, 0].mean() + 0.2 and picked[:, 1].mean() < 0.5 * drawn[:, 1].mean()


def results(outcomes, scenario="town", at_fault=None):
    at_fault = at_fault or [0] * len(outcomes)
    return [
        {
            "scenario": scenario,
            "seed": k,
            "scores": {"success": float(s), "driving_score": 100.0 * s, "collision_at_fault": float(f)},
        }
        for k, (s, f) in enumerate(zip(outcomes, at_fault, strict=True))
    ]


BAD, GOOD = [0, 1, 0, 1, 0, 1, 0, 0] * 4, [1, 1, 1, 1, 0, 1, 1, 0] * 4
FINE = [1] * 36 + [0] * 4


def test_better_by_interval_on_fresh_seeds_and_worse_nowhere_is_accepted():
    found = verdict((results(BAD), results(GOOD)), (results(FINE), results(FINE)))
    assert found["accepted"] and found["gain"][1] > 0 and found["scenes"] == 32


def test_better_by_chance_is_not_accepted():
    luck = [1, *BAD[1:]]
    found = verdict((results(BAD), results(luck)), (results(FINE), results(FINE)))
    assert not found["accepted"] and "not better by interval" in found["why"]


@pytest.mark.parametrize(
    ("after", "at_fault", "named"),
    [([1] * 20 + [0] * 20, None, "town success"), (FINE, [1] * 10 + [0] * 30, "town without collision at fault")],
)
def test_worse_elsewhere_is_not_accepted_and_named(after, at_fault, named):
    town = (results(FINE), results(after, at_fault=at_fault))
    found = verdict((results(BAD), results(GOOD)), town)
    assert not found["accepted"] and named in found["why"]


def test_an_edge_case_counts_by_being_handled_where_it_counts():
    def edge(handled, counted):
        return [
            r | {"scores": r["scores"] | {"handled_k": float(h), "handled_n": float(c)}}
            for r, h, c in zip(results([1] * 32, FAMILY), handled, counted, strict=True)
        ]

    found = verdict((edge(BAD, [1] * 32), edge(GOOD, [1] * 32)), (results(FINE), results(FINE)))
    assert found["accepted"]
    unpreventable = [0] * 32
    same = verdict((edge(unpreventable, [0] * 32), edge(unpreventable, [0] * 32)), (results(FINE), results(FINE)))
    assert same["gain"] == [0.0, 0.0, 0.0]


def test_a_killed_stage_counts_until_its_last_sign_of_life(tmp_path):
    clock = _Clock(tmp_path / "clock.json")
    with clock.on("training"):
        pass
    stage = clock.on("judging")
    stage.__enter__()  # And killed: nothing is ever left.
    began = read_json(tmp_path / "clock.json")["since"]
    (tmp_path / "results.jsonl").write_text("one scene")
    os.utime(tmp_path / "results.jsonl", (began + 90.0, began + 90.0))
    again = _Clock(tmp_path / "clock.json")
    assert again.seconds["judging"] == pytest.approx(90.0, abs=0.1) and again.seconds["training"] < 5.0
    assert _Clock(tmp_path / "clock.json").seconds == again.seconds


def test_fresh_seeds_are_validation_seeds_none_of_the_reports_and_others_for_another_checkpoint(tmp_path):
    firsts = set()
    for k in range(40):
        write_json(tmp_path / "manifest.json", {"weights": k})
        first = _unseen(tmp_path, {"seeds": [1_000_000, 1_000_040]})
        assert VALIDATION_SEEDS.start <= first and first + 2 * TOWN_FROM < VALIDATION_SEEDS.stop
        covered = {"seeds": [first - 10, first + 30]}
        moved = _unseen(tmp_path, covered)
        assert moved > first + 30 and moved + 2 * TOWN_FROM < VALIDATION_SEEDS.stop
        firsts.add(first)
    assert len(firsts) > 35


def test_a_report_of_test_seeds_ends_the_cycle_before_anything_is_trained(tmp_path):
    path = write_json(tmp_path / "report.json", report([failure("town", 2_000_003)], "test"))
    with pytest.raises(ValueError, match="test seeds stay unseen"):
        iterate(IterateConfig(report=path, checkpoint=tmp_path), preset("tiny-practice"), tmp_path / "out", "")
    assert not (tmp_path / "out" / "train").exists()
    assert json.loads(path.read_text())["split"] == "test"
