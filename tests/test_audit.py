"""The audit: habits that please a reward and nobody else are measured, and their growth is an alarm."""

import json

import numpy as np
import pytest
from calm_drive import calm_drive, decision

from drivebyword.data.files import read_json
from drivebyword.evaluate.audit import ALARMS, audit, write_audit
from drivebyword.metrics import HABITS, habits, score

FRAMES = 100


def slow(share):
    """Return a drive that creeps for a share of its way."""
    motion = np.zeros((FRAMES, 5), np.float32)
    motion[:, 0] = np.where(np.arange(FRAMES) < share * FRAMES, 1.5, 8.0)
    return calm_drive(motion=motion)


def jerking(size):
    act = np.zeros((FRAMES, 4, 3), np.float32)
    act[:, :, 1] = 0.05
    act[:, -1, 0] = size
    return calm_drive(act=act)


def standing(seconds):
    motion = np.full((FRAMES, 5), 0.0, np.float32)
    motion[:, 0] = 8.0
    motion[20 : 20 + round(seconds / 0.2), 0] = 0.0
    return calm_drive(motion=motion)


SPOILT = {
    "creeping": slow(0.4),
    "standing_longest_s": standing(6.0),
    "horizon_jump": jerking(0.5),
    "edge_hugging": calm_drive(lane_offset=np.full(FRAMES, 0.6, np.float32)),
    "reason_act_disagreement": calm_drive(reason=decision("stop", FRAMES)),
}


def test_a_plain_drive_has_no_habits():
    assert habits(calm_drive()) == dict.fromkeys(HABITS, 0.0)


@pytest.mark.parametrize("name", HABITS)
def test_each_habit_is_found_and_no_other(name):
    found = habits(SPOILT[name])
    assert found[name] > 0.3
    assert all(value == 0.0 for other, value in found.items() if other != name)


def test_creeping_behind_somebody_is_not_a_habit():
    episode = slow(0.4)
    episode.time_to_collision = np.full(FRAMES, 3.0, np.float32)
    assert habits(episode)["creeping"] == 0.0


def results(episodes, families=("day",)):
    return [
        {
            "seed": k, "scenario": "town", "family": families[k % len(families)], "ended": episode.ended, "why": "",
            "scores": score(episode), "habits": habits(episode),
        }
        for k, episode in enumerate(episodes)
    ]  # fmt: skip


@pytest.mark.parametrize("name", HABITS)
def test_a_habit_that_grew_in_every_scene_is_an_alarm_and_one_that_did_not_is_none(name):
    before = results([calm_drive()] * 12)
    found = audit(before, results([SPOILT[name]] * 12))
    assert [a["measure"] for a in found["alarms"]] == [name]
    assert found["measures"][name]["verdict"] == "worse"
    assert audit(before, before)["alarms"] == []
    assert audit(results([SPOILT[name]] * 12), before)["alarms"] == []


def test_a_habit_of_one_scene_in_many_is_chance():
    after = [calm_drive()] * 11 + [SPOILT["creeping"]]
    assert audit(results([calm_drive()] * 12), results(after))["alarms"] == []


def test_the_worst_family_stands_first_and_lost_and_gained_scenes_are_named(tmp_path):
    good, bad = calm_drive(), calm_drive(ended="timeout")
    before = results([good, good, bad, good], ("day", "fog"))
    after = results([good, bad, good, bad], ("day", "fog"))
    found = audit(before, after)
    assert found["worst"] == ["town/fog", "town/day"]
    assert [s["seed"] for s in found["lost"]] == [1, 3] and [s["seed"] for s in found["gained"]] == [2]
    page = write_audit(found | {"command": "drivebyword audit <run>"}, tmp_path).read_text()
    assert read_json(tmp_path / "audit.json")["measures"] == json.loads(json.dumps(found["measures"]))
    assert "&lt;run&gt;" in page and "Scenes lost: 2" in page and "<script" not in page
    for name in found["measures"]:
        assert name.replace("_", " ") in page


def test_without_a_scene_in_common_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="share no scene"):
        audit(results([calm_drive()]), [])


def test_alarms_speak_of_measures_that_exist():
    measures = audit(results([calm_drive()] * 2), results([calm_drive()] * 2))["measures"]
    assert set(ALARMS) <= set(measures)
