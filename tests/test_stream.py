"""Claims about the order of tokens and the mask."""

import pytest
import torch

from drivebyword.tokens.stream import Layout, StreamConfig, frame_age, frame_visible, history

LAYOUT = Layout(instruction=2, frame=3, act=2)


def _mask(frames, window=2, stride=1, valid=None, key=None):
    valid = torch.ones(1, frames, dtype=torch.bool) if valid is None else valid
    key = torch.ones(1, frames, LAYOUT.frame, dtype=torch.bool) if key is None else key
    return LAYOUT.mask(history(valid, window, stride), key)[0]


def _kind(index):
    """Return (kind, frame, place) of a flat index."""
    if index < LAYOUT.instruction:
        return "instruction", -1, index
    frame, place = divmod(index - LAYOUT.instruction, LAYOUT.step)
    return ("frame", frame, place) if place < LAYOUT.frame else ("act", frame, place - LAYOUT.frame)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2)])
def test_the_mask_is_the_designs_rule_token_by_token(window, stride):
    frames = 7
    mask = _mask(frames, window, stride)
    for q in range(mask.shape[0]):
        for k in range(mask.shape[1]):
            (qk, qt, qi), (kk, kt, ki) = _kind(q), _kind(k)
            back = qt - kt
            in_window = back >= 0 and back % stride == 0 and back // stride < window
            if kk == "instruction":
                wanted = True
            elif qk == "instruction":
                wanted = False
            elif kk == "frame":
                wanted = in_window
            else:
                wanted = qk == "act" and qt == kt and ki <= qi
            assert bool(mask[q, k]) == wanted, (q, k)


def test_a_sequence_sampled_with_the_stride_has_the_run_time_mask_of_one_interleaved_stream():
    stride, window = 3, 2
    long = frame_visible(12, window, stride)
    picked = torch.arange(1, 12, stride)
    assert torch.equal(long[picked][:, picked], frame_visible(len(picked), window, 1))
    assert torch.equal(frame_age(12, stride)[picked][:, picked], frame_age(len(picked), 1))


def test_a_hidden_frame_is_seen_by_itself_and_by_no_later_frame():
    valid = torch.tensor([[True, False, True]])
    seen = history(valid, 3, 1)[0]
    assert seen.tolist() == [[True, False, False], [True, True, False], [True, False, True]]


def test_tokens_of_a_missing_sensor_are_seen_by_nobody():
    key = torch.ones(1, 2, LAYOUT.frame, dtype=torch.bool)
    key[0, 1, 2] = False
    mask = _mask(2, key=key)
    column = LAYOUT.instruction + LAYOUT.step + 2
    assert not mask[:, column].any()


def test_positions_are_the_same_in_every_frame():
    positions = LAYOUT.positions(3)
    assert positions[:2].tolist() == [0, 1]
    assert positions[2:].reshape(3, -1).eq(torch.arange(2, 7)).all()


def test_ages_count_window_steps_and_are_zero_for_the_instruction():
    ages = LAYOUT.ages(frame_age(3, 1))
    assert ages[:, :2].eq(0).all() and ages[-1, 2] == 2 and ages[-1, -1] == 0


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        StreamConfig(window=0)
