"""Driving sets made elsewhere: what they say is ours exactly, what they lack stays open, what does not fit is named."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_elsewhere import CAMERAS, SENTENCES, made_set
from made_episodes import make_episode
from small_policy import make_policy
from test_loss import make_teacher
from train_small import small

from drivebyword.core.records import DECISIONS, UNREAD
from drivebyword.core.rig import CameraConfig
from drivebyword.data.dataset import Dataset, DatasetWriter
from drivebyword.data.foreign import ForeignSet
from drivebyword.data.layout import View, find_layout, l2d
from drivebyword.data.reproject import Reprojection, rays_of
from drivebyword.train.loop import train
from drivebyword.train.loss import LossConfig
from drivebyword.train.rounds import RoundConfig
from drivebyword.train.table import Frames, Sampler, SamplingConfig, build_table
from drivebyword.world.rigs import seven_camera, tiny

LEFT, RIGHT = (DECISIONS.index(f"turn_{side}") for side in ("left", "right"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return made_set(tmp_path_factory.mktemp("l2d"), codec="libsvtav1")


@pytest.fixture(scope="module")
def drives(recorded):
    opened = ForeignSet(recorded, l2d(), tiny())
    return [opened.read_episode(k) for k in range(3)]


def test_speed_steering_and_pedals_come_in_our_units_signs_and_rate(drives):
    left, right, _ = drives
    assert len(left) == 60 and left.dt == 0.2
    np.testing.assert_allclose(left.ego_observed[:45, 0], 10.0, rtol=1e-5)
    # Frames 40 to 70 turn: decision 20 is the first, and half of decision 35's two frames.
    np.testing.assert_allclose(left.expert_act[20:35, 0], 0.4, atol=1e-6)
    np.testing.assert_allclose(right.expert_act[20:35, 0], -0.4, atol=1e-6)
    assert left.expert_act[35, 0] == pytest.approx(0.2) and left.expert_act[36, 0] == 0.0
    np.testing.assert_allclose(left.ego_observed[21:35, 1], np.radians(30.0), rtol=1e-3)
    np.testing.assert_allclose(left.expert_act[:45, 1], 0.2, atol=1e-6)
    np.testing.assert_allclose(left.expert_act[46:50, 2], 0.5, atol=1e-6)
    np.testing.assert_array_equal(left.act[0], left.expert_act[:4])


def test_path_and_speed_ahead_are_what_was_driven_and_open_past_the_end(drives):
    left = drives[0]
    np.testing.assert_allclose(left.expert_plan[0, :, 1], 0.0, atol=1e-6)
    np.testing.assert_allclose(left.expert_plan[0, :, 0], [3, 6, 9, 12, 16, 20, 26, 32], atol=1e-3)
    radius = 10.0 / np.radians(30.0)
    angle = 12.0 / radius
    at = left.expert_plan[21, 3]
    np.testing.assert_allclose(at, [radius * np.sin(angle), radius * (1 - np.cos(angle))], atol=0.1)
    assert np.isnan(left.expert_plan[-1]).all() and np.isnan(left.expert_speed[-5:]).all()
    np.testing.assert_allclose(left.expert_speed[:40], 10.0, rtol=1e-5)


def test_sentences_are_the_sets_own_and_odometry_begins_with_each(drives):
    left = drives[0]
    assert [(i.step, i.sentence, i.intent) for i in left.instructions] == [
        (0, SENTENCES[0], UNREAD), (45, "Stop at the kerb", UNREAD)
    ]  # fmt: skip
    assert left.ego_observed[44, 4] == pytest.approx(88.0, rel=1e-3) and left.ego_observed[45, 4] == 0.0
    assert left.ego_observed[44, 5] == pytest.approx(np.radians(93.0), rel=0.05)


def test_the_turn_signal_says_what_the_driver_is_about_to_do_and_nothing_else_is_claimed(drives):
    left, right, _ = drives
    assert set(left.expert_reason[12:34, 0]) <= {LEFT, DECISIONS.index("change_left")}
    assert (left.expert_reason[10:30, 0] == LEFT).sum() >= 15 and (right.expert_reason[10:30, 0] == RIGHT).sum() >= 15
    assert (left.expert_reason[:10] == -1).all() and (left.expert_reason[36:] == -1).all()
    assert (left.expert_reason[:, 1:] == -1).all() and np.isnan(left.affordances).all()
    assert left.lidar is None and left.radar is None and set(left.cameras) == {"wide"}


def test_every_picture_is_of_its_own_frame_episode_and_camera(recorded):
    opened = ForeignSet(recorded, l2d(), seven_camera())
    theirs = {"front_wide": "front_left", "front_left": "left_forward", "front_right": "right_forward",
              "rear_left": "left_backward", "rear_right": "right_backward", "rear": "rear"}  # fmt: skip
    for number in (0, 2):
        episode = opened.read_episode(number)
        assert set(episode.cameras) == set(theirs)
        for ours, camera in theirs.items():
            middle = episode.cameras[ours][:, 60:, 20:-20].reshape(60, -1, 3).mean(1)
            wanted = np.stack([20 + 4 * np.minimum(np.arange(60), 55), np.full(60, 40 + 60 * number),
                               np.full(60, 30 * CAMERAS.index(camera))], 1)  # fmt: skip
            np.testing.assert_allclose(middle, wanted, atol=5.0)


def test_a_known_lens_shows_our_camera_what_it_would_see_itself():
    import av

    ours = CameraConfig(name="tele", width=64, height=32, fov_deg=30.0)
    theirs = np.zeros((540, 960, 3), np.uint8)
    theirs[:, :480] = (200, 0, 0)
    theirs[:270] += np.array([0, 0, 120], np.uint8)
    frame = av.VideoFrame.from_ndarray(theirs, format="rgb24")
    seen = Reprojection(View(field="front", fov_deg=90.0), (540, 960), ours)(frame)
    assert (seen[2:14, 2:30] == (200, 0, 120)).all(-1).mean() > 0.95 and (seen[18:, 34:] == 0).all(-1).mean() > 0.95
    # Turned 20 degrees to the left, their axis lies right of our 30 degrees: the border is out of sight.
    aside = Reprojection(View(field="front", fov_deg=90.0, yaw_deg=-20.0), (540, 960), ours)(frame)
    assert (aside[18:, :, 0] == 200).mean() > 0.95
    # What theirs does not look at is black.
    wide = CameraConfig(
        name="wide", width=192, height=64, fov_deg=190.0, projection="cylindrical", vertical_fov_deg=60.0
    )
    round_about = Reprojection(View(field="front", fov_deg=90.0), (540, 960), wide)(frame)
    degrees = np.degrees(np.arctan2(*rays_of(wide)[32, :, 1::-1].T))
    assert (round_about[20, np.abs(degrees) > 50] == 0).all() and (round_about[20, np.abs(degrees) < 40, 2] > 90).all()
    with pytest.raises(ValueError, match="sees nothing of what camera 'tele'"):
        Reprojection(View(field="front", fov_deg=40.0, yaw_deg=180.0), (540, 960), ours)


# --------------------------------------------------------------------------- learning from it


def table_of(recorded, tmp_path):
    opened = ForeignSet(recorded, l2d(), tiny())
    return build_table(opened, 4, SamplingConfig(), tiny(), tmp_path)


def test_what_a_set_lacks_is_masked_as_absent_and_takes_no_memory(recorded, tmp_path):
    table = table_of(recorded, tmp_path)
    assert table.absent == {"tele", "lidar", "radar"}
    assert len(table) == 180 and table.lidar.shape == (180, 16, 128, 2) and table.lidar.strides == (0, 0, 0, 0)
    assert table.cameras["wide"].shape == (180, 64, 192, 3) and not table.cameras["tele"].any()
    draw = Sampler(Frames([table]), SamplingConfig(drop_sensor=0.9), tiny().sensor_names(), 0).draw(0, 64, 1, 5)
    assert draw.present[:, 0].all() and not draw.present[:, 1:].any()


def test_beside_our_own_recordings_each_has_the_sensors_it_came_with(recorded, tmp_path):
    DatasetWriter(tmp_path / "ours").add(
        make_episode(cameras=(("wide", 64, 192), ("tele", 64, 128)), beams=16, columns=128)
    )
    ours = build_table(Dataset(tmp_path / "ours"), 4, SamplingConfig(), tiny(), tmp_path)
    frames = Frames([ours, table_of(recorded, tmp_path)])
    draw = Sampler(frames, SamplingConfig(drop_sensor=0.0, drop_all_but_one_camera=0.0), tiny().sensor_names(), 0).draw(
        0, 200, 1, 5
    )
    from_ours = draw.index[:, -1] < len(ours)
    assert 0 < from_ours.sum() < 200
    assert draw.present[from_ours].all() and (draw.present[~from_ours] == (True, False, False, False)).all()


def test_loss_asks_only_for_what_is_known(recorded, tmp_path, monkeypatch):
    frames = Frames([table_of(recorded, tmp_path)])
    teacher = make_teacher(LossConfig(drop_word=0.0, word_noise=0.0))
    told = sorted(set(frames.light["said"]))
    assert set(told) == {*SENTENCES, "Stop at the kerb"}
    monkeypatch.setattr(
        "drivebyword.model.reader.Reader.encode_all",
        lambda self, sentences: (
            torch.stack([torch.full((5, 576), 1000.0 + told.index(s)) for s in sentences]),
            torch.ones(len(sentences), 5, dtype=torch.bool),
        ),
    )
    teacher.read(frames)
    draw = Sampler(frames, SamplingConfig(), tiny().sensor_names(), 0).draw(0, 48, 1, 5)
    batch, target = teacher.batch(frames, draw)
    # The sentence shown is the frame's own, whatever was drawn.
    shown = [told[int(row) - 1000] for row in batch.words[:, 0, 0]]
    assert shown == [str(s) for s in frames.light["said"][draw.index[:, -1]]]
    assert (target.intent == -1).all() and target.affordances.isnan().all()
    assert (batch.tokens[..., 1:3] == -1).all() and (batch.tokens[..., 3:] >= 0).all()
    policy = make_policy().train()
    losses = teacher.losses(policy, (batch, target))
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["affordances"] == 0.0 and losses["intent"] == 0.0
    losses["loss"].backward()
    silent = [n for n, p in policy.named_parameters() if p.grad is not None and not p.grad.any()]
    assert {"affordance_head.weight", "intent_head.weight"} <= set(silent)
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
    # A path that was not driven to its end is not asked for either.
    whole = dataclasses.replace(target, plan=torch.full_like(target.plan, float("nan")))
    assert teacher.losses(policy, (batch, whole))["plan"] == 0.0


@pytest.mark.slow
def test_a_policy_learns_to_steer_from_a_set_made_elsewhere(recorded, tmp_path):
    config = dataclasses.replace(small(), data=(recorded,), layout="l2d", rounds=(RoundConfig(steps=60, batch=16),))
    train(config, tmp_path / "run", show_progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["act"] < 0.8 * rows[0]["act"] and rows[-1]["affordances"] == 0.0


# --------------------------------------------------------------------------- what does not fit


def test_a_set_made_elsewhere_without_a_layout_is_refused_with_what_to_do(recorded):
    with pytest.raises(ValueError, match=r"--layout l2d, or --layout FILE\.json"):
        Dataset(recorded)
    with pytest.raises(ValueError, match="no layout 'l2b': give l2d"):
        find_layout("l2b")


PLAIN = {
    "cameras": {"wide": {"field": "observation.images.front_left", "fov_deg": 70}},
    "speed": {"field": "observation.state.vehicle", "index": 0, "factor": 0.2777778},
    "heading": {"field": "observation.state.vehicle", "index": "heading", "factor": -0.0174533},
    "steering": {"field": "action.continuous", "index": 2},
    "throttle": {"field": "action.continuous", "index": 0},
    "brake": {"field": "action.continuous", "index": 1},
}


def test_a_json_file_maps_a_set_as_the_named_layout_does(recorded, tmp_path, drives):
    (tmp_path / "plain.json").write_text(json.dumps(PLAIN))
    episode = ForeignSet(recorded, find_layout(str(tmp_path / "plain.json")), tiny()).read_episode(0)
    np.testing.assert_allclose(episode.expert_act, drives[0].expert_act, atol=1e-6)
    np.testing.assert_allclose(episode.pose, drives[0].pose, atol=1e-2)
    assert [i.sentence for i in episode.instructions] == ["Follow the waypoints while adhering to traffic rules"]
    assert (episode.expert_reason == -1).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"speed": {"field": "observation.state.vehicel", "index": 0}}, "info.json: field 'observation.state.vehicel'"),
        ({"speed": {"field": "observation.state.vehicle", "index": "sped"}}, "vehicle: element 'sped' does not exist"),
        ({"speed": {"field": "observation.state.vehicle", "index": 8}}, "has 8 elements, none of number 8"),
        ({"speed": {"field": "observation.state.vehicle"}}, "has 8 elements: say which is the speed"),
        ({"speed": {"field": "observation.state.vehicle", "index": 0, "factor": 3.6}}, "vehicle.0. reaches 130 m/s"),
        (
            {"steering": {"field": "action.continuous", "index": 2, "factor": -1}},
            "one of the two factors has the wrong",
        ),
        ({"steering": {"field": "action.continuous", "index": 2, "factor": 100}}, "continuous.2. spans"),
        ({"cameras": {"wide": {"field": "task.policy"}}}, "field task.policy is string, not video"),
        ({"cameras": {"windscreen": {"field": "observation.images.front_left"}}}, "none of the layout's cameras"),
        ({"sentence": "action.continuous"}, "field action.continuous is float32, not string"),
        ({"steering": None}, "field steering must be Channel, got None"),
        ({"brake": {"field": "action.continuous", "indx": 1}}, "field brake.indx is unknown; nearest: index"),
        ({"yaw_rate": {"field": "timestamp"}}, "heading or yaw_rate must be given, and one of them only"),
        ({"cameras": {"wide": {}}}, "field cameras.wide.field is missing"),
    ],
)
def test_what_does_not_map_is_one_line_with_file_and_field(recorded, tmp_path, change, said):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(PLAIN | change))
    with pytest.raises(ValueError, match=said) as error:
        ForeignSet(recorded, find_layout(str(path)), tiny())
    assert "\n" not in str(error.value)


def test_another_rate_another_version_and_missing_files_are_named(tmp_path):
    root = made_set(tmp_path / "odd", episodes=1, fps=12)
    with pytest.raises(ValueError, match=r"info.json: field fps is 12: it must be a multiple of 5"):
        ForeignSet(root, l2d(), tiny())
    (tmp_path / "old").mkdir()
    root = made_set(tmp_path / "old", episodes=1, codebase_version="v2.1")
    with pytest.raises(ValueError, match=r"field codebase_version is v2.1, only v3.0"):
        ForeignSet(root, l2d(), tiny())
    root = made_set(tmp_path / "cut", episodes=2)
    opened = ForeignSet(root, l2d(), tiny())
    video = root / "videos/observation.images.front_left/chunk-000/file-000.mp4"
    video.unlink()
    with pytest.raises(ValueError, match=r"file-000.mp4 is missing"):
        opened.read_episode(0)
