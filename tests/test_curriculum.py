"""Where practice goes: to what fails, with a floor for the rest, never to what is held out."""

from collections import Counter

import numpy as np
import pytest

from drivebyword.train.curriculum import Curriculum, CurriculumConfig, Scene
from drivebyword.world.families import HELD_OUT

FAMILIES = ("town-mixed", "lead_hard_brake", "dense_fog", "low_sun")
CONFIG = CurriculumConfig(families=FAMILIES, floor=0.4)


def taught(failing, rounds=12, config=CONFIG):
    """Return a curriculum that has seen one family fail and the others go well."""
    curriculum = Curriculum(config)
    for number in range(rounds):
        scenes = curriculum.plan(12, 0, number)
        curriculum.learn({s: float(s.scenario == failing) for s in scenes})
    return curriculum


def test_what_fails_comes_up_most_and_every_family_keeps_its_floor():
    shares = taught("dense_fog").shares()
    assert max(shares, key=shares.get) == "dense_fog" and shares["dense_fog"] > 0.5
    assert all(share >= CONFIG.floor / len(FAMILIES) for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1.0)
    drawn = Counter(s.scenario for n in range(400) for s in taught("dense_fog").plan(1, 5, n))
    assert drawn["dense_fog"] > 200 and min(drawn.values()) > 0.5 * 400 * CONFIG.floor / len(FAMILIES)


def test_a_family_that_has_been_learnt_gives_way():
    curriculum = taught("lead_hard_brake")
    before = curriculum.shares()["lead_hard_brake"]
    for number in range(20, 40):
        curriculum.learn(dict.fromkeys(curriculum.plan(12, 0, number), 0.0))
    assert curriculum.shares()["lead_hard_brake"] < 0.5 * before


def test_failed_scenes_come_again_until_every_rollout_goes_well():
    curriculum = Curriculum(CurriculumConfig(again=1.0))
    curriculum.learn({Scene("town-mixed", 17): 0.5})
    assert Scene("town-mixed", 17) in curriculum.plan(3, 0, 0)
    curriculum.learn({Scene("town-mixed", 17): 0.0})
    assert Scene("town-mixed", 17) not in curriculum.plan(3, 0, 0)


def test_a_plan_is_a_function_of_state_seed_and_round_and_names_each_scene_once():
    one, same = taught("low_sun"), taught("low_sun")
    assert one.plan(40, 3, 9) == same.plan(40, 3, 9) != one.plan(40, 3, 10)
    assert len(set(one.plan(40, 3, 9))) == 40
    assert one.state() == same.state()
    assert all(0 <= s.seed < 1_000_000 for s in one.plan(200, 0, 1))


def test_held_out_families_and_other_splits_seeds_are_refused():
    with pytest.raises(ValueError, match="held out"):
        CurriculumConfig(families=("town-mixed", HELD_OUT[0]))
    with pytest.raises(ValueError, match="held out"):
        CurriculumConfig(families=(f"{HELD_OUT[0]}/twin",))
    with pytest.raises(ValueError, match="validation seed"):
        CurriculumConfig(scenes=(("town-mixed", 1_000_001),))
    with pytest.raises(ValueError, match="needs a family"):
        CurriculumConfig(families=())


def test_scenes_said_to_fail_are_where_it_begins():
    config = CurriculumConfig(families=("town-mixed",), again=1.0, scenes=(("town-mixed", 5), ("town-mixed", 6)))
    drawn = {s.seed for n in range(20) for s in Curriculum(config).plan(1, 0, n)}
    assert drawn == {5, 6}
    assert np.array_equal(list(Curriculum(config).failed["town-mixed"]), [5, 6])
