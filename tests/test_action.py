"""Claims about reasons and acts as tokens."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivebyword.core.records import CAUSES, DECISIONS, RELATIONS, Reason
from drivebyword.tokens.action import UNKNOWN, ActionGrammar
from drivebyword.tokens.text import render, unreadable

GRAMMAR = ActionGrammar()
LOGITS = hnp.arrays(
    np.float32,
    (GRAMMAR.length, GRAMMAR.vocabulary),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


@settings(max_examples=60, deadline=None)
@given(LOGITS)
def test_any_logits_decode_to_a_well_formed_reason_and_act(logits):
    reason, act = GRAMMAR.decode_one(GRAMMAR.choose(logits))
    assert act.steps.shape == (GRAMMAR.future_steps, 3)
    assert np.abs(act.steps[:, 0]).max() <= 1 and act.steps[:, 1:].min() >= 0 and act.steps.max() <= 1
    assert reason.decision < len(DECISIONS) and reason.cause < len(CAUSES) and reason.relation < len(RELATIONS)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, (5, 4, 3), elements=st.floats(0, 1)), st.integers(0, 2**30))
def test_round_trip_error_is_the_stated_one(values, seed):
    sign = np.random.default_rng(seed).choice([-1, 1], (5, 4))
    values[..., 0] *= sign
    reason = np.zeros((5, 3), np.int64)
    back_reason, back = GRAMMAR.decode(GRAMMAR.encode(reason, values))
    error = np.abs(back - values)
    assert (back_reason == reason).all()
    assert error[..., 0].max() <= 0.026 and error[..., 1:].max() <= 0.043
    assert (error[..., 0][np.abs(values[..., 0]) < 0.004] <= 0.0021).all()


def test_zero_is_exact_and_tokens_of_kinds_never_overlap():
    steps = np.zeros((4, 3))
    assert (GRAMMAR.decode(GRAMMAR.encode(np.zeros(3, np.int64), steps))[1] == 0).all()
    kinds = {int(k): tuple(GRAMMAR.ranges[i]) for i, k in enumerate(GRAMMAR.kinds)}
    ends = sorted(kinds.values())
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends)) and ends[-1][1] == GRAMMAR.begin


def test_every_token_survives_decode_then_encode():
    for position, (low, high) in enumerate(GRAMMAR.ranges):
        for token in range(low, high):
            tokens = GRAMMAR.ranges[:, 0].copy()
            tokens[position] = token
            assert (GRAMMAR.encode(*GRAMMAR.decode(tokens)) == tokens).all()


def test_a_missing_reason_is_no_target():
    tokens = GRAMMAR.encode(np.full((2, 3), -1), np.zeros((2, 4, 3)))
    assert (tokens[:, :3] == UNKNOWN).all() and (tokens[:, 3:] >= 0).all()


def test_the_draft_is_the_chunk_one_step_on():
    steps = np.stack([np.linspace(-0.5, 0.5, 4), np.linspace(0, 1, 4), np.zeros(4)], axis=1)
    _, moved = GRAMMAR.decode(GRAMMAR.shifted(GRAMMAR.encode(np.ones(3, np.int64), steps)))
    _, kept = GRAMMAR.decode(GRAMMAR.encode(np.ones(3, np.int64), steps))
    np.testing.assert_array_equal(moved, kept[[1, 2, 3, 3]])


def test_illegal_tokens_and_values_are_refused():
    with pytest.raises(ValueError, match="illegal at its position"):
        GRAMMAR.decode(np.full(GRAMMAR.length, GRAMMAR.begin))
    with pytest.raises(ValueError, match="not finite"):
        GRAMMAR.encode(np.zeros(3, np.int64), np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="zero in the middle"):
        ActionGrammar(steering_bins=64)


def test_every_reason_renders_to_english():
    sentences = {
        render(Reason(d, c, r))
        for d in range(len(DECISIONS))
        for c in range(len(CAUSES))
        for r in range(len(RELATIONS))
    }
    assert len(sentences) == len(DECISIONS) * len(CAUSES) * len(RELATIONS)


@pytest.mark.parametrize("text", ["", "   ", "?!", "a" * 201, "前方路口请左转", "поверните налево", "12 34"])
def test_what_is_no_english_sentence_is_not_read(text):
    assert unreadable(text)


def test_plain_english_with_a_typo_or_an_accent_is_read():
    assert unreadable("turn left at the café, pls") is None
