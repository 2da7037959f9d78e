"""Driving step by step: one observation in, one decision out, the same as one long masked forward pass.

In: observations, one per decision period, of one driver or of many at once, each with its own memory. Out:
decisions. Each encodes the new frame alone; keys and values of past frames lie in rings and never change. The last
decision's chunk, shifted, is the draft of the next: one pass checks it, and passes are repeated from the first
token that differs, so the tokens are those of decoding one by one. A new sentence encodes the frames of the
window once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from drivebyword.core.exploration import Choice
from drivebyword.core.records import INTENTS, Decision, Observation
from drivebyword.model.attention import KeyValue
from drivebyword.model.engines import engine as engine_of
from drivebyword.model.experts import halve
from drivebyword.model.frame import Words
from drivebyword.model.passed import JUNCTION, Passed
from drivebyword.model.policy import Instruction, Policy
from drivebyword.model.reader import Reader
from drivebyword.model.ring import Ring, stacked
from drivebyword.tokens.action import DRIVEN_TOKENS
from drivebyword.tokens.stream import Batch, together

SURE = 0.9
"""Share at which the intent `null` means that the sentence asks for nothing we know."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One decision that is left to the lot, or could have been."""

    temperature: float
    lots: Float[np.ndarray, " A"] | None
    """A number in [0, 1) for each token; None where the driver takes what is best this time."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a decision was made of, for explanations and tests."""

    tokens: Int[np.ndarray, " A"]
    logits: Float[np.ndarray, "A V"]
    plan: Float[np.ndarray, "P 2"]
    speed: float
    intent: Float[np.ndarray, " I"]
    """Shares over INTENTS."""
    passed: int
    """Junctions passed since the sentence was typed, as this driver counted them."""
    passes: int
    """Passes the tokens took; 1 where the whole draft held."""


@dataclass(slots=True, kw_only=True)
class Memory:
    """All that one driver remembers from one decision to the next."""

    frames: deque[Batch]
    """What the frames of the window were made of: a new sentence encodes them once more."""
    sentence: str | None = None
    instruction: Instruction | None = None
    ring: Ring | None = None
    """What is kept of instruction and frames."""
    intent: Float[np.ndarray, " I"] = field(default_factory=lambda: np.zeros(len(INTENTS)))
    why_not: str | None = None
    """Why the sentence asks for nothing; None where it was understood."""
    passed: Passed = field(default_factory=Passed)
    draft: Int[np.ndarray, " A"] | None = None
    trace: Trace | None = None


