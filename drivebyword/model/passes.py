"""The two passes a decision is made of: a new frame with its draft, and the act again over frames that are known.

In: what is new, and the keys and values of what is not. Out: an `Answer`, or the act's logits. Plain modules of fixed
shapes, so that other engines can compute them; who remembers what is `streaming`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from drivebyword.model.attention import KeyValue
from drivebyword.model.frame import Words
from drivebyword.model.policy import Policy
from drivebyword.tokens.stream import Batch


class Answer(NamedTuple):
    """What a pass over a new frame returns."""

    logits: Float[Tensor, "B A V"]
    plan: Float[Tensor, "B P 2"]
    speed: Float[Tensor, " B"]
    affordances: Float[Tensor, "B O"]
    key: Bool[Tensor, "B N"]
    """Which frame tokens exist."""
    cache: list[KeyValue]
    """The frame's keys and values per layer."""


class FramePass(nn.Module):
    """One frame and one draft per driver, over instruction and window."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self, seen: Batch, words: Words, past: list[KeyValue], before: Bool[Tensor, "B S"], tokens: Int[Tensor, "B A"]
    ) -> Answer:
        """Run it.

        Args:
            seen: B sequences of one frame.
            words: Each driver's sentence.
            past: Keys and values of the instruction and of a place for every age, the oldest first.
            before: Which of them may be seen.
            tokens: The drafts.
        """
        policy, layout = self.policy, self.policy.layout
        frame, key = policy.see(seen, words)
        x = torch.cat([frame[:, 0], policy.act_states(tokens[:, None])[:, 0].to(frame.dtype)], dim=1)
        key = key[:, 0]
        alone = torch.ones(len(key), 1, 1, dtype=torch.bool)
        own = layout.mask(alone, key[:, None])[:, layout.instruction :, layout.instruction :]
        mask = torch.cat([before[:, None].expand(-1, layout.step, -1), own], dim=-1)
        rows = torch.arange(layout.frame - 1, layout.step)
        ages = ages_before(policy, layout.step, layout.step)
        y, cache = policy.decoder(
            x, layout.positions(1)[layout.instruction :], mask, ages=ages, past=past, rows=rows
        )  # fmt: skip
        plan, speed = policy.plan(y[:, 0])
        kept = [(k[:, :, : layout.frame], v[:, :, : layout.frame]) for k, v in cache]
        return Answer(policy.answer(y[:, 1:]), plan, speed, policy.affordances(y[:, 0]), key, kept)


class ActPass(nn.Module):
    """The act tokens of one decision per driver, over its frame too."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self,
        tokens: Int[Tensor, "B A"],
        past: list[KeyValue],
        before: Bool[Tensor, "B S"],
        cache: list[KeyValue],
        key: Bool[Tensor, "B N"],
    ) -> Float[Tensor, "B A V"]:
        """Return the logits; `cache` and `key` are the frame's from `FramePass`."""
        policy, layout = self.policy, self.policy.layout
        causal = torch.ones(len(key), layout.act, layout.act, dtype=torch.bool).tril()
        earlier = torch.cat([before, key], dim=-1)[:, None].expand(-1, layout.act, -1)
        ages = ages_before(policy, layout.act, layout.frame + layout.act)
        x = policy.act_states(tokens[:, None])[:, 0]
        y, _ = policy.decoder(
            x, layout.positions(1)[-layout.act :], torch.cat([earlier, causal], dim=-1), ages=ages,
            past=joined([past, cache], 2),
        )  # fmt: skip
        return policy.answer(y)


def ages_before(policy: Policy, queries: int, own: int) -> Int[Tensor, "Q S"]:
    """Return the ages of instruction and window, the oldest frame first, and of `own` tokens of the frame itself."""
    layout = policy.layout
    window = range(policy.config.stream.window - 1, 0, -1)
    ages = [0] * layout.instruction + [age for age in window for _ in range(layout.frame)] + [0] * own
    return torch.tensor(ages).expand(queries, -1)


def joined(caches: Sequence[list[KeyValue]], dim: int) -> list[KeyValue]:
    """Join keys and values layer by layer along a dimension."""
    if len(caches) == 1:
        return caches[0]
    return [
        (torch.cat([layer[0] for layer in layers], dim), torch.cat([layer[1] for layer in layers], dim))
        for layers in zip(*caches, strict=True)
    ]
