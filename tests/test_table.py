"""Sampling for training: reproducible batches, windows that stay inside an episode and under one sentence."""

import dataclasses

import numpy as np
import pytest
from made_tables import make_table

from drivebyword.train.table import Frames, Sampler, SamplingConfig, _weights

SENSORS = ("wide", "tele", "lidar", "radar")


def test_the_same_seed_and_step_draw_the_same_batch_and_others_do_not():
    sampler = Sampler(Frames([make_table()]), SamplingConfig(), SENSORS, seed=3)
    one, again, other = sampler.draw(5, 16, 3, 5), sampler.draw(5, 16, 3, 5), sampler.draw(6, 16, 3, 5)
    assert np.array_equal(one.index, again.index) and np.array_equal(one.present, again.present)
    assert np.array_equal(one.wording, again.wording)
    assert not np.array_equal(one.index, other.index)


def test_windows_never_leave_their_episode_and_train_only_under_one_sentence():
    table = make_table()
    sampler = Sampler(Frames([table]), SamplingConfig(), SENSORS, seed=1)
    draw = sampler.draw(0, 256, 4, 5)
    last = draw.index[:, -1:]
    assert (table.episode[draw.index] == table.episode[last]).all()
    trained_sentence = np.where(draw.trained, table.sentence[draw.index], table.sentence[last])
    assert (trained_sentence == table.sentence[last]).all()
    assert draw.trained[:, -1].all() and draw.history[:, -1].all()
    spacing = np.diff(draw.index, axis=1)
    assert ((spacing == 5) | ~draw.trained[:, :-1]).all()


def test_frames_are_drawn_in_proportion_to_their_weight():
    table = make_table(1, 40)
    sampler = Sampler(Frames([table]), SamplingConfig(), SENSORS, seed=2)
    drawn = np.bincount(np.concatenate([sampler.draw(s, 500, 1, 5).index[:, -1] for s in range(40)]), minlength=40)
    expected = table.weight / table.weight.sum() * drawn.sum()
    assert np.abs(drawn - expected).max() < 6 * np.sqrt(expected.max())


def test_a_sensor_is_sometimes_missing_and_never_are_all():
    sampler = Sampler(Frames([make_table()]), SamplingConfig(drop_sensor=0.5), SENSORS, seed=2)
    present = np.concatenate([sampler.draw(s, 64, 1, 5).present for s in range(10)])
    assert present.any(1).all()
    assert (present.mean(0)[1:] < 0.6).all() and (present.mean(0)[1:] > 0.35).all()


def test_several_tables_read_as_one_and_keep_episodes_and_sentences_apart():
    one, two = make_table(), make_table()
    two.lidar = two.lidar + np.float16(5)
    both = Frames([one, two])
    assert len(both) == 2 * len(one)
    assert both.light["first"][len(one)] == len(one)
    assert len(np.unique(both.light["episode"])) == 6 and len(np.unique(both.light["sentence"])) == 12
    index = np.array([[3, len(one) + 3], [len(one) - 1, len(one)]])
    got = both.heavy(lambda table: table.lidar, index)
    assert np.array_equal(got[0, 0], one.lidar[3]) and np.array_equal(got[0, 1], two.lidar[3])
    assert np.array_equal(got[1, 0], one.lidar[-1]) and np.array_equal(got[1, 1], two.lidar[0])


@pytest.mark.parametrize("history", [0.0, 1.0])
def test_hiding_history_hides_every_past_frame_and_never_the_present(history: float):
    sampler = Sampler(Frames([make_table()]), SamplingConfig(drop_history=history), SENSORS, seed=2)
    draw = sampler.draw(0, 64, 3, 2)
    assert draw.history[:, -1].all()
    assert draw.history[:, :-1].any() == (history == 0.0)


def test_where_the_driver_was_wrong_weighs_more_and_a_swinging_expert_nothing(hand_drive):
    episode = hand_drive.episode
    count = len(episode)
    expert = np.zeros((count, 3), np.float32)
    expert[:, 1] = 0.3
    act = np.repeat(expert[:, None], episode.act.shape[1], axis=1)
    calm = dataclasses.replace(episode, act=act, expert_act=expert)
    plain = _weights(calm, SamplingConfig())
    wrong = act.copy()
    wrong[10, 0, 0], wrong[20, 0, 2], wrong[30, 0, 1] = 0.25, 0.7, 0.45
    weighed = _weights(dataclasses.replace(calm, act=wrong), SamplingConfig())
    assert weighed[10] == pytest.approx(1.5 * plain[10]) and weighed[20] == pytest.approx(2.5 * plain[20])
    assert weighed[30] == plain[30] and np.array_equal(np.delete(weighed, [10, 20]), np.delete(plain, [10, 20]))
    swinging = expert.copy()
    swinging[40:44, 0] = [1.0, -1.0, 1.0, 0.0]
    weighed = _weights(dataclasses.replace(calm, expert_act=swinging), SamplingConfig())
    assert (weighed[39:45] == 0).all() and (weighed[:38] > 0).all() and (weighed[47:] > 0).all()
