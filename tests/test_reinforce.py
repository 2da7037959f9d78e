"""The one loss: imitation alone where beta is zero, bit for bit; praise and blame move what was drawn; a copy holds."""

import dataclasses

import numpy as np
import pytest
import torch
from made_tables import make_table
from small_policy import SMALL
from test_loss import make_teacher

from drivebyword.model.policy import Policy
from drivebyword.tokens.action import DRIVEN_TOKENS
from drivebyword.train.loss import LossConfig
from drivebyword.train.reinforce import Experience, Practice, ReinforceConfig, kl
from drivebyword.train.table import Frames, Sampler, SamplingConfig

SENSORS = ("wide", "tele", "lidar", "radar")
GRAMMAR = SMALL.grammar


def tables():
    """Return a table with the small policy's sensors."""
    table, rng, rig = make_table(), np.random.default_rng(3), SMALL.rig
    count = len(table)
    table.cameras = {c.name: rng.integers(0, 255, (count, c.height, c.width, 3), dtype=np.uint8) for c in rig.cameras}
    table.lidar = (rng.random((count, rig.lidar.beams, rig.lidar.columns, 2)) * 50).astype(np.float16)
    table.radar = rng.random((count, rig.radar.detections, 4), dtype=np.float32)
    table.radar_valid = rng.random((count, rig.radar.detections)) < 0.5
    return table


@pytest.fixture(scope="module")
def table():
    return tables()


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return Policy(SMALL).eval()


def experience_of(table, advantage, **changes):
    rng = np.random.default_rng(4)
    low, high = GRAMMAR.ranges.T
    count = len(table)
    values = {
        "table": table,
        "tokens": low + (rng.random((count, GRAMMAR.length)) * (high - low)).astype(np.int64),
        "log_prob": np.full(count, -12.0, np.float32),
        "advantage": np.asarray(advantage, np.float32),
        "passed": np.zeros(count, np.float32),
        "sentence": np.where(np.arange(count) % 3 == 0, -1, 2),
        "temperature": 0.8,
        "round": 0,
    }
    return Experience(**(values | changes))


def practice_of(*experience, driver=None):
    teacher = make_teacher(LossConfig())
    torch.manual_seed(0)
    drivers = [driver or Policy(SMALL).eval()] * len(experience)
    return Practice(experience, drivers, teacher.wordings, SMALL.stream, 0, torch.device("cpu"))


def losses(policy, table, practice, config, step=0):
    """Return the losses of a step as the loop takes it."""
    teacher = make_teacher(LossConfig())
    frames = Frames([table])
    draw = Sampler(frames, SamplingConfig(), SENSORS, seed=0).draw(step, 4, 1, 1)
    practised = practice.draw(step, 4, 1, config) if config.active else None
    return teacher.losses(policy, teacher.batch(frames, draw), practised)


def test_with_a_beta_of_zero_losses_and_gradients_are_imitations_bit_for_bit(policy, table):
    teacher = make_teacher(LossConfig())
    frames = Frames([table])
    draw = Sampler(frames, SamplingConfig(), SENSORS, seed=0).draw(0, 4, 1, 1)
    plain = teacher.losses(policy, teacher.batch(frames, draw))
    plain["loss"].backward()
    wanted = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    practice = practice_of(experience_of(table, np.ones(len(table))))
    assert not ReinforceConfig().active
    found = losses(policy, table, practice, ReinforceConfig())
    found["loss"].backward()
    assert found.keys() == plain.keys() and all(torch.equal(found[k], plain[k]) for k in plain)
    assert all(torch.equal(p.grad, wanted[n]) for n, p in policy.named_parameters() if p.grad is not None)


