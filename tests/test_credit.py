"""Credit: what one rollout earned more than its siblings goes to the decisions that made it so."""

import numpy as np
import pytest
from calm_drive import calm_drive, events, told

from drivebyword.core.records import Event
from drivebyword.metrics import reward, score, still_success
from drivebyword.train.credit import CreditConfig, group_advantages, returns_to_go

CONFIG = CreditConfig()


def drive(completion, ended="arrived", speed=8.0, **changes):
    """Return a drive along some route completion."""
    frames = len(completion)
    way = np.asarray(completion, np.float32)
    pose = np.stack([160.0 * way.astype(np.float64), np.zeros(frames), np.zeros(frames)], axis=1)
    return calm_drive(
        frames, speed, route_completion=way, ended=ended,
        **({"events": np.zeros(frames, np.int64), "pose": pose} | changes),
    )  # fmt: skip


def arriving(frames=100):
    return drive(np.linspace(0, 1, frames))


def crashing(at=60, frames=100):
    """Return a drive like `arriving` that ends in a collision at a step."""
    return drive(np.linspace(0, 1, frames)[: at + 1], "collision", events=events(Event.COLLISION_VEHICLE, at, at + 1))


def standing(at=40, frames=400):
    """Return a drive that stops for ever half way and times out."""
    way = np.minimum(np.linspace(0, 1, 100)[np.minimum(np.arange(frames), 99)], np.linspace(0, 1, 100)[at])
    speed = np.zeros((frames, 5), np.float32)
    speed[:at, 0] = 8.0
    return drive(way, "timeout", motion=speed, events=events(Event.TIMEOUT, frames - 1, frames))


def creeping(frames=400):
    return drive(np.linspace(0, 1, frames), speed=2.0)


@pytest.mark.parametrize("flag", [Event.COLLISION_PERSON, Event.OFFROAD, Event.RED_LIGHT, Event.WRONG_BRANCH])
def test_a_success_is_possible_until_the_step_that_rules_it_out(flag):
    kept = still_success(calm_drive(events=events(flag, 50)))
    assert (kept[:50] == 1).all() and (kept[50:] == 0).all()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ended": "timeout"},
        {"ended": "collision", "events": events(Event.COLLISION_STATIC, 99)},
        {"instructions": [told("left", "missed", resolved=30)]},
    ],
)
def test_what_is_left_of_success_at_the_end_is_the_score(changes):
    episode = calm_drive(**changes)
    assert still_success(episode)[-1] == score(episode)["success"]


def test_without_discount_the_first_return_is_the_score_and_nothing_else_can_be_earned():
    for episode in (arriving(), crashing(), creeping(), standing()):
        undiscounted = CreditConfig(discount=1.0, success=0.0)
        assert returns_to_go(episode, undiscounted)[0] == pytest.approx(reward(episode).sum())
        manners = reward(episode).sum() - score(episode)["driving_score"] / 100.0
        assert manners <= 0.2 * len(episode.instructions) + 1e-9


def test_the_decisions_before_a_crash_are_blamed_and_those_of_its_siblings_praised():
    bad, good, fine = group_advantages([crashing(60), arriving(), arriving()], CONFIG)
    assert bad[50:61].mean() < -0.5 and good[50:61].mean() > 0.2 and fine[50:61].mean() > 0.2
    assert abs(bad[0]) < 0.3 * abs(bad[60]), "what happened later is hardly the first decision's"
    assert abs(good[80:]).max() < 0.5, "past the place of the crash the two that came through are alike"


def test_standing_for_ever_is_worse_than_driving_on_and_ever_worse_the_longer():
    still, good, _ = group_advantages([standing(), arriving(), arriving()], CONFIG)
    assert (still[45:] < 0).all() and good[38:44].mean() > 0
    # By its decisions, not by its length.
    assert 10.0 < -still[41:].sum() <= CONFIG.stand * CONFIG.largest
    longer, _, _ = group_advantages([standing(frames=1600), arriving(), arriving()], CONFIG)
    assert longer[41:].sum() == pytest.approx(still[41:].sum(), rel=0.2)


def test_creeping_earns_less_than_driving_from_the_first_decision_on():
    slow, good, _ = group_advantages([creeping(), arriving(), arriving()], CreditConfig(spread=0.0))
    assert slow[:300].mean() < -0.2 and good[:60].mean() > 0


def test_standing_does_not_beat_a_crash_by_more_than_driving_on_beats_both():
    still, bad, good = (returns_to_go(e, CONFIG)[35] for e in (standing(), crashing(60), arriving()))
    assert good > still and good > bad


def test_a_wait_that_all_sit_out_is_nobodys_merit():
    wait = np.concatenate([np.linspace(0, 0.4, 40), np.full(60, 0.4), np.linspace(0.4, 1, 60)])
    after = wait.copy()
    both = [drive(wait), drive(after), drive(wait, "timeout")]
    one, two, _ = group_advantages(both, CreditConfig(spread=0.0))
    assert np.abs(one[45:95] - two[45:95]).max() < 1e-9
    assert np.abs(one[45:60]).max() < 0.5


def test_rollouts_that_are_all_alike_teach_nothing():
    assert group_advantages([arriving(), arriving(), arriving()], CONFIG) is None
    assert group_advantages([crashing(60), crashing(60)], CONFIG) is None
    assert group_advantages([arriving()], CONFIG) is None


def test_where_no_sibling_came_there_is_no_advantage():
    far, _, _ = group_advantages([arriving(), crashing(30), crashing(40)], CONFIG)
    assert (far[45:] == 0).all() and far[25:30].mean() > 0


def test_past_a_fork_each_goes_its_own_way_unjudged():
    straight, wrong = arriving(), drive(np.linspace(0, 1, 100), "wrong_branch", events=events(Event.WRONG_BRANCH, 99))
    wrong.pose[50:, 1] = 3.2 * np.arange(50)
    bad, good = group_advantages([wrong, straight], CreditConfig(discount=0.99))
    assert bad[45:50].mean() < -0.2 and good[45:50].mean() > 0.2
    assert (bad[52:] == 0).all() and (good[52:] == 0).all()


def test_drives_under_different_sentences_are_not_compared():
    one, other = arriving(), crashing(60)
    other.instructions[0].sentence = "something else"
    assert all((gained == 0).all() for gained in group_advantages([one, other], CONFIG))
