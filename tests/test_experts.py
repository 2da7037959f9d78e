"""Claims about mixtures of experts: dropless, the naive sum in values and gradients, whatever the loads."""

import copy
from itertools import accumulate

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from drivebyword.model.experts import MixtureOfExperts, RoutingConfig, _filled, _plan

KINDS = {
    "one of four": (4, 1, RoutingConfig(shares=False)),
    "two of eight": (8, 2, RoutingConfig()),
    "six of sixteen in groups, softmax": (16, 6, RoutingConfig(scores="softmax", groups=4, top_groups=2, scale=1.5)),
    "cut off": (4, 2, RoutingConfig(limit=0.5)),
}


def mixture_of(kind, dtype=torch.float64):
    experts, top, routing = KINDS[kind]
    torch.manual_seed(0)
    return MixtureOfExperts(24, 16, 8, experts, top, 0.0, routing).to(dtype)


def plain(feed, x):
    """Compute a gated feed-forward as its paper writes it."""
    gate, up = F.linear(x, feed.gate_up.weight).chunk(2, -1)
    if feed.limit is not None:
        gate, up = gate.clamp(max=feed.limit), up.clamp(-feed.limit, feed.limit)
    return F.linear(F.silu(gate) * up, feed.down.weight)


def naive(mixture, x):
    """Ask every expert about every token, one after another; add the chosen ones' answers."""
    gate, chosen = mixture.route(x)
    routed = torch.stack(
        [
            sum(gate[t, k] * plain(mixture.experts[int(chosen[t, k])], x[t]) for k in range(mixture.top))
            for t in range(len(x))
        ]
    )
    return plain(mixture.shared, x) + routed


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_naive_sum(kind):
    mixture = mixture_of(kind)
    x = torch.randn(37, 24, dtype=torch.float64) + 0.3
    answers = []
    for run in (mixture, lambda x: naive(mixture, x)):
        mixture.zero_grad()
        inputs = x.clone().requires_grad_()
        y = run(inputs)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        answers.append([y, inputs.grad, *(p.grad for p in mixture.parameters())])
    for ours, theirs in zip(*answers, strict=True):
        if ours is None:  # an expert nobody asked
            assert theirs is None
            continue
        assert (ours - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_groups_are_filled_and_nothing_else_changes(kind):
    mixture = mixture_of(kind, torch.float32)
    exact = copy.deepcopy(mixture)
    x = torch.randn(90, 24)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixture(x)
    (y.float().square().sum()).backward()
    wanted = exact(x)
    wanted.square().sum().backward()
    assert F.cosine_similarity(y.float().flatten(), wanted.flatten(), 0) > 0.999
    for ours, theirs in zip(mixture.parameters(), exact.parameters(), strict=True):
        if theirs.grad is not None and theirs.grad.norm() > 1e-3:
            assert F.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), 0) > 0.99


def test_one_expert_may_take_every_token():
    mixture = mixture_of("one of four")
    mixture.bias[2] = 100.0
    x = torch.randn(11, 24, dtype=torch.float64, requires_grad=True)
    y = mixture(x)
    assert (mixture.chosen == 2).all()
    torch.testing.assert_close(y, naive(mixture, x))
    y.sum().backward()
    assert mixture.experts[0].down.weight.grad is None and mixture.experts[2].down.weight.grad is not None


def test_frozen_experts_learn_nothing_and_pass_the_gradient_on():
    mixture = mixture_of("two of eight")
    mixture.experts.requires_grad_(False)
    x = torch.randn(9, 24, dtype=torch.float64, requires_grad=True)
    mixture(x).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in mixture.experts.parameters())


@pytest.mark.parametrize("fill", [False, True])
def test_every_choice_has_a_row_of_its_own_in_its_experts_group(fill):
    torch.manual_seed(0)
    chosen = torch.rand(400, 8).topk(2).indices
    chosen[:300, 0] = torch.where(chosen[:300, 1] == 3, 2, 3)
    load = torch.bincount(chosen.flatten(), minlength=8).tolist()
    plan = _plan(chosen, load, fill)
    assert plan.places.unique().numel() == 800 and torch.equal(
        plan.source[plan.places], torch.arange(400)[:, None].expand(-1, 2)
    )
    ends = list(accumulate(plan.sizes, initial=0))
    for e in range(8):
        inside = (plan.places >= ends[e]) & (plan.places < ends[e + 1])
        assert torch.equal(inside, chosen == e)
    assert len(plan.source) <= (1.1 * 800 + 8 * 8 if fill else 800)


def test_sizes_that_come_again_are_few():
    sizes = {_filled(n) for n in range(1, 4097)}
    assert len(sizes) < 160 and all(n <= _filled(n) <= max(n + 8, n * 17 / 16) for n in range(4097))
