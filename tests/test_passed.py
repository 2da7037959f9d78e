"""Counting the junctions passed since a sentence."""

import dataclasses
from math import exp

import numpy as np
import pytest
import torch
from small_policy import SMALL, make_batch, make_policy

from drivebyword.model.passed import JUNCTION, Passed
from drivebyword.train.table import _passed


def drive(passed: Passed, metres) -> int:
    """Let a driver see junctions at these distances; return the count."""
    for distance in metres:
        passed.see(exp(-max(distance, 0.0) / 15))
    return passed.junctions


BLOCK = [60, 40, 20, 8, 3, 0, 0, 0]


def test_each_junction_counts_once_it_is_left():
    passed = Passed()
    assert drive(passed, BLOCK) == 0
    assert drive(passed, BLOCK) == 1
    assert drive(passed, [50.0]) == 2


def test_waiting_at_a_junction_and_trembling_views_count_nothing():
    passed = Passed()
    assert drive(passed, [30, 10, 2, 1, 2, 4, 2, 1, 5, 2, 0, 3, 0]) == 0
    assert drive(passed, [60, 30, 12, 60]) == 1


@pytest.mark.parametrize("at", [0.0, 2.0, 9.0])
def test_a_sentence_typed_at_a_junction_speaks_of_those_behind_it(at):
    passed = Passed()
    drive(passed, [60, 20, at])
    passed.hear()
    assert drive(passed, [1, 0, 0, 60, 30]) == 0
    assert drive(passed, [8, 0, 50]) == 1


def test_a_new_sentence_begins_at_nought():
    passed = Passed()
    assert drive(passed, BLOCK * 3 + [60]) == 3
    passed.hear()
    assert passed.junctions == 0 and drive(passed, [*BLOCK, 60]) == 1


@torch.inference_mode()
def test_the_policy_answers_to_what_it_has_passed():
    policy, batch = make_policy(), make_batch(SMALL.rig, 1, 1)
    plans = []
    for count in (0.0, 1.0, 2.0):
        batch.passed[:] = count
        plans.append(policy(batch).plan.numpy())
    assert not np.allclose(plans[0], plans[1]) and not np.allclose(plans[1], plans[2])


def test_training_counts_before_each_decision_as_the_driver_does(hand_drive):
    episode = hand_drive.episode  # its second sentence is typed at step 50
    seen = np.zeros((len(episode), 10), np.float32)
    seen[10:20, JUNCTION] = seen[30:40, JUNCTION] = seen[45:55, JUNCTION] = seen[60:70, JUNCTION] = 1.0
    counts = _passed(dataclasses.replace(episode, affordances=seen))
    expected = np.zeros(len(episode), np.float32)
    expected[21:], expected[41:] = 1.0, 2.0
    expected[50:] = 0.0
    expected[71:] = 1.0  # the junction it stood at, at step 50, does not count
    np.testing.assert_array_equal(counts, expected)
