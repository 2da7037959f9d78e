"""Recorded episodes in, one table of frames in memory out, and batches drawn from it.

A batch is a pure function of (frames, seed, step): nothing about sampling has to be saved for a killed run
to go on bit-exactly. Neighbouring frames teach little each, so a batch is many unrelated windows; standing
still is thinned, and moments of change (starting, braking, turning in) are drawn more often.
"""

from __future__ import annotations

import mmap
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int, Shaped, UInt8

from drivebyword.core.records import CAUSES, INTENTS, UNREAD, Episode
from drivebyword.core.rig import RigConfig
from drivebyword.data.dataset import Dataset
from drivebyword.data.foreign import ForeignSet
from drivebyword.model.passed import JUNCTION, Passed


@dataclass(slots=True, kw_only=True)
class FrameTable:
    """Columns over all frames of all episodes, in the order of their seeds."""

    cameras: dict[str, UInt8[np.ndarray, "T H W 3"]]
    lidar: Float16[np.ndarray, "T beams columns 2"]
    radar: Float32[np.ndarray, "T detections 4"]
    radar_valid: Bool[np.ndarray, "T detections"]
    ego: Float32[np.ndarray, "T 7"]
    act: Float32[np.ndarray, "T F 3"]
    """The expert's labels at this and the following F - 1 frames."""
    reason: Int[np.ndarray, "T 3"]
    plan: Float32[np.ndarray, "T P 2"]
    speed: Float32[np.ndarray, " T"]
    affordances: Float32[np.ndarray, "T A"]
    passed: Float32[np.ndarray, " T"]
    """Junctions passed since the sentence."""
    intent: Int[np.ndarray, " T"]
    episode: Int[np.ndarray, " T"]
    sentence: Int[np.ndarray, " T"]
    """Which instruction of which episode is in force: equal numbers, same sentence."""
    first: Int[np.ndarray, " T"]
    """Index of the first frame of the episode."""
    weight: Float32[np.ndarray, " T"]
    """Probability, up to a factor, of being drawn."""
    said: Shaped[np.ndarray, " T"] | None = None
    """The sentence itself where its meaning is not known, else None."""
    absent: frozenset[str] = frozenset()
    """Sensors that were not there: their columns hold zeros."""

    def __post_init__(self) -> None:
        """Where nothing is said, every sentence's meaning is known."""
        if self.said is None:
            self.said = np.full(len(self.intent), None, object)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.intent)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How often which frame is drawn, and what is hidden from the policy in training."""

    standing: float = 1.0
    """Weight of a frame that stands and should go on standing, against 1 for plain driving."""
    change: float = 2.0
    """Weight of a frame within a second of a change: starting, braking, steering."""
    start: float = 3.0
    """Weight of a frame that stands and should go. Far above `standing`, a long red is left before its end: one
    wrong decision of a hundred is enough."""
    held: float = 2.0
    """Weight of a frame where somebody, a red light or the sentence holds the moving car back."""
    told: float = 2.5
    """How many times more a frame weighs that moves though the sentence asks for a stop: a few seconds in a scene."""
    error: float = 3.0
    """At most how many times more a frame weighs where the policy that drove was wrong."""
    drop_sensor: float = 0.12
    """Probability that a sensor is missing in a whole window."""
    drop_all_but_one_camera: float = 0.03
    drop_history: float = 0.3
    """Probability that a window's past frames are hidden (copying the past is a trap)."""


def build_table(
    recorded: Dataset | ForeignSet, horizon: int, sampling: SamplingConfig, rig: RigConfig, scratch: Path
) -> FrameTable:
    """Read a data set's episodes and stack them.

    Args:
        recorded: Recordings; sensors of the rig that it lacks become absent.
        horizon: F.
        sampling: What weighs how much.
        rig: What the policy senses with.
        scratch: A folder for pictures that memory does not hold.
    """
    columns: dict[str, list[np.ndarray]] = {}
    # Pictures go to files without a name: what is not in use, the machine may take out of memory.
    files: dict[str, IO[bytes]] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    start = 0
    with ExitStack() as stack:
        for number, episode in enumerate(_in_order(recorded.read_episode, len(recorded.episodes))):
            for name, images in episode.cameras.items():
                if name not in files:
                    files[name] = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
                    sizes[name] = images.shape[1:]
                files[name].write(images.data)
            for name, value in _columns(episode, number, start, horizon, sampling).items():
                columns.setdefault(name, []).append(value)
            start += len(episode)
        stacked: dict[str, np.ndarray] = {}
        for name in list(columns):
            stacked[name] = np.concatenate(columns.pop(name))
        cameras: dict[str, np.ndarray] = {}
        for name, file in files.items():
            file.flush()
            cameras[name] = _mapped(file).reshape(start, *sizes[name])
    return _filled(cameras, stacked, start, rig)


