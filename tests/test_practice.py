"""From groups on disk to rows: what teaches, what does not, and whose rows they are."""

import dataclasses

import numpy as np
import pytest
from calm_drive import calm_drive, events
from made_tables import make_table
from test_loss import make_teacher

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.exploration import Exploration, ExplorationConfig
from drivebyword.core.records import Event
from drivebyword.data.dataset import DatasetWriter
from drivebyword.tokens.action import ActionGrammar
from drivebyword.train.credit import CreditConfig
from drivebyword.train.curriculum import Scene
from drivebyword.train.loss import LossConfig
from drivebyword.train.practice import (
    PracticeConfig,
    driven_outcomes,
    experience,
    outcomes,
    read_groups,
    rollout_name,
)

FRAMES = 60
SCENE = Scene("town", 7)
GRAMMAR = ActionGrammar()
PRACTICE = PracticeConfig(exploration=ExplorationConfig(temperature=0.7), credit=CreditConfig(spread=0.01))


def rollout(number, seed=7, frames=FRAMES, **changes):
    """Return a drawn rollout; its log-probabilities say which it is."""
    log_prob = np.full(frames, -1.0 - number, np.float32)
    log_prob[5] = np.nan
    return calm_drive(
        frames, seed=seed, driver=rollout_name(number), exploration=Exploration(rollout=number),
        log_prob=log_prob, passed=np.full(frames, number, np.float32), **changes,
    )  # fmt: skip


def crashing(number, frames=40):
    way = np.linspace(0, 1, FRAMES, dtype=np.float32)[:frames]
    flags = events(Event.COLLISION_VEHICLE, frames - 1, frames)
    return rollout(number, frames=frames, events=flags, ended="collision", route_completion=way)


def record(folder, episodes):
    writer = DatasetWriter(folder)
    for episode in episodes:
        assert writer.add(episode)


def learned(groups, order, **changes):
    teacher = make_teacher(LossConfig())
    teacher.wordings.row_of["say follow"] = 4
    practice = dataclasses.replace(PRACTICE, **changes)
    return experience(groups, order, make_table(1, FRAMES), practice, GRAMMAR, teacher.wordings, 3)


def test_a_group_comes_back_from_disk_with_what_was_drawn_and_a_missing_rollout_counts_as_failed(tmp_path):
    record(tmp_path, [rollout(0), crashing(1)])
    groups = read_groups(tmp_path, (SCENE,), 3)
    (group,) = groups.values()
    assert [e.driver for e in group] == ["policy-00", "policy-01"] and group[1].exploration.rollout == 1
    np.testing.assert_array_equal(group[1].log_prob, crashing(1).log_prob)
    np.testing.assert_array_equal(group[1].passed, np.ones(40))
    assert outcomes(groups, 3) == {SCENE: pytest.approx(2 / 3)}
    assert outcomes(groups, 2) == {SCENE: pytest.approx(1 / 2)}


def test_rows_are_in_the_tables_order_and_what_was_not_drawn_or_heard_teaches_nothing():
    good, bad = rollout(0), crashing(1)
    order = [("town", 7, bad.driver), ("town", 7, good.driver)]
    found = learned({SCENE: [good, bad]}, order)
    np.testing.assert_array_equal(found.passed, np.concatenate([np.ones(40), np.zeros(FRAMES)]))
    np.testing.assert_array_equal(found.tokens[:40], GRAMMAR.encode(bad.reason, bad.act))
    assert (found.sentence == 4).all() and found.temperature == 0.7 and found.round == 3
    assert found.advantage[36:40].mean() < 0 < found.advantage[40 + 30 : 40 + 38].mean()
    assert found.advantage[5] == found.advantage[45] == 0.0
    unheard = [dataclasses.replace(e, instructions=[dataclasses.replace(e.instructions[0], sentence="gibberish")])
               for e in (good, bad)]  # fmt: skip
    assert (learned({SCENE: unheard}, order).advantage == 0).all()


def test_a_group_whose_rollouts_are_alike_teaches_nothing():
    twins = [rollout(0), rollout(1)]
    found = learned({SCENE: twins}, [("town", 7, e.driver) for e in twins])
    assert (found.advantage == 0).all()


def test_what_was_not_drawn_by_lot_is_refused():
    plain = calm_drive(FRAMES, seed=7, driver="policy-00")
    with pytest.raises(ValueError, match="not drawn by lot"):
        learned({SCENE: [plain, plain]}, [("town", 7, "policy-00")])


def test_single_drives_say_where_the_policy_fails_and_a_drive_cut_short_counts_as_far_as_it_went(tmp_path):
    edge = EdgeRecord(family="lead_hard_brake", twin=False, preventable=True, began_s=1.0, breach="too near")
    record(tmp_path, [
        calm_drive(FRAMES, seed=1, driver="policy"),
        calm_drive(FRAMES, seed=2, driver="policy", ended="timeout"),
        calm_drive(FRAMES, seed=3, driver="policy", ended="aborted"),
        calm_drive(FRAMES, seed=4, driver="policy", ended="aborted", events=events(Event.OFFROAD, 9, FRAMES)),
        calm_drive(FRAMES, seed=5, driver="policy", edge=edge),
    ])  # fmt: skip
    found = {scene.seed: failed for scene, failed in driven_outcomes(tmp_path).items()}
    assert found == {1: 0.0, 2: 1.0, 3: 0.0, 4: 1.0, 5: 1.0}
