"""Driving step by step: one observation in, one decision out, the same as one long masked forward pass.

In: observations, one per decision period. Out: decisions. Each encodes the new frame alone; keys and values of
past frames are kept and never change. The last decision's chunk, shifted, is the draft of the next: one pass
checks it, and passes are repeated from the first token that differs, so the tokens are those of decoding one
by one. A new sentence encodes the frames of the window once more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from drivebyword.core.records import INTENTS, Decision, Observation
from drivebyword.model.layers import KeyValue
from drivebyword.model.policy import Instruction, Policy
from drivebyword.model.reader import Reader
from drivebyword.tokens.action import REASON_TOKENS
from drivebyword.tokens.stream import Batch

SURE = 0.9
"""Share at which the intent `null` means that the sentence asks for nothing we know."""


class Frame(NamedTuple):
    """A past frame: what it was made of, and what is kept of it."""

    seen: Batch
    key: Bool[Tensor, " N"]
    cache: list[KeyValue]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the last decision was made of, for explanations and tests."""

    tokens: Int[np.ndarray, " A"]
    logits: Float[np.ndarray, "A V"]
    plan: Float[np.ndarray, "P 2"]
    speed: float
    intent: Float[np.ndarray, " I"]
    """Shares over INTENTS."""
    passes: int
    """Passes the tokens took; 1 where the whole draft held."""


