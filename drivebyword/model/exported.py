"""Engines that run an exported policy: ONNX Runtime, and OpenVINO in float32 or bfloat16.

In: a policy. Out: an engine whose passes are graphs with fixed shapes, one driver a run. Graphs are exported on first
use and kept on disk, by the content of weights, configuration and sources.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import torch
from torch import Tensor, nn

from drivebyword.core.places import cache_folder
from drivebyword.data.files import write_folder_atomic
from drivebyword.model.attention import KeyValue
from drivebyword.model.checkpoint import config_hash
from drivebyword.model.frame import Words
from drivebyword.model.passes import ActPass, Answer, FramePass
from drivebyword.model.policy import Policy
from drivebyword.model.ring import Ring, Room
from drivebyword.tokens.stream import Batch

PASSES = ("frame", "act")


class ExportedEngine(ABC):
    """Runs the two graphs of a policy in float32; several drivers are asked one after another."""

    @abstractmethod
    def run(self, name: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Run the graph `name` of PASSES; return its outputs in their order."""

    def frame(self, seen: Batch, words: Words, room: Room, tokens: Tensor) -> Answer:
        """See `passes.FramePass`."""
        rows, first = [], room.before.shape[1]
        for i in range(len(tokens)):
            one = Words(*(part[i : i + 1] for part in words))
            found = self.run("frame", _frame_inputs(_row_of(seen, i), one, _row_of_room(room, i), tokens[i : i + 1]))
            for layer, (k, v) in enumerate(_paired(found[5:])):
                end = first + k.shape[2]
                room.keys[i, layer, :, first:end], room.values[i, layer, :, first:end] = k[0], v[0]
            rows.append(found[:5])
        return Answer(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def act(self, tokens: Tensor, room: Room, key: Tensor, start: int) -> Tensor:
        """See `passes.ActPass`; graphs have fixed shapes, so the whole act is computed."""
        rows = [
            self.run("act", _act_inputs(tokens[i : i + 1], _row_of_room(room, i), key[i : i + 1]))[0]
            for i in range(len(tokens))
        ]
        return torch.cat(rows)[:, start:]


class OnnxEngine(ExportedEngine):
    """ONNX Runtime on the CPU, in float32.

    Args:
        policy: In float32.
        threads: CPU threads; None leaves the choice to ONNX Runtime.
    """

    def __init__(self, policy: Policy, *, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ValueError("this engine needs onnx and onnxruntime: pip install 'drivebyword[engines]'") from None
        folder = exported(policy)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads or 0, 1
        self._sessions = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in PASSES
        }
        self._wanted = {name: [v.name for v in one.get_inputs()] for name, one in self._sessions.items()}

    def run(self, name: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        """See `ExportedEngine`."""
        found = self._sessions[name].run(None, {key: inputs[key].numpy() for key in self._wanted[name]})
        return [torch.from_numpy(np.asarray(value)) for value in found]


class OpenVinoEngine(ExportedEngine):
    """OpenVINO on the CPU.

    Args:
        policy: In float32.
        precision: What its products are computed in: `f32`, or `bf16` where the CPU has it.
        threads: CPU threads; None leaves the choice to OpenVINO.
    """

    def __init__(self, policy: Policy, *, precision: str = "f32", threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise ValueError("this engine needs onnx and openvino: pip install 'drivebyword[engines]'") from None
        folder, core = exported(policy), openvino.Core()
        how = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or 0,
        }
        compiled = {name: core.compile_model(folder / f"{name}.onnx", "CPU", how) for name in PASSES}
        # An input that passes straight on is called by the nodes it goes to as well; those begin with a slash.
        self._wanted = {
            name: [next(n for n in sorted(one.names) if not n.startswith("/")) for one in graph.inputs]
            for name, graph in compiled.items()
        }
        self._requests = {name: graph.create_infer_request() for name, graph in compiled.items()}

    def run(self, name: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        """See `ExportedEngine`."""
        request = self._requests[name]
        request.infer({key: inputs[key].numpy() for key in self._wanted[name]}, share_inputs=True)
        # The next run writes where this one's outputs are.
        return [torch.from_numpy(one.data.copy()) for one in request.output_tensors]


class _Flat(nn.Module):
    """A pass whose inputs and outputs are plain rows of tensors, as exporters want them."""

    def __init__(self, inner: FramePass | ActPass, example: dict[str, Tensor]) -> None:
        super().__init__()
        self.inner, self.names = inner, list(example)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, values, strict=True))
        room = Room(given["keys"], given["values"], given["before"], given["ages"])
        if isinstance(self.inner, ActPass):
            return (self.inner(given["tokens"], room, given["key"]),)
        cameras = {name: given[f"camera {name}"] for name in self.inner.policy.frame.vision.names}
        one, none = given["ego"], given["tokens"][:, None]
        seen = Batch(
            cameras=cameras, lidar=given.get("lidar"), radar=given.get("radar"), radar_valid=given.get("radar_valid"),
            ego=one, passed=given["passed"], present=given["present"],
            words=one.new_zeros(1, 0, self.inner.policy.config.word_width),
            word_mask=torch.zeros(1, 0, dtype=torch.bool), tokens=none,
            history_valid=torch.ones(1, 1, dtype=torch.bool),
        )  # fmt: skip
        words = Words(given["words"], given["word_mask"])
        answer, own = self.inner(seen, words, room, given["tokens"])
        return (*answer, *(part for pair in own for part in pair))


def _frame_inputs(seen: Batch, words: Words, room: Room, tokens: Tensor) -> dict[str, Tensor]:
    named = {f"camera {name}": image for name, image in seen.cameras.items()}
    for name in ("lidar", "radar", "radar_valid", "ego", "passed", "present"):
        value = getattr(seen, name)
        if value is not None:
            named[name] = value
    return named | {"words": words.states, "word_mask": words.mask, "tokens": tokens} | room._asdict()


def _act_inputs(tokens: Tensor, room: Room, key: Tensor) -> dict[str, Tensor]:
    return {"tokens": tokens, "key": key} | room._asdict()


def _paired(flat: Sequence[Tensor]) -> list[KeyValue]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _row_of(seen: Batch, i: int) -> Batch:
    """Return one driver's frame."""
    if len(seen.ego) == 1:
        return seen
    values: dict[str, Any] = {name: getattr(seen, name) for name in Batch.__dataclass_fields__}
    cut = {name: value[i : i + 1] for name, value in values.items() if isinstance(value, Tensor)}
    cameras = {name: image[i : i + 1] for name, image in seen.cameras.items()}
    return Batch(**{**values, **cut, "cameras": cameras})


def _row_of_room(room: Room, i: int) -> Room:
    return Room(*(part[i : i + 1] for part in room))


# --------------------------------------------------------------------------- exporting


def exported(policy: Policy) -> Path:
    """Return the folder of a policy's exported passes; made on first use."""
    try:
        versions = [importlib.metadata.version(name) for name in ("torch", "onnx")]
    except importlib.metadata.PackageNotFoundError:
        raise ValueError("exporting needs onnx: pip install 'drivebyword[engines]'") from None
    digest = hashlib.sha256(" ".join([*versions, config_hash(policy.config)]).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for name, value in policy.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    folder = cache_folder("engines") / digest.hexdigest()[:20]
    if not (folder / "act.onnx").exists():
        with write_folder_atomic(folder, replace=True) as temporary:
            _export(policy, temporary)
    return folder


@torch.no_grad()
def _export(policy: Policy, folder: Path) -> None:
    frame, act = FramePass(policy), ActPass(policy)
    inputs = _example(policy)
    answer, _ = frame(*inputs)
    wanted: dict[str, tuple[FramePass | ActPass, dict[str, Tensor]]] = {
        "frame": (frame, _frame_inputs(*inputs)),
        "act": (act, _act_inputs(inputs[-1], inputs[-2], answer.key)),
    }
    for name, (inner, example) in wanted.items():
        path = folder / f"{name}.onnx"
        with warnings.catch_warnings(), _unchecked():
            warnings.simplefilter("ignore")  # the exporter warns of every constant it folds
            torch.onnx.export(
                _Flat(inner, example).eval(), tuple(example.values()), str(path), input_names=list(example),
                dynamo=False, opset_version=17,
            )  # fmt: skip


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Switch shape checks off: while an exporter traces, sizes are tensors."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def _example(policy: Policy) -> tuple[Batch, Words, Room, Tensor]:
    """Return one driver's inputs of the right shapes."""
    c, layout = policy.config, policy.layout
    rig, sensors = c.rig, len(c.rig.sensor_names())
    cameras = {k.name: torch.zeros(1, 1, k.height, k.width, 3, dtype=torch.uint8) for k in rig.cameras}
    lidar = torch.ones(1, 1, rig.lidar.beams, rig.lidar.columns, 2) if rig.lidar is not None else None
    radar = valid = None
    if rig.radar is not None:
        radar = torch.ones(1, 1, rig.radar.detections, 4)
        valid = torch.ones(1, 1, rig.radar.detections, dtype=torch.bool)
    room = c.reader.max_pieces
    seen = Batch(
        cameras=cameras, lidar=lidar, radar=radar, radar_valid=valid, ego=torch.ones(1, 1, 7),
        passed=torch.zeros(1, 1), present=torch.ones(1, 1, sensors, dtype=torch.bool),
        words=torch.zeros(1, 0, c.word_width), word_mask=torch.zeros(1, 0, dtype=torch.bool),
        tokens=torch.full((1, 1, layout.act), -1), history_valid=torch.ones(1, 1, dtype=torch.bool),
    )  # fmt: skip
    told = policy.read(torch.zeros(1, room, c.word_width), torch.ones(1, room, dtype=torch.bool))
    everything = torch.ones(1, layout.instruction, layout.instruction, dtype=torch.bool)
    _, heard = policy.decoder(told.tokens, layout.positions(0), everything)
    tokens = torch.from_numpy(np.array(c.grammar.ranges[:, 0]))[None]
    return seen, told.words, Ring(c.stream, layout, heard).room(), tokens