def _mapped(file: IO[bytes]) -> UInt8[np.ndarray, " n"]:
    """Return a file's bytes where they lie. Frames are drawn at random: nothing is read ahead.

    Disks are set to read megabytes ahead, which drove everything else out of memory (docs/LOG.md, 2026-11-30).
    """
    held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    held.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(held, np.uint8)


def _filled(cameras: dict[str, np.ndarray], stacked: dict[str, np.ndarray], count: int, rig: RigConfig) -> FrameTable:
    """Put zeros, which take no memory, where a sensor was not there."""
    absent = frozenset(name for name in rig.sensor_names() if name not in cameras and name not in stacked)
    for camera in rig.cameras:
        if camera.name in absent:
            cameras[camera.name] = np.broadcast_to(np.zeros((), np.uint8), (count, camera.height, camera.width, 3))
    beams, columns = (rig.lidar.beams, rig.lidar.columns) if rig.lidar is not None else (1, 1)
    detections = rig.radar.detections if rig.radar is not None else 1
    nothing: dict[str, np.ndarray] = {
        "lidar": np.broadcast_to(np.zeros((), np.float16), (count, beams, columns, 2)),
        "radar": np.broadcast_to(np.zeros((), np.float32), (count, detections, 4)),
        "radar_valid": np.broadcast_to(np.zeros((), bool), (count, detections)),
    }
    return FrameTable(cameras=cameras, absent=absent, **(nothing | stacked))


def _in_order(read: Callable[[int], Episode], count: int, ahead: int = 4) -> Iterator[Episode]:
    """Read episodes by number in two threads, a few ahead."""
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[Episode]] = deque()
        for number in range(count):
            waiting.append(pool.submit(read, number))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_HOLDING = [CAUSES.index(c) for c in ("instruction", "lead_vehicle", "pedestrian", "red_light", "crossing_traffic")]
HEAVY = ("lidar", "radar", "radar_valid")


class Frames:
    """Several tables as one. What sensors saw stays where it is (joining would hold it twice in memory)."""

    def __init__(self, tables: Sequence[FrameTable]) -> None:
        self.tables = list(tables)
        self.starts = np.cumsum([0] + [len(table) for table in tables])
        self.light: dict[str, np.ndarray] = {}
        for name in FrameTable.__slots__:
            if name not in ("cameras", "absent") and name not in HEAVY:
                self.light[name] = np.concatenate(self._shifted(name))

    def _shifted(self, name: str) -> list[np.ndarray]:
        """Return one column of every table, renumbered so that tables do not share episodes or sentences."""
        shift, columns = 0, []
        for table in self.tables:
            value = getattr(table, name)
            columns.append(value + shift if name in ("episode", "sentence", "first") else value)
            if name == "first":
                shift += len(table)
            elif name in ("episode", "sentence"):
                shift += int(value.max()) + 1
        return columns

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self.starts[-1])

    def there(self, rows: Int[np.ndarray, " B"], sensors: Sequence[str]) -> Bool[np.ndarray, "B S"]:
        """Tell which sensors there were in each of these frames."""
        per_table = np.array([[name not in table.absent for name in sensors] for table in self.tables])
        return per_table[np.searchsorted(self.starts, rows, side="right") - 1]

    def heavy(self, read: Callable[[FrameTable], np.ndarray], index: Int[np.ndarray, "B T"]) -> np.ndarray:
        """Gather rows of a sensor's column."""
        flat = index.reshape(-1)
        of = np.searchsorted(self.starts, flat, side="right") - 1
        rows = [read(self.tables[t])[i - self.starts[t]] for t, i in zip(of, flat, strict=True)]
        return np.stack(rows).reshape(*index.shape, *rows[0].shape)


def _columns(
    episode: Episode, number: int, start: int, horizon: int, sampling: SamplingConfig
) -> dict[str, np.ndarray]:
    """Return the table rows of one episode."""
    count = len(episode)
    ahead = np.minimum(np.arange(count)[:, None] + np.arange(horizon), count - 1)
    act = episode.expert_act[ahead]
    intents = np.array([-1 if i.intent == UNREAD else INTENTS.index(i.intent) for i in episode.instructions])
    ranging = {"radar": episode.radar, "radar_valid": episode.radar_valid}
    ranging["lidar"] = None if episode.lidar is None else episode.lidar.astype(np.float16)
    said = np.array([i.sentence if i.intent == UNREAD else None for i in episode.instructions], object)
    return {
        **{name: value for name, value in ranging.items() if value is not None},
        "said": said[episode.instruction_index],
        "ego": episode.ego_observed,
        "act": act,
        "reason": episode.expert_reason,
        "plan": episode.expert_plan,
        "speed": episode.expert_speed,
        "affordances": episode.affordances,
        "passed": _passed(episode),
        "intent": intents[episode.instruction_index],
        "episode": np.full(count, number),
        "sentence": number * 64 + episode.instruction_index,
        "first": np.full(count, start),
        "weight": _weights(episode, sampling),
    }


