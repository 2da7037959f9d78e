"""What is kept of past frames: rings of keys and values, written in place and never moved or joined.

In: keys and values of the instruction, then of one frame a decision. Out: a `Room` for the next decision, in which
lie the instruction, the frames of the window and free places for the new frame and its act. `stride` streams of frames
are interleaved, and each has a ring of its own; the frame that leaves the window is overwritten by the one that enters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from drivebyword.model.attention import Kept, KeyValue
from drivebyword.tokens.stream import Layout, StreamConfig

ACROSS = 64
"""Keys that lie across (a row is one number of every key) come in multiples of this: the kernels' tile."""


class Room(NamedTuple):
    """Keys and values of a batch of drivers, of every layer, with places for a new frame and its act behind."""

    keys: Float[Tensor, "B layers G S K"]
    values: Float[Tensor, "B layers H S V"]
    before: Bool[Tensor, "B P"]
    """Which of the P past places may be seen."""
    ages: Int[Tensor, "B P"]
    """How many steps of the window ago their frames were; 0 for the instruction."""

    def layers(self, at: int) -> list[Kept]:
        """Return every layer's row, of which the first `at` tokens are known."""
        pairs = zip(self.keys.unbind(1), self.values.unbind(1), strict=True)
        return [Kept(keys, values, at) for keys, values in pairs]

    def of(self, rows: Int[Tensor, " b"]) -> Room:
        """Return some drivers' room: a copy."""
        return Room(*(part[rows] for part in self))

    def take_back(self, some: Room, rows: Int[Tensor, " b"], start: int) -> None:
        """Take in what was written from `start` on into the copy that `of` made."""
        self.keys[rows, :, :, start:] = some.keys[:, :, :, start:]
        self.values[rows, :, :, start:] = some.values[:, :, :, start:]


class Ring:
    """One driver's rings.

    Args:
        stream: How many frames are kept, and how far apart.
        layout: Sizes of instruction, frame and act.
        told: The instruction's keys and values, a pair a layer.
    """

    def __init__(self, stream: StreamConfig, layout: Layout, told: list[KeyValue]) -> None:
        self.slots, self.layout = stream.window - 1, layout
        self.phases = stream.stride if self.slots else 1
        self.past = layout.instruction + self.slots * layout.frame
        self.frames = 0
        """Frames kept since the instruction."""
        key, value = told[0]
        length = self.past + layout.step
        self.keys = across(key.new_zeros, (self.phases, len(told), key.shape[1], length, key.shape[3]))
        self.values = value.new_zeros(self.phases, len(told), value.shape[1], length, value.shape[3])
        for layer, (k, v) in enumerate(told):
            self.keys[:, layer, :, : layout.instruction] = k
            self.values[:, layer, :, : layout.instruction] = v
        self.before = torch.zeros(self.phases, self.past, dtype=torch.bool)
        self.before[:, : layout.instruction] = True
        self.ages = torch.zeros(self.phases, self.past, dtype=torch.long)

    def room(self) -> Room:
        """Return where the next decision reads and writes: no copy."""
        phase = slice(self.frames % self.phases, self.frames % self.phases + 1)
        return Room(self.keys[phase], self.values[phase], self.before[phase], self.ages[phase])

    def keep(self, room: Room, row: int, key: Bool[Tensor, " N"]) -> None:
        """Take the new frame of a room's row in, where the oldest of its stream was.

        Args:
            room: From `room`, or a batch that was made of several.
            row: The driver's.
            key: Which of the frame's tokens exist.
        """
        phase, turn = self.frames % self.phases, self.frames // self.phases
        self.frames += 1
        if not self.slots:
            return
        start, n = self.layout.instruction, self.layout.frame
        slot = start + turn % self.slots * n
        new = slice(self.past, self.past + n)
        self.keys[phase, :, :, slot : slot + n] = room.keys[row, :, :, new]
        self.values[phase, :, :, slot : slot + n] = room.values[row, :, :, new]
        self.before[phase, slot : slot + n] = key
        # At the next decision of this stream the newest frame is one step old, the one in the slot after it the oldest.
        order = (turn - torch.arange(self.slots)) % self.slots + 1
        self.ages[phase, start:] = order.repeat_interleave(n)


def across(new: Callable[..., Tensor], shape: Sequence[int]) -> Float[Tensor, "*B S K"]:
    """Return zeros for keys [..., S, K] that lie as products read them: a row is one number of every key.

    Args:
        new: `torch.zeros` or a tensor's `new_zeros`.
        shape: As seen from outside.
    """
    *outer, length, width = shape
    return new((*outer, width, -(-length // ACROSS) * ACROSS)).transpose(-1, -2)[..., :length, :]


def stacked(rooms: Sequence[Room]) -> Room:
    """Return several drivers' rooms as one batch: a copy, but of one driver the room itself."""
    return rooms[0] if len(rooms) == 1 else Room(*(torch.cat(parts) for parts in zip(*rooms, strict=True)))


def longer(known: list[KeyValue], more: int) -> list[Kept]:
    """Return rows that hold known keys and values and have places for `more` tokens behind them."""
    rows = []
    for k, v in known:
        room = (0, 0, 0, more)
        rows.append(Kept(torch.nn.functional.pad(k, room), torch.nn.functional.pad(v, room), k.shape[2]))
    return rows