class StreamingPolicy:
    """A policy that drives: remembers its window, reads each new sentence once.

    `decide` serves one driver; `decide_all` many in one batch, each with the `Memory` that `remember` made.

    Args:
        policy: The network.
        reader: Reads sentences.
        sensors: Names of the sensors to use; None uses all that are there.
        threads: CPU threads torch may use; None leaves its choice.
        first_step_only: Check the draft up to the triple that is executed; the rest of the chunk is then only a
            guess. Faster, and the car moves the same: for collecting and judging.
        half: Multiply in bfloat16, as in training: half the time where a CPU has such instructions.
        engine: What computes; a name of `engines.ENGINES`.
    """

    def __init__(
        self,
        policy: Policy,
        reader: Reader,
        *,
        sensors: tuple[str, ...] | None = None,
        threads: int | None = None,
        first_step_only: bool = False,
        half: bool = False,
        engine: str = "torch",
    ) -> None:
        names = policy.config.rig.sensor_names()
        unknown = set(sensors or ()) - set(names)
        if unknown:
            raise ValueError(f"no sensor {sorted(unknown)[0]!r} on this rig: choose from {', '.join(names)}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.policy = halve(policy.eval()) if half else policy.eval()
        self.half, self.reader = half, reader
        if half and engine != "torch":
            raise ValueError(f"the {engine} engine has a precision of its own: no half with it")
        self.engine = engine_of(engine, policy, threads)
        self.sensors = names if sensors is None else sensors
        self._needed = DRIVEN_TOKENS if first_step_only else policy.config.grammar.length
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        sensors: tuple[str, ...] | None = None,
        first_step_only: bool = False,
        half: bool = False,
        engine: str = "torch",
    ) -> StreamingPolicy:
        """Return the policy of a checkpoint with the reader it was trained with."""
        from drivebyword.model.checkpoint import from_pretrained

        policy = from_pretrained(folder)
        reader = Reader(policy.config.reader)
        return cls(
            policy, reader, sensors=sensors, threads=threads, first_step_only=first_step_only, half=half, engine=engine
        )

    def remember(self) -> Memory:
        """Return the memory of a driver who begins a new episode."""
        stream = self.policy.config.stream
        return Memory(frames=deque(maxlen=stream.stride * (stream.window - 1) or 1))

    def reset(self) -> None:
        """Forget the past: a new episode begins."""
        self.memory = self.remember()

    @property
    def trace(self) -> Trace | None:
        """What the last decision was made of."""
        return self.memory.trace

    @property
    def why_not(self) -> str | None:
        """Why the sentence asks for nothing."""
        return self.memory.why_not

    def decide(self, observation: Observation, draw: Draw | None = None) -> Decision:
        """Decide on one observation; with a `draw`, by lot."""
        return self.decide_all([self.memory], [observation], [draw])[0]

    def decide_all(
        self,
        memories: Sequence[Memory],
        observations: Sequence[Observation],
        draws: Sequence[Draw | None] | None = None,
    ) -> list[Decision]:
        """Decide on one observation of each of several drivers, some of whom may draw."""
        draws = draws or [None] * len(memories)
        grammar = self.policy.config.grammar
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            for memory, observation in zip(memories, observations, strict=True):
                if observation.instruction != memory.sentence:
                    self._hear(memory, observation.instruction)
            pairs = zip(memories, observations, strict=True)
            self._drive(memories, [self.frame_batch(seen, memory.passed.junctions) for memory, seen in pairs], draws)
        decisions = []
        for memory, draw in zip(memories, draws, strict=True):
            assert memory.trace is not None
            reason, act = grammar.decode_one(memory.trace.tokens)
            memory.draft = grammar.shifted(memory.trace.tokens)
            decisions.append(
                Decision(
                    act=act, reason=reason, understood=memory.why_not is None, choice=self._choice(memory.trace, draw)
                )
            )
        return decisions

    def _choice(self, trace: Trace, draw: Draw | None) -> Choice | None:
        """Return what the tokens were drawn from."""
        if draw is None:
            return None
        drawn = draw.lots is not None
        log_prob = self.policy.config.grammar.log_prob(trace.logits[None], trace.tokens[None], draw.temperature)
        return Choice(float(log_prob[0]) if drawn else float("nan"), trace.passed)

    def _chosen(self, logits: Float[np.ndarray, "B A V"], draws: Sequence[Draw | None]) -> Int[np.ndarray, "B A"]:
        """Return each driver's tokens: what is best, or what its lots say."""
        grammar = self.policy.config.grammar
        tokens = grammar.choose(logits)
        for i, draw in enumerate(draws):
            if draw is not None and draw.lots is not None:
                tokens[i] = grammar.draw(logits[i], draw.lots, draw.temperature)
        return tokens

    # ------------------------------------------------------------------ the sentence

    def _hear(self, memory: Memory, sentence: str) -> None:
        """Read a new sentence and encode the frames of the window with it."""
        states, memory.why_not = self.reader.read(sentence)  # no states where it cannot be read: nothing was said
        memory.sentence = sentence
        memory.passed.hear()
        memory.instruction, told = self._read(states)
        memory.ring = Ring(self.policy.config.stream, self.policy.layout, told)
        intent = self.policy.intent(memory.instruction.tokens)[0].softmax(-1).numpy()
        if memory.why_not is None and intent[INTENTS.index("null")] > SURE:
            memory.why_not = "it asks for nothing this car knows"
        memory.intent = intent
        for seen in memory.frames:
            self._pass_frame(memory, memory.ring, seen)

    def _read(self, states: Float[Tensor, "L Dw"]) -> tuple[Instruction, list[KeyValue]]:
        # Padded to one length, so that a sentence reads the same beside whichever others.
        room = self.reader.config.max_pieces - len(states)
        mask = torch.arange(self.reader.config.max_pieces)[None] < len(states)
        instruction = self.policy.read(torch.nn.functional.pad(states.float(), (0, 0, 0, room))[None], mask)
        x, layout = instruction.tokens, self.policy.layout
        everything = torch.ones(1, layout.instruction, layout.instruction, dtype=torch.bool)
        _, told = self.policy.decoder(x, layout.positions(0), everything)
        return instruction, told

    # ------------------------------------------------------------------ one decision each

    def _drive(self, memories: Sequence[Memory], seen: Sequence[Batch], draws: Sequence[Draw | None]) -> None:
        """Encode the new frames together with the drafts, check the drafts, repeat until they hold."""
        grammar = self.policy.config.grammar
        drafts = np.stack([grammar.ranges[:, 0] if m.draft is None else m.draft for m in memories])
        rings = [memory.ring for memory in memories if memory.ring is not None]
        room = stacked([ring.room() for ring in rings])
        answer = self.engine.frame(together(seen), _words(memories), room, torch.from_numpy(drafts))
        nearness = answer.affordances[:, JUNCTION].sigmoid()
        logits = answer.logits.numpy().copy()
        tokens = self._chosen(logits, draws)
        passes = np.ones(len(memories), np.int64)
        # What follows the first wrong token was predicted from it; the last token nobody reads.
        checked = slice(0, self._needed - 1)
        # A pass makes at least one more token right.
        for _ in range(grammar.length):
            differ = tokens[:, checked] != drafts[:, checked]
            wrong = np.flatnonzero(differ.any(1))
            if not len(wrong):
                break
            drafts[wrong] = tokens[wrong]
            start = int(differ[wrong].argmax(1).min()) + 1
            rows = torch.from_numpy(wrong)
            here = room if len(rings) == 1 else room.of(rows)
            again = self.engine.act(torch.from_numpy(drafts[wrong]), here, answer.key[rows], start)
            if here is not room:
                room.take_back(here, rows, here.before.shape[1])
            logits[wrong, start:] = again.numpy()
            tokens[wrong] = self._chosen(logits[wrong], [draws[int(i)] for i in wrong])
            passes[wrong] += 1
        for i, (memory, ring) in enumerate(zip(memories, rings, strict=True)):
            ring.keep(room, i, answer.key[i])
            if self.policy.config.stream.window > 1:
                memory.frames.append(seen[i])
            memory.trace = Trace(
                tokens=tokens[i],
                logits=logits[i],
                plan=answer.plan[i].numpy(),
                speed=float(answer.speed[i]),
                intent=memory.intent,
                passed=memory.passed.junctions,
                passes=int(passes[i]),
            )
            memory.passed.see(float(nearness[i]))

    def _pass_frame(self, memory: Memory, ring: Ring, seen: Batch) -> None:
        """Run a frame for what later frames need of it."""
        room, draft = ring.room(), torch.from_numpy(self.policy.config.grammar.ranges[None, :, 0].copy())
        ring.keep(room, 0, self.engine.frame(seen, _words([memory]), room, draft).key[0])

    # ------------------------------------------------------------------ observations

    def frame_batch(self, observation: Observation, passed: int = 0) -> Batch:
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
            passed=torch.tensor([[float(passed)]]),
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


def _words(memories: Sequence[Memory]) -> Words:
    """Return every driver's sentence."""
    words = [memory.instruction.words for memory in memories if memory.instruction is not None]
    return Words(torch.cat([w.states for w in words]), torch.cat([w.mask for w in words]))
