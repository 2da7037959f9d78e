"""Claims about adapters: nothing changes until they learn, little learns, and folding keeps what they say."""

import dataclasses

import pytest
import torch
from small_policy import SMALL, make_batch
from torch.nn import functional as F  # noqa: N812

from drivebyword.model.adapters import AdapterConfig, adapt, folded, learning
from drivebyword.model.policy import Policy


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return Policy(SMALL).eval()


def loss_of(policy, batch):
    return F.cross_entropy(policy(batch).logits.flatten(0, 2), batch.tokens.flatten())


def test_an_adapter_that_has_learned_nothing_changes_nothing(policy):
    batch = make_batch(SMALL.rig, 2, 2)
    with torch.no_grad():
        before = policy(batch).logits
        after = adapt(policy, AdapterConfig(rank=4))(batch).logits
    assert torch.equal(before, after)


def test_only_adapters_and_what_is_not_frozen_learn(policy):
    own = {name: p.clone() for name, p in policy.decoder.named_parameters()}
    adapt(policy, AdapterConfig(rank=4))
    names = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in names if name.startswith("decoder."))
    assert not any(".experts." in name for name in names) and any(name.startswith("frame.") for name in names)
    batch = make_batch(SMALL.rig, 4, 2)
    optimizer = torch.optim.AdamW(learning(policy), lr=3e-3)
    first = loss_of(policy, batch).item()
    for _ in range(12):
        optimizer.zero_grad()
        loss_of(policy, batch).backward()
        optimizer.step()
    assert loss_of(policy, batch).item() < 0.8 * first
    kept = {name.replace(".base_layer", ""): p for name, p in policy.decoder.named_parameters() if "lora_" not in name}
    assert all(torch.equal(own[name], p) for name, p in kept.items())

    plain = folded(policy)
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in Policy(SMALL).named_parameters()}
    with torch.no_grad():
        torch.testing.assert_close(plain(batch).logits, policy(batch).logits, atol=1e-4, rtol=0.0)
    assert any(not torch.equal(own[name], p) for name, p in plain.decoder.named_parameters())


def test_a_policy_without_adapters_folds_to_itself(policy):
    assert folded(policy) is policy


@pytest.mark.parametrize(
    ("fields", "line"),
    [({"frozen": ("head",)}, "no part 'head' to freeze: enter_words"), ({"parts": ("steering",)}, "none of steering")],
)
def test_what_is_not_there_is_named(policy, fields, line):
    with pytest.raises(ValueError, match=line):
        adapt(policy, dataclasses.replace(AdapterConfig(), **fields))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        AdapterConfig(rank=0)
