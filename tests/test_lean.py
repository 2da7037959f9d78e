"""Claims about large policies in little memory: the same policy, built a block at a time, that decides and learns."""

import pytest
import torch
from small_policy import SMALL, ScriptedReader, make_batch, observe
from torch.nn import functional as F  # noqa: N812

from drivebyword.evaluate.large import SPARE, bench_large, free_bytes
from drivebyword.model.adapters import learning
from drivebyword.model.lean import adapted, lean_bytes, lean_policy
from drivebyword.model.policy import Policy
from drivebyword.model.streaming import StreamingPolicy
from drivebyword.presets import preset


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return lean_policy(SMALL)


def test_it_has_the_parts_of_a_policy_and_matrices_of_half_the_size(policy):
    whole = Policy(SMALL).state_dict()
    assert {name: value.shape for name, value in policy.state_dict().items()} == {k: v.shape for k, v in whole.items()}
    linear = [m for m in policy.modules() if isinstance(m, torch.nn.Linear)]
    routers = {id(block.feed.router) for block in policy.decoder.blocks[1:]}
    assert all(m.weight.dtype == (torch.float32 if id(m) in routers else torch.bfloat16) for m in linear)


def test_it_decides_and_adapters_learn_what_it_is_shown(policy):
    driver = StreamingPolicy(policy, ScriptedReader(SMALL.reader), half=True)
    driver.decide(observe(0))
    assert driver.trace.tokens.shape == (SMALL.grammar.length,)

    adapted(policy, rank=4)
    assert all(p.dtype == torch.float32 for p in learning(policy))
    assert not any(p.requires_grad for p in policy.frame.parameters())
    batch = make_batch(SMALL.rig, 2, 1)
    optimizer = torch.optim.AdamW(learning(policy), lr=3e-3)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(policy(batch).logits.flatten(0, 2), batch.tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_largest_moment_is_far_below_the_whole_in_float32():
    config = preset("base").policy
    assert 4e9 < lean_bytes(config) < 6e9


def test_short_memory_and_no_steps_are_said_before_anything_is_built(monkeypatch):
    config = preset("base").policy
    monkeypatch.setattr("drivebyword.evaluate.large.free_bytes", lambda: int(3e9))
    with pytest.raises(ValueError, match=r"base needs about .* GB of free memory; there are 3.0"):
        bench_large("base", config, 1, print)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        bench_large("base", config, 0, print)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_base_takes_one_real_step_and_one_decision():
    config = preset("base").policy
    needed, free = lean_bytes(config) + SPARE, free_bytes()
    if free < needed + 2e9:
        pytest.skip(f"two billion parameters need {(needed + 2e9) / 1e9:.1f} GB to spare, there are {free / 1e9:.1f}")
    rows = bench_large("base", config, 1, print)["rows"]
    assert rows["base: parameters"]["value"] > 1900
    assert rows["base: loss after"]["value"] < rows["base: loss before"]["value"]