def test_the_imitation_in_a_mixed_batch_is_the_imitation(policy, table):
    practice = practice_of(experience_of(table, np.ones(len(table))))
    alone = losses(policy, table, practice, ReinforceConfig())
    mixed = losses(policy, table, practice, ReinforceConfig(beta=0.5, kappa=0.1))
    for name in alone.keys() - {"loss"}:
        assert float(mixed[name]) == pytest.approx(float(alone[name]), rel=1e-4)
    assert float(mixed["loss"]) == pytest.approx(float(alone["loss"] + mixed["practice"]), rel=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_earned_more_becomes_likelier_and_what_earned_less_rarer(policy, table, sign):
    practice = practice_of(experience_of(table, np.full(len(table), sign)))
    config = ReinforceConfig(beta=1.0)

    def log_prob(practised):
        logits = policy(practised.batch).logits[:, -1].detach().numpy()
        return GRAMMAR.log_prob(logits, practised.batch.tokens[:, -1].numpy(), 0.8)

    practised = practice.draw(0, 16, 1, config)
    before = log_prob(practised)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    found = practised.losses(policy(practised.batch).logits)
    assert float(found["ratio"]) == pytest.approx(1.0, abs=1e-3) and float(found["clipped"]) == 0.0
    found["practice"].backward()
    optimizer.step()
    assert sign * (log_prob(practised) - before).mean() > 0.0


def test_the_gradient_is_the_advantage_times_that_of_the_log_probability(policy, table):
    practice = practice_of(experience_of(table, np.linspace(-1, 1, len(table))))
    practised = practice.draw(0, 8, 1, ReinforceConfig(beta=2.0))
    logits = policy(practised.batch).logits.detach().requires_grad_()
    tokens = practised.batch.tokens[:, -1, :DRIVEN_TOKENS]
    shares = (logits[:, -1, :DRIVEN_TOKENS] / 0.8).log_softmax(-1)
    each = shares.gather(-1, tokens[..., None])[..., 0].sum(-1)
    (found,) = torch.autograd.grad(practised.losses(logits)["practice"], logits)
    (wanted,) = torch.autograd.grad(-2.0 * (practised.advantage * each).mean(), logits)
    torch.testing.assert_close(found, wanted.nan_to_num(), rtol=1e-4, atol=1e-7)


def test_a_stale_ratio_stops_to_count_where_it_would_go_further(policy, table):
    practised = practice_of(experience_of(table, np.ones(len(table)))).draw(0, 8, 1, ReinforceConfig(beta=1.0))
    logits = policy(practised.batch).logits.detach()
    tokens = practised.batch.tokens[:, -1, :DRIVEN_TOKENS]
    far = logits.clone()
    far[:, -1, :DRIVEN_TOKENS].scatter_add_(-1, tokens[..., None], torch.full((8, DRIVEN_TOKENS, 1), 3.0))
    far.requires_grad_()
    found = practised.losses(far)
    found["practice"].backward()
    assert float(found["clipped"]) == 1.0 and float(far.grad.nan_to_num().abs().max()) == 0.0
    back = dataclasses.replace(practised, advantage=-practised.advantage).losses(far)["practice"]
    (pulled,) = torch.autograd.grad(back, far)
    assert float(pulled.nan_to_num().abs().max()) > 0.0, "what went too far may always come back"


def test_decisions_are_drawn_by_the_size_of_their_advantage_and_nothing_where_it_is_zero(table):
    advantage = np.zeros(len(table))
    advantage[[10, 50]] = 3.0, -1.0
    practice = practice_of(experience_of(table, advantage))
    config = ReinforceConfig(beta=1.0)
    drawn = [practice.draw(step, 40, 1, config) for step in range(5)]
    signs = torch.cat([one.advantage for one in drawn])
    assert set(signs.sign().tolist()) == {1.0, -1.0}
    assert (signs > 0).float().mean() == pytest.approx(0.75, abs=0.1)
    # The expectation is that of drawing all alike.
    assert float(signs.mean()) * 1.0 == pytest.approx(advantage.mean(), abs=0.02)
    first, again = practice.draw(3, 40, 1, config), drawn[3]
    assert torch.equal(first.batch.ego, again.batch.ego) and torch.equal(first.log_prob, again.log_prob)
    assert not practice_of(experience_of(table, np.zeros(len(table))))


def test_kl_is_zero_from_oneself_positive_from_others_and_blind_to_illegal_tokens(policy, table):
    practice = practice_of(experience_of(table, np.ones(len(table))), driver=policy)
    practised = practice.draw(0, 4, 1, ReinforceConfig(kappa=1.0))
    logits = policy(practised.batch).logits[:, -1, :DRIVEN_TOKENS]
    assert float(practised.losses(policy(practised.batch).logits)["kl"]) == pytest.approx(0.0, abs=1e-5)
    other = logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    legal = torch.from_numpy(GRAMMAR.legal[:DRIVEN_TOKENS])
    by_hand = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=other.masked_fill(~legal, -1e9)),
        torch.distributions.Categorical(logits=logits.masked_fill(~legal, -1e9)),
    )
    assert float(kl(other, logits)) == pytest.approx(float(by_hand.sum(-1).mean()), rel=1e-4) and by_hand.sum() > 0


def test_rows_of_a_step_are_from_one_round_and_meet_the_network_that_drove_them(table):
    torch.manual_seed(1)
    one, two = Policy(SMALL).eval(), Policy(SMALL).eval()
    teacher = make_teacher(LossConfig())
    old = experience_of(table, np.ones(len(table)), temperature=0.5)
    new = experience_of(table, np.full(len(table), 3.0), temperature=0.9, round=1)
    practice = Practice([old, new], [one, two], teacher.wordings, SMALL.stream, 0, torch.device("cpu"))
    drawn = [practice.draw(step, 4, 1, ReinforceConfig(beta=1.0)) for step in range(60)]
    assert all((p.slow is one) == (p.temperature == 0.5) for p in drawn)
    assert np.mean([p.slow is two for p in drawn]) == pytest.approx(0.75, abs=0.15)