class StreamingPolicy:
    """A policy that drives: remembers its window, reads each new sentence once.

    Args:
        policy: The network.
        reader: Reads sentences.
        sensors: Names of the sensors to use; None uses all that are there.
        threads: CPU threads torch may use; None leaves its choice.
        first_step_only: Check the draft up to the triple that is executed; the rest of the chunk is then only a
            guess. Faster, and the car moves the same: for collecting.
    """

    def __init__(
        self,
        policy: Policy,
        reader: Reader,
        *,
        sensors: tuple[str, ...] | None = None,
        threads: int | None = None,
        first_step_only: bool = False,
    ) -> None:
        names = policy.config.rig.sensor_names()
        unknown = set(sensors or ()) - set(names)
        if unknown:
            raise ValueError(f"no sensor {sorted(unknown)[0]!r} on this rig: choose from {', '.join(names)}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.policy = policy.eval()
        self.reader = reader
        self.sensors = names if sensors is None else sensors
        self.trace: Trace | None = None
        self._needed = REASON_TOKENS + 3 if first_step_only else policy.config.grammar.length
        stream = policy.config.stream
        self._frames: deque[Frame] = deque(maxlen=stream.stride * (stream.window - 1) or 1)
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        sensors: tuple[str, ...] | None = None,
        first_step_only: bool = False,
    ) -> StreamingPolicy:
        """Return the policy of a checkpoint with the reader it was trained with."""
        from drivebyword.model.checkpoint import from_pretrained

        policy = from_pretrained(folder)
        reader = Reader(policy.config.reader)
        return cls(policy, reader, sensors=sensors, threads=threads, first_step_only=first_step_only)

    def reset(self) -> None:
        """Forget the past: a new episode begins."""
        self._frames.clear()
        self._sentence: str | None = None
        self._draft: Int[np.ndarray, " A"] | None = None
        self._intent: Float[np.ndarray, " I"] = np.zeros(len(INTENTS))
        self._understood = True
        self.why_not: str | None = None

    @torch.inference_mode()
    def decide(self, observation: Observation) -> Decision:
        """Decide on one observation."""
        if observation.instruction != self._sentence:
            self._hear(observation.instruction)
        seen = self.frame_batch(observation)
        tokens = self._drive(seen)
        reason, act = self.policy.config.grammar.decode_one(tokens)
        self._draft = self.policy.config.grammar.shifted(tokens)
        return Decision(act=act, reason=reason, understood=self._understood)

    # ------------------------------------------------------------------ the sentence

    def _hear(self, sentence: str) -> None:
        """Read a new sentence and encode the frames of the window with it."""
        states, self.why_not = self.reader.read(sentence)  # no states where it cannot be read: as if nothing was said
        self._sentence = sentence
        self._instruction = self._read(states)
        intent = self.policy.intent(self._instruction.tokens)[0].softmax(-1).numpy()
        if self.why_not is None and intent[INTENTS.index("null")] > SURE:
            self.why_not = "it asks for nothing this car knows"
        self._understood, self._intent = self.why_not is None, intent
        past = [frame.seen for frame in self._frames]
        self._frames.clear()
        for seen in past:
            self._frames.append(self._pass_frame(seen))

    def _read(self, states: Float[Tensor, "L Dw"]) -> Instruction:
        mask = torch.ones(1, len(states), dtype=torch.bool)
        instruction = self.policy.read(states[None].float(), mask)
        x, layout = instruction.tokens, self.policy.layout
        everything = torch.ones(1, layout.instruction, layout.instruction, dtype=torch.bool)
        _, self._instruction_cache = self.policy.decoder(x, layout.positions(0), everything)
        return instruction

    # ------------------------------------------------------------------ one decision

    def _history(self) -> list[tuple[int, Frame]]:
        """Return (age, frame) of the window's past frames, oldest first."""
        stream = self.policy.config.stream
        ages = range(stream.window - 1, 0, -1)
        return [(age, self._frames[-age * stream.stride]) for age in ages if age * stream.stride <= len(self._frames)]

    def _drive(self, seen: Batch) -> Int[np.ndarray, " A"]:
        """Encode the new frame together with the draft, check the draft, repeat until it holds."""
        grammar = self.policy.config.grammar
        draft = self._draft if self._draft is not None else grammar.ranges[:, 0].copy()
        states, frame = self._pass_all(seen, draft)
        plan, speed = self.policy.plan(states[0])
        logits = self.policy.answer(states[1:]).numpy()
        passes = 1
        while True:
            tokens = grammar.choose(logits)
            wrong = np.flatnonzero(tokens[: self._needed - 1] != draft[: self._needed - 1])
            # What follows the first wrong token was predicted from it; the last token nobody reads.
            if len(wrong) == 0:
                break
            draft = tokens
            logits = self.policy.answer(self._pass_act(frame, draft)).numpy()
            passes += 1
        if self._frames.maxlen and self.policy.config.stream.window > 1:
            self._frames.append(frame)
        self.trace = Trace(
            tokens=tokens,
            logits=logits,
            plan=plan.numpy(),
            speed=float(speed),
            intent=self._intent,
            passes=passes,
        )
        return tokens

    def _pass_all(self, seen: Batch, draft: Int[np.ndarray, " A"]) -> tuple[Float[Tensor, "Q D"], Frame]:
        """Run frame and act tokens in one pass; return the states of the ego token and the act tokens."""
        policy, layout = self.policy, self.policy.layout
        tokens, key = policy.see(seen, self._instruction.words)
        acts = policy.act_states(torch.from_numpy(draft)[None, None])[0]
        x = torch.cat([tokens[0], acts], dim=1)
        own = layout.mask(torch.ones(1, 1, 1, dtype=torch.bool), key)[:, layout.instruction :]
        past, before, ages = self._past(layout.step)
        mask = torch.cat([before.expand(1, layout.step, -1), own[..., layout.instruction :]], dim=-1)
        rows = torch.arange(layout.frame - 1, layout.step)
        positions = layout.positions(1)[layout.instruction :]
        y, cache = policy.decoder(x, positions, mask, ages=_with_own(ages, layout.step), past=past, rows=rows)
        kept = [(k[:, :, : layout.frame], v[:, :, : layout.frame]) for k, v in cache]
        return y[0], Frame(seen, key[0, 0], kept)

    def _pass_frame(self, seen: Batch) -> Frame:
        """Run a frame alone, for what later frames need of it."""
        policy, layout = self.policy, self.policy.layout
        tokens, key = policy.see(seen, self._instruction.words)
        past, before, ages = self._past(layout.frame)
        own = key[0].expand(layout.frame, -1)[None]
        mask = torch.cat([before.expand(1, layout.frame, -1), own], dim=-1)
        positions = layout.positions(1)[layout.instruction : layout.instruction + layout.frame]
        rows = torch.tensor([layout.frame - 1])
        _, cache = policy.decoder(tokens[0], positions, mask, ages=_with_own(ages, layout.frame), past=past, rows=rows)
        return Frame(seen, key[0, 0], cache)

    def _pass_act(self, frame: Frame, draft: Int[np.ndarray, " A"]) -> Float[Tensor, "A D"]:
        """Run the act tokens again over a frame that is known."""
        policy, layout = self.policy, self.policy.layout
        past, before, ages = self._past(layout.act)
        past = [
            (torch.cat([a[0], b[0]], 2), torch.cat([a[1], b[1]], 2)) for a, b in zip(past, frame.cache, strict=True)
        ]
        ages = _with_own(ages, layout.frame)
        causal = torch.ones(layout.act, layout.act, dtype=torch.bool).tril()
        mask = torch.cat([before.expand(layout.act, -1), frame.key.expand(layout.act, -1), causal], dim=-1)[None]
        positions = layout.positions(1)[-layout.act :]
        x = policy.act_states(torch.from_numpy(draft)[None, None])[0]
        y, _ = policy.decoder(x, positions, mask, ages=_with_own(ages, layout.act), past=past)
        return y[0]

    def _past(self, queries: int) -> tuple[list[KeyValue], Bool[Tensor, " S"], Int[Tensor, "Q S"]]:
        """Return keys and values of instruction and window per layer, which may be seen, and their ages."""
        history, layout = self._history(), self.policy.layout
        sources = [self._instruction_cache, *(frame.cache for _, frame in history)]
        past = [
            (torch.cat([layer[0] for layer in layers], 2), torch.cat([layer[1] for layer in layers], 2))
            for layers in zip(*sources, strict=True)
        ]
        told = torch.ones(layout.instruction, dtype=torch.bool)
        seen = torch.cat([told, *(frame.key for _, frame in history)])
        ages = [0] * layout.instruction + [age for age, _ in history for _ in range(layout.frame)]
        return past, seen, torch.tensor(ages).expand(queries, -1)

    # ------------------------------------------------------------------ observations

    def frame_batch(self, observation: Observation) -> Batch:
        """Return one observation as a batch of one frame; what is missing, not finite or unused is masked."""
        rig = self.policy.config.rig
        present = []
        cameras = {}
        for camera in rig.cameras:
            shape = (camera.height, camera.width, 3)
            image = observation.cameras.get(camera.name) if camera.name in self.sensors else None
            _check(f"camera {camera.name!r}", image, shape)
            present.append(image is not None)
            cameras[camera.name] = torch.from_numpy(np.zeros(shape, np.uint8) if image is None else image.copy())[
                None, None
            ]
        lidar = radar = valid = None
        if rig.lidar is not None:
            lidar = self._ranging("lidar", observation.lidar, (rig.lidar.beams, rig.lidar.columns, 2), present)
        if rig.radar is not None:
            count = rig.radar.detections
            radar = self._ranging("radar", observation.radar, (count, 4), present)
            flags = observation.radar_valid if present[-1] and observation.radar_valid is not None else np.zeros(count)
            valid = torch.from_numpy(np.array(flags, bool))[None, None]
        a, width = self.policy.layout.act, self.policy.config.word_width
        return Batch(
            cameras=cameras,
            lidar=lidar,
            radar=radar,
            radar_valid=valid,
            ego=torch.from_numpy(np.nan_to_num(observation.ego, posinf=0.0, neginf=0.0).astype(np.float32))[None, None],
            present=torch.tensor(present)[None, None],
            words=torch.zeros(1, 0, width),
            word_mask=torch.zeros(1, 0, dtype=torch.bool),
            tokens=torch.full((1, 1, a), -1),
            history_valid=torch.ones(1, 1, dtype=torch.bool),
        )

    def _ranging(
        self, name: str, values: np.ndarray | None, shape: tuple[int, ...], present: list[bool]
    ) -> Float[Tensor, "1 1 *S"]:
        _check(name, values, shape)
        there = values is not None and name in self.sensors and bool(np.isfinite(values).all())
        present.append(there)
        return torch.from_numpy(np.array(values if there else np.zeros(shape), np.float32))[None, None]


def _check(name: str, values: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if values is not None and values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}; this policy was trained on {shape}")


def _with_own(ages: Int[Tensor, "Q S"], own: int) -> Int[Tensor, "Q S2"]:
    """Append `own` keys of age 0."""
    return torch.nn.functional.pad(ages, (0, own))
