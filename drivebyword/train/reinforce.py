"""Own driving in, the reinforcement terms of the loss out.

    beta * clipped ratio * advantage * log-probability of the drawn reason and driven triple
    + kappa * KL(policy || slow copy), over the same positions

The slow copy is the network that drove. It is asked again, about the recorded frames and with the learner's numerics,
so that the ratio says how far the policy has moved and nothing else: images are stored with a little loss, and what
was recorded while driving differs by that (`mismatch`).

Rows are drawn in proportion to the size of their advantage and carry its sign: the same expectation as drawing all
alike, with less noise, since most decisions of a drive change nothing. Batches are a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from drivebyword.model.policy import Policy
from drivebyword.tokens.action import DRIVEN_TOKENS
from drivebyword.tokens.stream import Batch, StreamConfig
from drivebyword.train.loss import Wordings, seen_in
from drivebyword.train.sharding import Ranks
from drivebyword.train.table import Frames, FrameTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforceConfig:
    """Weights of the terms. With beta and kappa of zero nothing is drawn and a step is imitation, bit for bit."""

    beta: float = 0.0
    """Weight of advantage x log-probability."""
    kappa: float = 0.0
    """Weight of the divergence from the slow copy."""
    share: float = 0.25
    """Rows of own driving, as a share of the demonstrations' rows."""
    clip: float = 0.2
    """How far the importance ratio counts from 1."""
    fresh: int = 2
    """Rounds back from which own driving is still used: the bound on how stale it may be."""

    @property
    def active(self) -> bool:
        """Whether own driving is drawn at all."""
        return self.beta > 0.0 or self.kappa > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """One round's groups: a table of frames, and of each what was drawn and what it earned."""

    table: FrameTable
    tokens: Int[np.ndarray, "T A"]
    log_prob: Float32[np.ndarray, " T"]
    advantage: Float32[np.ndarray, " T"]
    """0 where nothing was drawn and in groups without spread."""
    passed: Float32[np.ndarray, " T"]
    sentence: Int[np.ndarray, " T"]
    """Row of the sentence that was heard among the teacher's wordings, -1 for silence."""
    temperature: float
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Practised:
    """Rows of own driving, ready for the pass that also holds demonstrations."""

    config: ReinforceConfig
    batch: Batch
    log_prob: Float[Tensor, " B"]
    advantage: Float[Tensor, " B"]
    temperature: float
    slow: Policy
    """The network that drove these rows."""

    def losses(self, logits: Float[Tensor, "B T A V"]) -> dict[str, Tensor]:
        """Return the weighted sum as `practice`, and what it is made of."""
        answer, slow = (values[:, -1, :DRIVEN_TOKENS].float() for values in (logits, self._slow()))
        log_prob, before = self._log_prob(answer), self._log_prob(slow)
        ratio = (log_prob.detach() - before).exp()
        low, high = 1.0 - self.config.clip, 1.0 + self.config.clip
        # What has gone far enough is let be; what went too far may always come back, with a weight that is bounded.
        enough = torch.where(self.advantage > 0.0, ratio > high, ratio < low)
        weight = torch.where(enough, 0.0, ratio.clamp(max=high))
        gain = (weight * self.advantage * log_prob).mean()
        divergence = kl(answer, slow)
        clipped = ((ratio < low) | (ratio > high)).float().mean()
        return {
            "practice": -self.config.beta * gain + self.config.kappa * divergence,
            "gain": gain,
            "kl": divergence,
            "ratio": ratio.mean(),
            "clipped": clipped,
            "mismatch": (before - self.log_prob).abs().mean(),
        }

    def shared(self, ranks: Ranks) -> Practised:
        """Return one process's share of the rows."""
        rows = len(self.log_prob)
        own = ranks.own(rows)
        batch = ranks.share(self.batch, rows)
        return replace(self, batch=batch, log_prob=self.log_prob[own], advantage=self.advantage[own])

    @torch.no_grad()
    def _slow(self) -> Float[Tensor, "B T A V"]:
        return self.slow(self.batch).logits

    def _log_prob(self, logits: Float[Tensor, "B A V"]) -> Float[Tensor, " B"]:
        shares = (logits / self.temperature).log_softmax(-1)
        tokens = self.batch.tokens[:, -1, :DRIVEN_TOKENS, None]
        return shares.gather(-1, tokens)[..., 0].sum(-1)


