"""Driving by lot: draws follow the head's own distribution, and what is recorded is how likely they were."""

import dataclasses

import numpy as np
import pytest
import torch
from small_policy import SMALL, ScriptedReader, make_policy, observe

from drivebyword.core.exploration import Exploration, ExplorationConfig, Lots
from drivebyword.model.policy import Policy
from drivebyword.model.streaming import Draw, StreamingPolicy
from drivebyword.tokens.action import DRIVEN_TOKENS, ActionGrammar
from drivebyword.tokens.stream import together

GRAMMAR = ActionGrammar()


def random_logits(*shape, seed=0):
    """Return logits with illegal tokens far ahead of the legal ones, as no masked head would give them."""
    logits = np.random.default_rng(seed).normal(0.0, 1.5, (*shape, GRAMMAR.length, GRAMMAR.vocabulary))
    return np.where(GRAMMAR.legal, logits, 9.0).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_the_head_says_and_never_an_illegal_one(temperature):
    logits = random_logits()
    lots = np.random.default_rng(1).random((20_000, GRAMMAR.length))
    tokens = GRAMMAR.draw(np.broadcast_to(logits, (20_000, *logits.shape)), lots, temperature)
    assert GRAMMAR.legal[np.arange(GRAMMAR.length), tokens].all()
    for position in (0, 2, 3, 4):
        low, high = GRAMMAR.ranges[position]
        legal = torch.from_numpy(logits[position, low:high].astype(np.float64))
        shares = (legal / temperature).softmax(0).numpy()
        seen = np.bincount(tokens[:, position] - low, minlength=high - low) / 20_000
        np.testing.assert_allclose(seen, shares, atol=5 * np.sqrt(0.25 / 20_000))


def test_the_recorded_log_probability_is_that_of_the_reason_and_the_driven_triple():
    logits = random_logits(5)
    tokens = GRAMMAR.draw(logits, np.random.default_rng(2).random((5, GRAMMAR.length)), 0.7)
    masked = torch.from_numpy(np.where(GRAMMAR.legal, logits / 0.7, -np.inf)).double().log_softmax(-1)
    each = masked.gather(-1, torch.from_numpy(tokens)[..., None])[..., 0]
    wanted = each[:, :DRIVEN_TOKENS].sum(-1).numpy()
    np.testing.assert_allclose(GRAMMAR.log_prob(logits, tokens, 0.7), wanted, rtol=1e-6)


def test_extreme_lots_draw_tokens_that_have_a_share():
    logits = random_logits()
    for lot in (0.0, np.nextafter(1.0, 0.0)):
        tokens = GRAMMAR.draw(logits, np.full(GRAMMAR.length, lot), 1.0)
        assert GRAMMAR.legal[np.arange(GRAMMAR.length), tokens].all()


def test_the_same_scene_and_rollout_draw_the_same_numbers_and_others_do_not():
    def numbers(rollout, seed):
        lots = Lots(Exploration(rollout=rollout), seed, 15)
        return np.stack([lots.next() for _ in range(4)])

    one = numbers(0, 7)
    assert np.array_equal(one, numbers(0, 7))
    assert not np.isin(one, np.concatenate([numbers(1, 7), numbers(0, 8)])).any()


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_drawn_decisions_come_in_stretches_and_make_their_share(share):
    config = ExplorationConfig(share=share, stretch=5)
    lots = Lots(Exploration(rollout=0, config=config), 1, 15)
    drawn = np.array([lots.next() is not None for _ in range(40_000)])
    assert drawn.mean() == pytest.approx(share, abs=0.02)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], drawn, [0]])))
    assert ((edges[1::2] - edges[::2])[:-1] % 5 == 0).all()


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"share": 0.0}, {"share": 1.1}, {"stretch": 0}])
def test_what_nothing_could_be_drawn_by_is_refused(wrong):
    with pytest.raises(ValueError, match="exploration needs"):
        ExplorationConfig(**wrong)


def driven(policy, lots_of):
    """Drive six decisions; return them with the frames as the learner would see them."""
    streaming = StreamingPolicy(policy, ScriptedReader(policy.config.reader), first_step_only=True)
    decisions, batches = [], []
    for step in range(6):
        seen = streaming.frame_batch(observe(step), streaming.memory.passed.junctions)
        decisions.append(streaming.decide(observe(step), lots_of(step)))
        batches.append(dataclasses.replace(seen, tokens=torch.from_numpy(streaming.trace.tokens)[None, None]))
    return decisions, batches, streaming


def test_what_the_driver_records_is_what_the_learner_computes_of_the_same_decisions():
    torch.manual_seed(0)
    policy = Policy(dataclasses.replace(SMALL, stream=dataclasses.replace(SMALL.stream, window=1))).eval()
    lots = Lots(Exploration(rollout=2), 11, GRAMMAR.length)
    decisions, batches, streaming = driven(policy, lambda step: Draw(temperature=0.8, lots=lots.next()))
    states, _ = streaming.reader.read("turn left here")
    batch = dataclasses.replace(
        together(batches),
        words=states.float()[None].expand(6, -1, -1),
        word_mask=torch.ones(6, len(states), dtype=torch.bool),
    )
    with torch.inference_mode():
        logits = policy(batch).logits[:, 0].numpy()
    tokens = batch.tokens[:, 0].numpy()
    wanted = GRAMMAR.log_prob(logits, tokens, 0.8)
    np.testing.assert_allclose([d.choice.log_prob for d in decisions], wanted, atol=2e-4)
    again = Lots(Exploration(rollout=2), 11, GRAMMAR.length)
    drawn = np.stack([GRAMMAR.draw(logits[t], again.next(), 0.8) for t in range(6)])
    # Checked up to the driven triple; what follows is a draft of the next decision.
    np.testing.assert_array_equal(tokens[:, :DRIVEN_TOKENS], drawn[:, :DRIVEN_TOKENS])
    best = GRAMMAR.choose(logits)
    assert (best[:, :DRIVEN_TOKENS] != tokens[:, :DRIVEN_TOKENS]).any()


def test_a_decision_that_is_not_drawn_is_the_one_that_is_judged_and_says_so():
    policy = make_policy()
    plain, _, _ = driven(policy, lambda step: None)
    undrawn, _, _ = driven(policy, lambda step: Draw(temperature=0.8, lots=None))
    for one, other in zip(plain, undrawn, strict=True):
        np.testing.assert_array_equal(one.act.steps, other.act.steps)
        assert one.choice is None and np.isnan(other.choice.log_prob)


def test_what_is_drawn_does_not_hang_on_who_else_is_asked():
    policy = make_policy()
    reader = ScriptedReader(policy.config.reader)

    def logs(companions):
        streaming = StreamingPolicy(policy, reader, first_step_only=True, half=True)
        memories = [streaming.remember() for _ in range(companions + 1)]
        lots = [Lots(Exploration(rollout=k), 5, GRAMMAR.length) for k in range(companions + 1)]
        found = []
        for step in range(4):
            seen = [observe(step, "turn left here", seed=k) for k in range(companions + 1)]
            draws = [Draw(temperature=1.0, lots=one.next()) for one in lots]
            found.append(streaming.decide_all(memories, seen, draws)[0])
        return [(d.choice.log_prob, d.act.steps[0].tolist()) for d in found]

    assert logs(0) == logs(1) == logs(6)
