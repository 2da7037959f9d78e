"""Tasks in, episodes on disk and what they came to out: the worlds of this machine, or of a cluster.

Who drives what is the caller's: demonstrations, rollouts that the expert relabels, groups of rollouts by lot.
Every finished drive is one part on disk, so whoever starts again asks only for what is missing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from drivebyword.core.records import Episode
from drivebyword.core.rig import RigConfig
from drivebyword.data.parcel import Parcel, packed, unpacked
from drivebyword.loop.batching import Checkpoint, Networks
from drivebyword.loop.fleet import SCENE_S, Done, run_tasks
from drivebyword.loop.remote import run_tasks_on_ray

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv

Drive = Callable[[Any], Episode]
Prepare = Callable[["DrivingEnv", Checkpoint | None], Drive]
"""Called once in every process: its world and the checkpoint as it is served there in, what drives a task out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Whose cores, and where to keep what is driven."""

    out: Path
    rig: RigConfig
    checkpoint: Path | None
    """Whose networks the worlds ask; None: they need none."""
    processes: int
    workers: str | None = None
    """`ray://HOST:PORT` for a cluster's cores, None for this machine's."""

    @property
    def nice(self) -> int:
        """How much the rest of the machine goes first: whoever learns meanwhile from what a checkpoint drives does."""
        return 0 if self.checkpoint is None else 10


class Driven(NamedTuple):
    """One drive, for the record."""

    frames: int
    ended: str
    success: bool
    cpu: tuple[float, float, float]
    """CPU-seconds of the world's process, as CPU names them."""


CPU = ("worlds and expert", "recording", "starting worlds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What many drives came to."""

    scenes: int
    frames: int
    failed: tuple[str, ...]
    seconds: float
    ended: dict[str, int]
    successes: int
    """Drives with success as `metrics.score` judges it, disturbances included."""
    cpu: dict[str, float] = field(default_factory=dict)
    """CPU-seconds of the worlds' processes, by what they were for."""


def drive_all(crew: Crew, prepare: Prepare, todo: Sequence[Any]) -> Iterator[Done[Any]]:
    """Yield what every task came to, a `Driven`, in the order of finishing."""
    if crew.workers is None:
        yield from _here(crew, prepare, todo)
    else:
        yield from _there(crew, prepare, todo, crew.workers)


def counted(results: Iterable[Done[Any]], name: str) -> Collected:
    """Go through the results; one that failed is named, and counts as none.

    Args:
        results: From `drive_all`.
        name: What a task is called in front of its error.
    """
    started, driven, failed = time.monotonic(), list[Driven](), list[str]()
    for done in results:
        if done.error is None:
            driven.append(done.value)
        else:
            failed.append(f"{name} {done.task}: {done.error}")
    ended = [one.ended for one in driven]
    return Collected(
        scenes=len(driven),
        frames=sum(one.frames for one in driven),
        failed=tuple(failed),
        seconds=time.monotonic() - started,
        ended={how: ended.count(how) for how in dict.fromkeys(ended)},
        successes=sum(one.success for one in driven),
        cpu={label: sum((one.cpu[k] for one in driven), 0.0) for k, label in enumerate(CPU)},
    )


def _here(crew: Crew, prepare: Prepare, todo: Sequence[Any]) -> Iterator[Done[Any]]:
    with Networks(crew.processes, crew.nice) as networks:
        driver = networks.serve(Checkpoint(crew.checkpoint)) if crew.checkpoint is not None and todo else None
        make = partial(_make_worker, crew.out, crew.rig, prepare, driver)
        yield from run_tasks(make, todo, networks.worlds, crew.nice, limit_s=SCENE_S, tend=networks.tend)


def _there(crew: Crew, prepare: Prepare, todo: Sequence[Any], address: str) -> Iterator[Done[Any]]:
    """Drive on a cluster's cores; episodes come home as they were recorded there."""
    make = partial(_make_distant_worker, crew.rig, prepare)
    for done in run_tasks_on_ray(address, make, todo, crew.checkpoint, crew.nice, limit_s=SCENE_S):
        if done.error is not None:
            yield done
            continue
        value, parcel = done.value
        unpacked(parcel, crew.out)
        yield replace(done, value=value)


def _make_distant_worker(
    rig: RigConfig, prepare: Prepare, checkpoint: Checkpoint | None
) -> Callable[[Any], tuple[Driven, Parcel]]:
    """Return what drives one task and sends its part along."""
    folder = tempfile.TemporaryDirectory(prefix="drivebyword-")
    work = _make_worker(Path(folder.name), rig, prepare, checkpoint)

    def work_and_pack(task: Any) -> tuple[Driven, Parcel]:
        return work(task), packed(Path(folder.name))

    return work_and_pack


def _make_worker(out: Path, rig: RigConfig, prepare: Prepare, checkpoint: Checkpoint | None) -> Callable[[Any], Driven]:
    """Return what drives one task and writes its part."""
    from drivebyword.data.dataset import DatasetWriter
    from drivebyword.metrics import score
    from drivebyword.world.env import DrivingEnv

    env = DrivingEnv(rig=rig)
    writer = DatasetWriter(out, rig=rig)
    drive = prepare(env, checkpoint)
    starting = [time.process_time()]

    def work(task: Any) -> Driven:
        began = time.process_time()
        episode = drive(task)
        driven = time.process_time()
        writer.add(episode)
        spent = (driven - began, time.process_time() - driven, starting.pop() if starting else 0.0)
        return Driven(len(episode), episode.ended, score(episode)["success"] > 0.5, spent)

    return work
