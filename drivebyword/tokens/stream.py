"""The stream: the one place that knows the order of tokens and who may look at whom.

    [instruction] [frame 0][act 0] [frame 1][act 1] ...        (`act` stands for reason and act)

In: sizes. Out: masks, rotary positions and frame ages for the decoder; `Batch`, what a policy is fed.

Who sees whom:
- an instruction token sees the instruction;
- a frame token sees the instruction, its own frame whole, and the frames of its window before it;
- an act token sees what its frame sees, and the act tokens of its own decision up to itself.
Nobody sees another decision's act. A window holds `window` frames that lie `stride` decisions apart, so at run
time `stride` streams are interleaved; a training sequence sampled with that stride is one of them.

Rotary positions are indices inside a decision and equal for every frame; how long ago a frame was enters as
a learned attention bias per age. Keys and values therefore never change once computed: streaming is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """How far a decision looks back: `window` frames (its own included), `stride` decisions apart."""

    window: int = 3
    stride: int = 5
    instruction_tokens: int = 4

    def __post_init__(self) -> None:
        if min(self.window, self.stride, self.instruction_tokens) < 1:
            raise ValueError("window, stride and instruction_tokens must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a policy is fed: B sequences of T frames. A sensor that is not `present` holds zeros nobody sees."""

    cameras: dict[str, UInt8[Tensor, "B T H W 3"]]
    lidar: Float[Tensor, "B T beams columns 2"] | None
    radar: Float[Tensor, "B T detections 4"] | None
    radar_valid: Bool[Tensor, "B T detections"] | None
    ego: Float[Tensor, "B T 7"]
    passed: Float[Tensor, "B T"]
    """Junctions passed since the sentence (`model.passed`)."""
    present: Bool[Tensor, "B T S"]
    """Per sensor, in the order of `RigConfig.sensor_names()`."""
    words: Float[Tensor, "B L Dw"]
    """The reader's states of the sentence."""
    word_mask: Bool[Tensor, "B L"]
    tokens: Int[Tensor, "B T A"]
    """Reason and act tokens of each decision; negative where not given."""
    history_valid: Bool[Tensor, "B T"]
    """False hides a frame from later ones."""

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        moved: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, dict):
                moved[item.name] = {key: one.to(device) for key, one in value.items()}
            else:
                moved[item.name] = None if value is None else value.to(device)
        return Batch(**moved)  # type: ignore[arg-type]


def together(parts: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, object] = {}
    for name in (item.name for item in fields(Batch)):
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], dict):
            columns[name] = {key: torch.cat([value[key] for value in values]) for key in values[0]}
        else:
            columns[name] = None if values[0] is None else torch.cat(values)
    return Batch(**columns)  # type: ignore[arg-type]


def frame_visible(frames: int, window: int, stride: int) -> Bool[Tensor, "T T"]:
    """Return whether frame t (row) may see frame u (column).

    Args:
        frames: T.
        window: Frames a decision sees, its own included.
        stride: Steps of the sequence between two frames of one window: 1 for a training sequence that was
            sampled with the stride, `StreamConfig.stride` for consecutive decisions.
    """
    back = torch.arange(frames)[:, None] - torch.arange(frames)[None, :]
    return (back >= 0) & (back % stride == 0) & (back < window * stride)


def frame_age(frames: int, stride: int) -> Int[Tensor, "T T"]:
    """Return how many window steps before frame t (row) frame u (column) was; 0 where it was not."""
    back = torch.arange(frames)[:, None] - torch.arange(frames)[None, :]
    return (back // stride).clamp(min=0)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Token counts of one decision and of the instruction: from them follow order, positions and mask."""

    instruction: int
    frame: int
    act: int

    @property
    def step(self) -> int:
        """Tokens of one decision, frame and act."""
        return self.frame + self.act

    def length(self, frames: int) -> int:
        """Return L for T frames."""
        return self.instruction + frames * self.step

    def positions(self, frames: int) -> Int[Tensor, " L"]:
        """Return rotary positions: the instruction's own range, then the same range for every decision."""
        first = torch.arange(self.instruction)
        return torch.cat([first, (self.instruction + torch.arange(self.step)).repeat(frames)])

    def mask(
        self,
        visible: Bool[Tensor, "B T T"],
        frame_key: Bool[Tensor, "B T N"],
    ) -> Bool[Tensor, "B L L"]:
        """Return who sees whom.

        Args:
            visible: Whether frame t may see frame u, its own included.
            frame_key: Frame tokens that exist (their sensor is present).
        """
        batch, frames = visible.shape[:2]
        own = torch.eye(frames, dtype=torch.bool, device=visible.device)
        ones = visible.new_ones
        causal = ones(self.act, self.act).tril()
        # rows: frame tokens then act tokens of decision t; columns: the same of decision u
        seen = visible[:, :, None, :, None] & frame_key[:, None, None, :, :]  # B T 1 T N
        seen = seen.expand(batch, frames, self.step, frames, self.frame)
        acts = torch.cat([torch.zeros_like(causal[:1]).expand(self.frame, self.act), causal])
        acts = (own[:, None, :, None] & acts[None, :, None, :]).expand(batch, -1, -1, -1, -1)  # B T S T A
        inner = torch.cat([seen, acts], dim=-1).reshape(batch, frames * self.step, frames * self.step)
        below = torch.cat([ones(batch, frames * self.step, self.instruction), inner], dim=-1)
        top = torch.cat(
            [ones(self.instruction, self.instruction), visible.new_zeros(self.instruction, frames * self.step)], dim=-1
        )
        return torch.cat([top.expand(batch, -1, -1), below], dim=1)

    def ages(self, age: Int[Tensor, "T T"]) -> Int[Tensor, "L L"]:
        """Return the age of each key's frame for each query; 0 for the instruction and within a decision."""
        frames = age.shape[0]
        inner = age.repeat_interleave(self.step, 0).repeat_interleave(self.step, 1)
        full = age.new_zeros(self.length(frames), self.length(frames))
        full[self.instruction :, self.instruction :] = inner
        return full


def history(history_valid: Bool[Tensor, "B T"], window: int, stride: int) -> Bool[Tensor, "B T T"]:
    """Return which frames each frame sees: its window, less the frames hidden as history; always itself."""
    frames = history_valid.shape[1]
    device = history_valid.device
    own = torch.eye(frames, dtype=torch.bool, device=device)
    return frame_visible(frames, window, stride).to(device) & (history_valid[:, None, :] | own)
