"""Drawn frames in, losses out: cross-entropy on the demonstration's reason and act, and free auxiliary terms.

Act tokens are ordered bins, so their targets are spread over the neighbouring bins: being one bin off costs
little, and every example also teaches its neighbours. Auxiliary terms read what the recording gives for free:
the path the expert was on, the speed it wanted one second ahead, the affordances it acted on, and the intent
behind the sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from drivebyword.core.records import INTENTS, PLAN_DISTANCES
from drivebyword.model.policy import Output, Policy, PolicyConfig
from drivebyword.tokens.stream import Batch, together
from drivebyword.train.table import Draw, Frames, FrameTable

if TYPE_CHECKING:
    from drivebyword.train.reinforce import Practised


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the terms."""

    reason: float = 0.8
    first_step: float = 1.0
    """Weight of the triple that is executed; the rest of the chunk weighs `later_steps`."""
    later_steps: float = 0.35
    steering: float = 1.5
    """A steering token against a pedal token."""
    spread: float = 0.7
    """Standard deviation, in bins, of the targets of act tokens."""
    plan: float = 0.5
    speed: float = 0.3
    affordances: float = 2.0
    intent: float = 0.1
    null_wordings: float = 0.25
    """Share of frames without a standing wish that are shown chatter instead of `follow the road`."""
    drop_word: float = 0.2
    """Probability that a word's state is hidden from the policy."""
    word_noise: float = 1.0
    """Noise on words' states, in standard deviations of all states: sentences are few, meanings fewer."""
    silence: float = 0.15
    """Share of the same frames that are shown no words at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a batch should answer."""

    plan: Float[Tensor, "B T P 2"]
    speed: Float[Tensor, "B T"]
    affordances: Float[Tensor, "B T O"]
    intent: Int[Tensor, " B"]
    trained: Bool[Tensor, "B T"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wordings:
    """The reader's states of every training sentence, grouped by intent."""

    states: Float[Tensor, "W L D"]
    mask: Bool[Tensor, "W L"]
    of_intent: dict[int, Int[np.ndarray, " n"]]
    row_of: dict[str, int] = field(default_factory=dict)
    """Where each sentence stands: those whose intent is known, and those that came with recordings made elsewhere."""


class Teacher:
    """Makes batches and their losses."""

    def __init__(
        self, config: LossConfig, policy: PolicyConfig, device: torch.device, wordings: Wordings | None = None
    ) -> None:
        self.config, self.grammar, self.device = config, policy.grammar, device
        self.reader = policy.reader
        self.mean: Callable[[Tensor], Tensor] = lambda value: value
        """Averages a count over the processes that share a batch."""
        self.wordings = wordings or read_wordings(policy)
        self.word_scale = float(self.wordings.states[self.wordings.mask].float().std())
        self.soft = _soft_targets(policy, config.spread).to(device)
        self.weights = _position_weights(policy, config).to(device)
        self.path_scale = torch.tensor([1.0 / (1.0 + 0.2 * d) for d in PLAN_DISTANCES], device=device)

    def batch(self, frames: Frames, draw: Draw) -> tuple[Batch, Targets]:
        """Gather drawn frames and give each window one wording of its sentence's meaning."""
        index, light = draw.index, frames.light
        rows, intent = self._words(light["intent"][index[:, -1]], light["said"][index[:, -1]], draw.wording)
        words, spoken = torch.from_numpy(np.maximum(rows, 0)), torch.from_numpy(rows >= 0)
        states, heard = self._blurred(self.wordings.states[words], self.wordings.mask[words], draw.seed)
        batch = Batch(
            **seen_in(frames, index),
            ego=torch.from_numpy(light["ego"][index]),
            passed=torch.from_numpy(light["passed"][index]),
            present=torch.from_numpy(np.repeat(draw.present[:, None], index.shape[1], axis=1)),
            words=states,
            word_mask=heard & spoken[:, None],
            tokens=torch.from_numpy(self.grammar.encode(light["reason"][index], light["act"][index])),
            history_valid=torch.from_numpy(draw.history),
        )
        targets = Targets(
            plan=torch.from_numpy(light["plan"][index]).to(self.device),
            speed=torch.from_numpy(light["speed"][index]).to(self.device),
            affordances=torch.from_numpy(light["affordances"][index]).to(self.device),
            intent=torch.from_numpy(intent).to(self.device),
            trained=torch.from_numpy(draw.trained).to(self.device),
        )
        return batch.to(self.device), targets

    def _words(
        self, intent: Int[np.ndarray, " B"], said: Shaped[np.ndarray, " B"], wording: Float[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
        """Pick a training sentence for each intent; return its row, -1 where nothing is said, and its meaning."""
        follow, null = INTENTS.index("follow"), INTENTS.index("null")
        silence, chatter = self.config.silence, self.config.silence + self.config.null_wordings
        rows, meanings = np.full(len(intent), -1), intent.copy()
        for k, (meaning, draw) in enumerate(zip(intent, wording, strict=True)):
            share = draw
            if said[k] is not None:
                rows[k] = self.wordings.row_of[said[k]]
                continue
            if meaning == follow:
                if draw < chatter:
                    meanings[k] = null
                if draw < silence:
                    continue
                low, high = (silence, chatter) if draw < chatter else (chatter, 1.0)
                share = (draw - low) / (high - low)
            rows_of = self.wordings.of_intent[int(meanings[k])]
            rows[k] = rows_of[min(int(share * len(rows_of)), len(rows_of) - 1)]
        return rows, meanings

    def read(self, frames: Frames) -> None:
        """Read sentences of recordings made elsewhere that were not read yet."""
        from drivebyword.model.reader import Reader

        new = sorted({s for s in frames.light["said"] if s is not None} - self.wordings.row_of.keys())
        if not new:
            return
        known = self.wordings
        states, mask = Reader(self.reader).encode_all(new)
        longest = max(states.shape[1], known.states.shape[1])
        both = [functional.pad(s, (0, 0, 0, longest - s.shape[1])) for s in (known.states, states)]
        heard = [functional.pad(m, (0, longest - m.shape[1])) for m in (known.mask, mask)]
        rows = {sentence: len(known.states) + k for k, sentence in enumerate(new)}
        self.wordings = Wordings(
            states=torch.cat(both),
            mask=torch.cat(heard),
            of_intent=known.of_intent,
            row_of={**known.row_of, **rows},
        )

    def _blurred(
        self, states: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"], seed: int
    ) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]:
        """Return words with noise on them and some of them hidden, so that no wording is learned by heart."""
        source = torch.Generator().manual_seed(seed)
        noise = torch.randn(states.shape, generator=source) * (self.config.word_noise * self.word_scale)
        kept = mask & (torch.rand(mask.shape, generator=source) >= self.config.drop_word)
        return states.float() + noise, torch.where(kept.any(1, keepdim=True), kept, mask)

    def losses(
        self, policy: Policy, pair: tuple[Batch, Targets], practised: Practised | None = None
    ) -> dict[str, Tensor]:
        """Return `loss` and its parts; with rows of own driving in the same pass, their terms too."""
        batch, target = pair
        if practised is None:
            return self.imitation(batch, target, policy(batch))
        answer = policy(together([batch, practised.batch]))
        count = len(batch.present)
        parts = self.imitation(batch, target, Output(*(value[:count] for value in answer)))
        own = practised.losses(answer.logits[count:])
        return {**parts, **own, "loss": parts["loss"] + own["practice"]}

    def imitation(self, batch: Batch, target: Targets, answer: Output) -> dict[str, Tensor]:
        """Return what the demonstrations' rows cost."""
        trained = target.trained.float()
        count = self.mean(trained.sum()).clamp(min=1.0)
        known = batch.tokens >= 0
        wanted = self.soft[batch.tokens.clamp(min=0)]
        each = -(wanted * answer.logits.float().log_softmax(-1).clamp(min=-50.0)).sum(-1)
        each = each * known * trained[..., None]
        reason = each[..., :3].sum() / count
        act = (each[..., 3:] * self.weights).sum() / count / self.weights.sum()
        gap = _known(answer.plan.float(), target.plan).abs().sum(-1) * self.path_scale
        plan = (gap.mean(-1) * trained).sum() / count
        gap_in_speed = _known(answer.speed.float(), target.speed)
        miss = functional.smooth_l1_loss(gap_in_speed, torch.zeros_like(gap_in_speed), reduction="none")
        speed = (miss * trained).sum() / count
        labelled = target.affordances.isfinite()
        wanted_seen = target.affordances.nan_to_num()
        blur = functional.binary_cross_entropy_with_logits(answer.affordances, wanted_seen, reduction="none") * labelled
        seen = (blur.mean(-1) * trained).sum() / count
        meant = self.mean((target.intent >= 0).sum()).clamp(min=1)
        intent = (
            functional.cross_entropy(answer.intent.float(), target.intent, ignore_index=-1, reduction="sum") / meant
        )
        c = self.config
        parts = {"reason": reason / 3.0, "plan": plan, "speed": speed, "affordances": seen, "intent": intent}
        loss = 3.0 * act + sum(getattr(c, name) * value for name, value in parts.items())
        return {"loss": loss, "act": act, **parts}


def _known(answer: Tensor, target: Tensor) -> Tensor:
    """Return answer less target, 0 where the target is not known (NaN)."""
    return torch.where(target.isfinite(), answer - target.nan_to_num(), 0.0)


def seen_in(frames: Frames, index: Int[np.ndarray, "B T"]) -> dict[str, Any]:
    """Return what the sensors saw in some frames, as a batch has it."""
    cameras = {name: torch.from_numpy(frames.heavy(partial(_camera, name), index)) for name in frames.tables[0].cameras}
    return {
        "cameras": cameras,
        "lidar": torch.from_numpy(frames.heavy(lambda table: table.lidar, index).astype(np.float32)),
        "radar": torch.from_numpy(frames.heavy(lambda table: table.radar, index)),
        "radar_valid": torch.from_numpy(frames.heavy(lambda table: table.radar_valid, index)),
    }


def _camera(name: str, table: FrameTable) -> np.ndarray:
    """Return a table's pictures of one camera."""
    return table.cameras[name]


def read_wordings(policy: PolicyConfig) -> Wordings:
    """Read every training sentence once with the policy's language model."""
    from drivebyword.model.reader import Reader
    from drivebyword.tokens.grammar import all_wordings

    pairs = all_wordings("train")
    states, mask = Reader(policy.reader).encode_all([sentence for sentence, _ in pairs])
    meanings = np.array([INTENTS.index(intent) for _, intent in pairs])
    of_intent = {i: np.flatnonzero(meanings == i) for i in range(len(INTENTS))}
    row_of = {sentence: row for row, (sentence, _) in enumerate(pairs)}
    return Wordings(states=states, mask=mask, of_intent=of_intent, row_of=row_of)


def _soft_targets(policy: PolicyConfig, spread: float) -> Float[Tensor, "V V"]:
    """Return the target distribution of each token: itself, or for act tokens a bell over its kind's bins."""
    grammar = policy.grammar
    size = grammar.vocabulary
    soft = torch.eye(size)
    for kind in range(3, 6):
        low, high = grammar.starts[kind], grammar.starts[kind + 1]
        bins = torch.arange(high - low).float()
        bell = torch.exp(-0.5 * ((bins[:, None] - bins[None]) / spread) ** 2)
        soft[low:high, low:high] = bell / bell.sum(1, keepdim=True)
    return soft


def _position_weights(policy: PolicyConfig, config: LossConfig) -> Float[Tensor, " n"]:
    """Return the weight of each act token."""
    steps = [config.first_step] + [config.later_steps] * (policy.grammar.future_steps - 1)
    return torch.tensor([w * kind for w in steps for kind in (config.steering, 1.0, 1.0)])
