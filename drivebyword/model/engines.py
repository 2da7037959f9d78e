"""What computes a decision's passes: PyTorch, ONNX Runtime, OpenVINO, or our own kernels, on one interface.

In: a policy. Out: an engine with `frame` and `act`, which are `passes.FramePass` and `passes.ActPass`, or compute the
same.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from drivebyword.model.exported import OnnxEngine, OpenVinoEngine
from drivebyword.model.frame import Words
from drivebyword.model.fused import fused
from drivebyword.model.passes import ActPass, Answer, FramePass
from drivebyword.model.policy import Policy
from drivebyword.model.ring import Room
from drivebyword.tokens.stream import Batch

OPENVINO = {"openvino": "f32", "openvino-bf16": "bf16"}
"""What OpenVINO multiplies in."""
FUSED = {"fused": "float32", "fused-bf16": "bfloat16", "fused-int8": "int8"}
"""What `kernels` multiply in."""
ENGINES = ("torch", "onnx", *OPENVINO, *FUSED)


@runtime_checkable
class Engine(Protocol):
    """Computes passes."""

    def frame(self, seen: Batch, words: Words, room: Room, tokens: Tensor) -> Answer:
        """See `passes.FramePass`."""
        ...

    def act(self, tokens: Tensor, room: Room, key: Tensor, start: int) -> Tensor:
        """See `passes.ActPass`."""
        ...


def engine(name: str, policy: Policy, threads: int | None = None) -> Engine:
    """Return an engine by name. Raises ValueError for an unknown one, or one that is not installed."""
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}: {', '.join(ENGINES)}")
    if name == "onnx":
        return OnnxEngine(policy, threads=threads)
    if name in OPENVINO:
        return OpenVinoEngine(policy, precision=OPENVINO[name], threads=threads)
    return TorchEngine(policy if name == "torch" else fused(policy, FUSED[name]))


class TorchEngine:
    """The reference; with a policy of `fused`, our kernels."""

    def __init__(self, policy: Policy) -> None:
        self._frame, self.act = FramePass(policy), ActPass(policy)

    def frame(self, seen: Batch, words: Words, room: Room, tokens: Tensor) -> Answer:
        """See `passes.FramePass`."""
        answer, _ = self._frame(seen, words, room, tokens)
        return answer