def kl(answer: Float[Tensor, "B A V"], slow: Float[Tensor, "B A V"]) -> Float[Tensor, ""]:
    """Return KL(answer || slow), summed over the positions of a decision; illegal tokens have no part in it."""
    mine, theirs = answer.log_softmax(-1), slow.log_softmax(-1)
    legal = torch.isfinite(mine)
    gap = torch.where(legal, mine, 0.0) - torch.where(legal, theirs, 0.0)
    return (torch.where(legal, mine.exp(), 0.0) * gap).sum((-1, -2)).mean()


class Practice:
    """Draws rows of own driving; the same (seed, step) always gives the same rows of the same experience.

    All rows of a step are from one round, since all were driven by one network.
    """

    def __init__(
        self,
        experience: Sequence[Experience],
        drivers: Sequence[Policy],
        wordings: Wordings,
        stream: StreamConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.experience, self.drivers = list(experience), list(drivers)
        self.wordings, self.stream, self.seed, self.device = wordings, stream, seed, device
        self.frames = [Frames([one.table]) for one in experience]
        sizes = [np.abs(one.advantage).astype(np.float64) for one in experience]
        self.cumulative = [np.cumsum(size) for size in sizes]
        drawn = sum(int(np.isfinite(one.log_prob).sum()) for one in experience)
        self.mean = sum(float(size.sum()) for size in sizes) / max(1, drawn)

    def __bool__(self) -> bool:
        """Whether there is anything to learn from."""
        return self.mean > 0.0

    def draw(self, step: int, count: int, frames: int, config: ReinforceConfig) -> Practised:
        """Draw windows that end at a drawn decision."""
        rng = np.random.default_rng([self.seed, step, 1])
        totals = np.array([cumulative[-1] for cumulative in self.cumulative])
        chosen = int(rng.choice(len(totals), p=totals / totals.sum()))
        one, cumulative = self.experience[chosen], self.cumulative[chosen]
        last = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
        sign = np.sign(one.advantage[last]) * np.float32(self.mean)
        return Practised(
            config=config,
            batch=self._batch(one, self.frames[chosen], last, frames).to(self.device),
            log_prob=torch.from_numpy(one.log_prob[last]).to(self.device),
            advantage=torch.from_numpy(sign).to(self.device),
            temperature=one.temperature,
            slow=self.drivers[chosen],
        )

    def _batch(self, one: Experience, table: Frames, last: Int[np.ndarray, " B"], frames: int) -> Batch:
        """Return the windows as the driver met them: every sensor, its own count of junctions, its own sentence."""
        index = last[:, None] - np.arange(frames - 1, -1, -1)[None] * self.stream.stride
        first = table.light["first"][last][:, None]
        inside, index = index >= first, np.maximum(index, first)
        rows = one.sentence[last]
        words, spoken = torch.from_numpy(np.maximum(rows, 0)), torch.from_numpy(rows >= 0)
        seen = seen_in(table, index)
        return Batch(
            **seen,
            ego=torch.from_numpy(table.light["ego"][index]),
            passed=torch.from_numpy(one.passed[index]),
            present=torch.ones(*index.shape, len(seen["cameras"]) + 2, dtype=torch.bool),
            words=self.wordings.states[words].float(),
            word_mask=self.wordings.mask[words] & spoken[:, None],
            tokens=torch.from_numpy(one.tokens[index]),
            history_valid=torch.from_numpy(inside),
        )
