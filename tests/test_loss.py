"""What the teacher shows and asks: wishes in many wordings, never replaced; words blurred, never all of them."""

import numpy as np
import pytest
import torch
from made_tables import make_table
from small_policy import SMALL

from drivebyword.core.records import INTENTS
from drivebyword.train.loss import LossConfig, Teacher, Wordings
from drivebyword.train.table import Frames, Sampler, SamplingConfig

FOLLOW, NULL, LEFT = (INTENTS.index(name) for name in ("follow", "null", "left"))
PER_INTENT = 3


def make_teacher(config: LossConfig) -> Teacher:
    """Return a teacher whose wordings carry their number, three an intent."""
    count = PER_INTENT * len(INTENTS)
    states = torch.arange(count)[:, None, None].expand(count, 4, SMALL.word_width).float().clone()
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[:, 3] = False
    of_intent = {i: np.arange(i * PER_INTENT, (i + 1) * PER_INTENT) for i in range(len(INTENTS))}
    return Teacher(config, SMALL, torch.device("cpu"), Wordings(states=states, mask=mask, of_intent=of_intent))


def shown(config: LossConfig, intent: int, count: int = 900):
    """Return the batch and targets of many frames under one intent."""
    frames = Frames([make_table()])
    frames.light["intent"][:] = intent
    draw = Sampler(frames, SamplingConfig(), ("wide", "tele", "lidar", "radar"), seed=0).draw(0, count, 1, 1)
    return make_teacher(config).batch(frames, draw)


@pytest.fixture
def clear() -> LossConfig:
    return LossConfig(drop_word=0.0, word_noise=0.0)


def test_a_wish_is_always_shown_in_words_of_its_own_meaning_and_in_all_of_them(clear):
    batch, targets = shown(clear, LEFT)
    rows = batch.words[:, 0, 0].long()
    assert set(rows.tolist()) == set(range(LEFT * PER_INTENT, (LEFT + 1) * PER_INTENT))
    assert batch.word_mask[:, :3].all() and (targets.intent == LEFT).all()


def test_without_a_wish_some_frames_are_silent_some_chatter_and_the_target_says_so(clear):
    batch, targets = shown(clear, FOLLOW)
    silent = ~batch.word_mask.any(1)
    meaning = batch.words[:, 0, 0].long() // PER_INTENT
    assert silent.float().mean() == pytest.approx(clear.silence, abs=0.05)
    assert (targets.intent[silent] == NULL).all()
    assert (~silent & (meaning == NULL)).float().mean() == pytest.approx(clear.null_wordings, abs=0.05)
    assert torch.equal(targets.intent[~silent], meaning[~silent])


def test_words_are_blurred_and_dropped_but_never_all_of_a_sentence():
    config = LossConfig(drop_word=0.5, word_noise=1.0)
    batch, _ = shown(config, LEFT)
    plain, _ = shown(LossConfig(drop_word=0.0, word_noise=0.0), LEFT)
    noise = (batch.words - plain.words).std().item()
    assert noise == pytest.approx(make_teacher(config).word_scale, rel=0.05)
    heard = batch.word_mask[:, :3]
    assert heard.any(1).all() and heard.float().mean() == pytest.approx(0.5 + 0.5**3, abs=0.05)
    assert not batch.word_mask[:, 3].any()
