"""The policy: sensors and a sentence in, reason and act tokens out.

In: a `Batch` of B sequences of T frames. Out: logits for every token of every decision (teacher forcing), and what the
auxiliary heads say: the path, speed and affordances from the ego token, the intent from the instruction. Memory of past
frames, masks and positions come from `tokens.stream`; step-by-step driving is in `streaming`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.records import AFFORDANCES, INTENTS, PLAN_DISTANCES
from drivebyword.core.rig import RigConfig
from drivebyword.model.backbone import Decoder, DecoderConfig
from drivebyword.model.frame import EncoderConfig, FrameEncoder, Maps, Words
from drivebyword.model.layers import CrossAttention
from drivebyword.model.norm import RMSNorm
from drivebyword.model.ranging import Normalisation
from drivebyword.model.reader import ReaderConfig
from drivebyword.tokens.action import ActionGrammar
from drivebyword.tokens.stream import Batch, Layout, StreamConfig, frame_age, history


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Everything that fixes a policy's shape and meaning; stored in its checkpoint."""

    rig: RigConfig
    grammar: ActionGrammar = field(default_factory=ActionGrammar)
    stream: StreamConfig = field(default_factory=StreamConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    scale: Normalisation = field(default_factory=Normalisation)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    word_width: int = 576
    """Width of the reader's states."""


class Output(NamedTuple):
    """What a pass returns."""

    logits: Float[Tensor, "B T A V"]
    """Tokens that are illegal at their position have -inf."""
    plan: Float[Tensor, "B T P 2"]
    """Path in the ego frame, metres, at PLAN_DISTANCES."""
    speed: Float[Tensor, "B T"]
    """Speed one second ahead, m/s."""
    affordances: Float[Tensor, "B T O"]
    """Logits over AFFORDANCES."""
    intent: Float[Tensor, "B I"]
    """Logits over INTENTS."""


class Instruction(NamedTuple):
    """A sentence as the policy reads it: words for the frames, tokens for the stream."""

    words: Words
    tokens: Float[Tensor, "B K D"]


class Policy(nn.Module):
    """Sensors, words and emitted tokens to the next tokens."""

    illegal: Tensor
    plan_scale: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        c, width = config, config.decoder.width
        self.config = c
        self.enter_words = nn.Sequential(RMSNorm(c.word_width), nn.Linear(c.word_width, c.encoder.width))
        self.silence = nn.Parameter(torch.randn(1, 1, c.encoder.width) * 0.02)
        self.instruction_query = nn.Parameter(torch.randn(c.stream.instruction_tokens, width) * 0.5)
        self.gather_words = CrossAttention(width, c.decoder.heads, c.encoder.width)
        self.frame = FrameEncoder(c.rig, c.encoder, c.scale, width)
        self.embed = nn.Embedding(c.grammar.vocabulary, width)
        self.place = nn.Parameter(torch.randn(c.grammar.length, width) * 0.02)
        self.decoder = Decoder(c.decoder, ages=c.stream.window)
        self.token_head = nn.Linear(width, c.grammar.vocabulary)
        self.plan_head = nn.Linear(width, 2 * len(PLAN_DISTANCES) + 1)
        self.affordance_head = nn.Linear(width, len(AFFORDANCES))
        self.intent_head = nn.Linear(width, len(INTENTS))
        self.layout = Layout(
            instruction=c.stream.instruction_tokens, frame=sum(self.frame.counts), act=c.grammar.length
        )
        self.register_buffer("illegal", torch.from_numpy(~c.grammar.legal), persistent=False)
        scale = torch.tensor(PLAN_DISTANCES)[:, None].expand(-1, 2)
        self.register_buffer("plan_scale", scale.clone(), persistent=False)
        self.apply(initialise)
        nn.init.normal_(self.embed.weight, std=0.5)

    # ------------------------------------------------------------------ the whole stream at once

    def forward(self, batch: Batch, *, stride: int = 1) -> Output:
        """Return the logits of every token given the true ones before it.

        Args:
            batch: B sequences of T frames.
            stride: Steps of the sequence between two frames of one window: 1 for sequences sampled with the
                configured stride, `config.stream.stride` for consecutive decisions.
        """
        frames = batch.present.shape[1]
        instruction = self.read(batch.words, batch.word_mask)
        tokens, key = self.see(batch, instruction.words)
        acts = self.act_states(batch.tokens)
        steps = torch.cat([tokens, acts.to(tokens.dtype)], dim=2).flatten(1, 2)
        x = torch.cat([instruction.tokens.to(tokens.dtype), steps], dim=1)
        device = x.device
        layout, window = self.layout, self.config.stream.window
        mask = layout.mask(history(batch.history_valid, window, stride), key)
        ages = layout.ages(frame_age(frames, stride).to(device).clamp(max=window - 1))[None] if frames > 1 else None
        rows = self._answer_rows(frames).to(device)
        y, _ = self.decoder(x, layout.positions(frames).to(device), mask, ages=ages, rows=rows)
        y = y.unflatten(1, (frames, -1))
        plan, speed = self.plan(y[:, :, 0])
        seen = self.affordances(y[:, :, 0])
        return Output(self.answer(y[:, :, 1:]), plan, speed, seen, self.intent(instruction.tokens))

    def _answer_rows(self, frames: int) -> Int[Tensor, " Q"]:
        """Return the flat indices of each frame's ego token and act tokens: the last 1 + A of a step."""
        own = torch.arange(self.layout.frame - 1, self.layout.step)
        starts = self.layout.instruction + torch.arange(frames) * self.layout.step
        return (starts[:, None] + own[None]).flatten()

    # ------------------------------------------------------------------ its parts, for streaming and reading

    def read(self, states: Float[Tensor, "B L Dw"], mask: Bool[Tensor, "B L"]) -> Instruction:
        """Return the sentence as words and as instruction tokens; no words at all is the null instruction."""
        words = self.enter_words(states)
        words = torch.cat([self.silence.expand(len(words), -1, -1).to(words.dtype), words], dim=1)
        # With words to read, silence is not one of them.
        silent = ~mask.any(-1, keepdim=True)
        spoken = Words(words, torch.cat([silent, mask], dim=1))
        query = self.instruction_query.expand(len(words), -1, -1)
        return Instruction(spoken, query + self.gather_words(query, spoken.states, spoken.mask))

    def see(self, batch: Batch, words: Words) -> tuple[Float[Tensor, "B T N D"], Bool[Tensor, "B T N"]]:
        """Return each frame's tokens and which of them exist."""
        return self.frame(_ranging(batch), batch.cameras, batch.present, words)

    def maps(self, batch: Batch) -> Maps:
        """Return the cross-modal attention maps; word 0 is silence, the others the reader's."""
        return self.frame.maps(
            _ranging(batch), batch.cameras, batch.present, self.read(batch.words, batch.word_mask).words
        )

    def act_states(self, tokens: Int[Tensor, "B T A"]) -> Float[Tensor, "B T A D"]:
        """Return decoder inputs of the act positions: `begin`, then each token before the last."""
        begin = self.config.grammar.begin
        known = torch.where(tokens < 0, begin, tokens)[..., :-1]
        return self.embed(F.pad(known, (1, 0), value=begin)) + self.place

    def answer(self, states: Float[Tensor, "*B A D"], start: int = 0) -> Float[Tensor, "*B A V"]:
        """Return token logits of the positions from `start` on; what is illegal at its position gets -inf."""
        return self.token_head(states).float().masked_fill(self.illegal[start:], float("-inf"))

    def plan(self, ego: Float[Tensor, "*B D"]) -> tuple[Float[Tensor, "*B P 2"], Float[Tensor, "*B"]]:
        """Return path and speed as the ego token's state tells them."""
        raw = self.plan_head(ego).float()
        speed = raw[..., -1] * self.config.scale.speed
        return raw[..., :-1].unflatten(-1, (-1, 2)) * self.plan_scale, speed

    def affordances(self, ego: Float[Tensor, "*B D"]) -> Float[Tensor, "*B O"]:
        """Return logits over AFFORDANCES as the ego token's state tells them."""
        return self.affordance_head(ego).float()

    def intent(self, instruction: Float[Tensor, "B K D"]) -> Float[Tensor, "B I"]:
        """Return logits over INTENTS."""
        return self.intent_head(instruction.mean(1)).float()

    def parameters_by_use(self) -> dict[str, int]:
        """Return parameter counts: `total`, and `active`, those one token passes through at most."""
        total = sum(p.numel() for p in self.parameters())
        idle = 0
        c = self.config.decoder
        for name, p in self.decoder.named_parameters():
            if ".experts." in name:
                idle += p.numel() * (c.experts - c.experts_per_token) // c.experts
        return {"total": total, "active": total - idle}


def _ranging(batch: Batch) -> dict[str, Tensor]:
    names = ("lidar", "radar", "radar_valid", "ego", "passed")
    named = {name: getattr(batch, name) for name in names}
    return {name: value for name, value in named.items() if value is not None}


def initialise(module: nn.Module) -> None:
    """Draw a linear layer's weights."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=min(0.02 * (256 / module.in_features) ** 0.5 * 2.5, 0.2))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
