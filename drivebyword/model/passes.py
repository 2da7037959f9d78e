"""The two passes a decision is made of: a new frame with its draft, and the act again over frames that are known.

In: what is new, and a room that holds the keys and values of what is not. Out: an `Answer`, or the act's logits, and
the room with the new in its place. Plain modules of fixed shapes, so that other engines can compute them; who remembers
what is `streaming`'s affair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from drivebyword.model.attention import KeyValue
from drivebyword.model.frame import Words
from drivebyword.model.policy import Policy
from drivebyword.model.ring import Room
from drivebyword.tokens.stream import Batch


class Answer(NamedTuple):
    """What a pass over a new frame returns."""

    logits: Float[Tensor, "B A V"]
    plan: Float[Tensor, "B P 2"]
    speed: Float[Tensor, " B"]
    affordances: Float[Tensor, "B O"]
    key: Bool[Tensor, "B N"]
    """Which frame tokens exist."""


class FramePass(nn.Module):
    """One frame and one draft per driver, over instruction and window."""

    visible: Tensor
    rows: Tensor
    positions: Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy, layout = policy, policy.layout
        self.first = layout.instruction + (policy.config.stream.window - 1) * layout.frame
        """Where the new frame begins in a row of keys."""
        causal = torch.ones(layout.act, layout.act, dtype=torch.bool).tril()
        acts = nn.functional.pad(causal, (0, 0, layout.frame, 0))
        frames = torch.ones(layout.step, self.first + layout.frame, dtype=torch.bool)
        self.register_buffer("visible", torch.cat([frames, acts], dim=1)[None], persistent=False)
        self.register_buffer("rows", torch.arange(layout.frame - 1, layout.step), persistent=False)
        self.register_buffer("positions", layout.positions(1)[layout.instruction :], persistent=False)

    def forward(
        self, seen: Batch, words: Words, room: Room, tokens: Int[Tensor, "B A"]
    ) -> tuple[Answer, list[KeyValue]]:
        """Run it; return the answer, and the new tokens' keys and values, which are now in the room too.

        Args:
            seen: B sequences of one frame.
            words: Each driver's sentence.
            room: What the past left, with places for the new.
            tokens: The drafts.
        """
        policy, layout = self.policy, self.policy.layout
        frame, key = policy.see(seen, words)
        x = torch.cat([frame[:, 0], policy.act_states(tokens[:, None])[:, 0].to(frame.dtype)], dim=1)
        y, own = policy.decoder(
            x,
            self.positions,
            self.visible & _exist(room.before, key[:, 0], layout.act)[:, None],
            ages=_aged(room.ages, layout.step),
            past=room.layers(self.first),
            rows=self.rows,
        )
        plan, speed = policy.plan(y[:, 0])
        return Answer(policy.answer(y[:, 1:]), plan, speed, policy.affordances(y[:, 0]), key[:, 0]), own


class ActPass(nn.Module):
    """The act tokens of one decision per driver, from `start` on, over its frame too."""

    visible: Tensor
    positions: Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        layout = policy.layout
        self.first = layout.instruction + policy.config.stream.window * layout.frame
        causal = torch.ones(layout.act, layout.act, dtype=torch.bool).tril()
        visible = nn.functional.pad(causal, (self.first, 0), value=True)
        self.register_buffer("visible", visible[None], persistent=False)
        self.register_buffer("positions", layout.positions(1)[-layout.act :], persistent=False)

    def forward(
        self, tokens: Int[Tensor, "B A"], room: Room, key: Bool[Tensor, "B N"], start: int = 0
    ) -> Float[Tensor, "B a V"]:
        """Return the logits of the positions from `start` on; a `FramePass` has filled the room.

        Args:
            tokens: The drafts, whole.
            room: As `FramePass` left it.
            key: Which frame tokens exist.
            start: Positions before are computed already, from these very tokens.
        """
        policy, layout = self.policy, self.policy.layout
        y, _ = policy.decoder(
            policy.act_states(tokens[:, None])[:, 0, start:],
            self.positions[start:],
            self.visible[:, start:] & _exist(room.before, key, layout.act)[:, None],
            ages=_aged(room.ages, layout.step),
            past=room.layers(self.first + start),
        )
        return policy.answer(y, start)


def _exist(before: Bool[Tensor, "B P"], key: Bool[Tensor, "B N"], acts: int) -> Bool[Tensor, "B S"]:
    """Return which tokens of a row are there."""
    return torch.cat([before, key, key.new_ones(len(key), acts)], dim=-1)


def _aged(ages: Int[Tensor, "B P"], own: int) -> Int[Tensor, "B 1 S"]:
    """Return every key's age: that of the past, and 0 of the decision's own tokens."""
    return nn.functional.pad(ages, (0, own))[:, None]