def _passed(episode: Episode) -> Float32[np.ndarray, " T"]:
    """Return what a policy that sees junctions as they are has counted before each decision."""
    passed, counts, sentence = Passed(), list[int](), 0
    for said, seen in zip(episode.instruction_index, episode.affordances[:, JUNCTION], strict=True):
        if said != sentence:
            passed.hear()
            sentence = said
        counts.append(passed.junctions)
        passed.see(float(seen))
    return np.array(counts, np.float32)


def _weights(episode: Episode, sampling: SamplingConfig) -> Float32[np.ndarray, " T"]:
    """Return how often each frame should be drawn."""
    speed = episode.ego_observed[:, 0]
    pedal = episode.expert_act[:, 1] - episode.expert_act[:, 2]
    steer = episode.expert_act[:, 0]
    weight = np.ones(len(episode), np.float32)
    weight[(speed < 0.3) & (pedal <= 0)] = sampling.standing
    moved = np.abs(np.diff(pedal, prepend=pedal[:1])) > 0.25
    moved |= np.abs(np.diff(steer, prepend=steer[:1])) > 0.05
    moved |= np.abs(steer) > 0.12
    moved |= np.diff(episode.instruction_index, prepend=0) > 0
    near = np.convolve(moved, np.ones(5), mode="same") > 0
    weight[near] *= sampling.change
    starts = (speed < 0.5) & (episode.expert_act[:, 1] > 0.1)
    weight[starts] = sampling.start
    held = np.isin(episode.expert_reason[:, 1], _HOLDING) & (pedal < -0.02) & (speed > 0.3)
    weight[held] *= sampling.held
    halts = np.array([instruction.intent in ("stop", "pull_over") for instruction in episode.instructions])
    weight[halts[episode.instruction_index] & (speed > 0.3)] *= sampling.told
    gap = np.abs(episode.act[:, 0] - episode.expert_act)
    wrong = gap[:, 0] / 0.25 + np.maximum(gap[:, 1], gap[:, 2]) / 0.35 - 0.5  # less than that is a matter of taste
    weight *= 1.0 + np.clip(wrong, 0.0, sampling.error)
    # Far off its way the expert swings from side to side: nothing to learn from.
    swings = np.abs(np.diff(steer, prepend=steer[:1])) > 0.8
    weight[np.convolve(swings, np.ones(3), mode="same") > 0] = 0.0
    return weight


@dataclass(slots=True, kw_only=True)
class Draw:
    """Which frames make a batch, and what is hidden in it."""

    index: Int[np.ndarray, "B T"]
    trained: Bool[np.ndarray, "B T"]
    """False for padding before an episode's start and frames under another sentence."""
    history: Bool[np.ndarray, "B T"]
    """False: later frames may not see this one."""
    present: Bool[np.ndarray, "B S"]
    wording: Float[np.ndarray, " B"]
    """In [0, 1): picks one wording of the intent."""
    seed: int
    """Of the noise on its words."""


class Sampler:
    """Draws batches; the same (seed, step) always gives the same batch of the same frames."""

    def __init__(self, frames: Frames, config: SamplingConfig, sensors: Sequence[str], seed: int) -> None:
        self.frames, self.config, self.sensors, self.seed = frames, config, tuple(sensors), seed
        self.cumulative = np.cumsum(frames.light["weight"], dtype=np.float64)

    def draw(self, step: int, batch: int, frames: int, stride: int) -> Draw:
        """Draw `batch` windows of `frames` frames, `stride` decisions apart, ending at a drawn frame."""
        rng = np.random.default_rng([self.seed, step])
        last = np.searchsorted(self.cumulative, rng.random(batch) * self.cumulative[-1])
        index = last[:, None] - np.arange(frames - 1, -1, -1)[None] * stride
        first, sentence = self.frames.light["first"][last], self.frames.light["sentence"]
        inside = index >= first[:, None]
        index = np.maximum(index, first[:, None])
        trained = inside & (sentence[index] == sentence[last][:, None])
        history = inside & (rng.random(batch) >= self.config.drop_history)[:, None]
        history[:, -1] = True
        return Draw(
            index=index,
            trained=trained,
            history=history,
            present=self._present(rng, last),
            wording=rng.random(batch),
            seed=int(rng.integers(2**31)),
        )

    def _present(self, rng: np.random.Generator, last: Int[np.ndarray, " B"]) -> Bool[np.ndarray, "B S"]:
        """Drop sensors; never all of them."""
        batch, there = len(last), self.frames.there(last, self.sensors)
        present = rng.random((batch, len(self.sensors))) >= self.config.drop_sensor
        alone = rng.random(batch) < self.config.drop_all_but_one_camera
        present[alone] = False
        present[alone, 0] = True
        present &= there
        left = np.flatnonzero(~present.any(1))
        present[left, there[left].argmax(1)] = True  # the first that is there, a camera
        return present
