"""Own driving in, the reinforcement terms of the loss out.

    beta * clipped ratio * advantage, over the drawn reason and driven triple
    + kappa * KL(policy || slow copy), over the same positions

Rows are drawn in proportion to the size of their advantage and carry its sign: the same expectation as drawing all
alike, with less noise, since most decisions of a drive change nothing. Batches are a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from drivebyword.tokens.action import DRIVEN_TOKENS, ActionGrammar
from drivebyword.tokens.stream import Batch, StreamConfig
from drivebyword.train.loss import Wordings, seen_in
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
    temperature: Float[Tensor, " B"]
    slow: Float[Tensor, "B T A V"] | None = None
    """The slow copy's logits; None where nothing holds the policy back."""

    def losses(self, logits: Float[Tensor, "B T A V"]) -> dict[str, Tensor]:
        """Return the weighted sum as `practice`, and what it is made of."""
        answer = logits[:, -1, :DRIVEN_TOKENS].float()
        tokens = self.batch.tokens[:, -1, :DRIVEN_TOKENS]
        shares = (answer / self.temperature[:, None, None]).log_softmax(-1)
        ratio = (shares.gather(-1, tokens[..., None])[..., 0].sum(-1) - self.log_prob).clamp(-10.0, 10.0).exp()
        low, high = 1.0 - self.config.clip, 1.0 + self.config.clip
        gain = torch.minimum(ratio * self.advantage, ratio.clamp(low, high) * self.advantage).mean()
        divergence = answer.new_zeros(()) if self.slow is None else kl(answer, self.slow[:, -1, :DRIVEN_TOKENS].float())
        clipped = ((ratio < low) | (ratio > high)).float().mean()
        return {
            "practice": -self.config.beta * gain + self.config.kappa * divergence,
            "gain": gain,
            "kl": divergence,
            "ratio": ratio.mean(),
            "clipped": clipped,
        }


def kl(answer: Float[Tensor, "B A V"], slow: Float[Tensor, "B A V"]) -> Float[Tensor, ""]:
    """Return KL(answer || slow), summed over the positions of a decision; illegal tokens have no part in it."""
    mine, theirs = answer.log_softmax(-1), slow.log_softmax(-1)
    legal = torch.isfinite(mine)
    gap = torch.where(legal, mine, 0.0) - torch.where(legal, theirs, 0.0)
    return (torch.where(legal, mine.exp(), 0.0) * gap).sum((-1, -2)).mean()


class Practice:
    """Draws rows of own driving; the same (seed, step) always gives the same rows of the same experience."""

    def __init__(
        self,
        experience: Sequence[Experience],
        wordings: Wordings,
        grammar: ActionGrammar,
        stream: StreamConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.frames = Frames([one.table for one in experience])
        self.wordings, self.grammar, self.stream, self.seed, self.device = wordings, grammar, stream, seed, device
        self.columns = {
            name: np.concatenate([getattr(one, name) for one in experience])
            for name in ("tokens", "log_prob", "advantage", "passed", "sentence")
        }
        self.temperature = np.concatenate([np.full(len(one.table), one.temperature, np.float32) for one in experience])
        size = np.abs(self.columns["advantage"]).astype(np.float64)
        self.cumulative = np.cumsum(size)
        drawn = np.isfinite(self.columns["log_prob"])
        self.mean = float(size.sum() / max(1, drawn.sum()))

    def __bool__(self) -> bool:
        """Whether there is anything to learn from."""
        return bool(self.cumulative[-1] > 0.0)

    def draw(self, step: int, count: int, frames: int, config: ReinforceConfig) -> Practised:
        """Draw windows that end at a drawn decision."""
        rng = np.random.default_rng([self.seed, step, 1])
        last = np.searchsorted(self.cumulative, rng.random(count) * self.cumulative[-1], side="right")
        batch = self._batch(last, frames).to(self.device)
        sign = np.sign(self.columns["advantage"][last]) * self.mean
        return Practised(
            config=config,
            batch=batch,
            log_prob=torch.from_numpy(self.columns["log_prob"][last]).to(self.device),
            advantage=torch.from_numpy(sign.astype(np.float32)).to(self.device),
            temperature=torch.from_numpy(self.temperature[last]).to(self.device),
        )

    def _batch(self, last: Int[np.ndarray, " B"], frames: int) -> Batch:
        """Return the windows as the driver met them: every sensor, its own count of junctions, its own sentence."""
        light, columns = self.frames.light, self.columns
        index = last[:, None] - np.arange(frames - 1, -1, -1)[None] * self.stream.stride
        first = light["first"][last][:, None]
        inside, index = index >= first, np.maximum(index, first)
        rows = columns["sentence"][last]
        words = torch.from_numpy(np.maximum(rows, 0))
        spoken = torch.from_numpy(rows >= 0)
        seen = seen_in(self.frames, index)
        sensors = len(seen["cameras"]) + 2
        return Batch(
            **seen,
            ego=torch.from_numpy(light["ego"][index]),
            passed=torch.from_numpy(columns["passed"][index]),
            present=torch.ones(*index.shape, sensors, dtype=torch.bool),
            words=self.wordings.states[words].float(),
            word_mask=self.wordings.mask[words] & spoken[:, None],
            tokens=torch.from_numpy(columns["tokens"][index]),
            history_valid=torch.from_numpy(inside),
        )
