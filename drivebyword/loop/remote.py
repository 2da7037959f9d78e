"""The same workers on many machines: Ray actors in place of processes, `--workers ray://HOST:10001`.

Tasks in, results out as they finish, as in `fleet`. Each machine has networks of its own, which its workers ask over a
local socket; the checkpoint travels there. An actor that dies, stands still or takes too long is ended and replaced on
its machine, a machine that goes is done without. Which actor runs where and what starts it is Ray's business.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from drivebyword.loop.batching import WORLDS, Checkpoint, Networks
from drivebyword.loop.fleet import SILENCE_S, START_S, STARTS, Done, Lookout, Worker

Task = TypeVar("Task")
HOST_S = 900.0
"""How long a machine's networks may take to start, where they have to wait for a core."""
MakeWorker = Callable[[Checkpoint | None], Worker]


class Host:
    """An actor that holds a machine's networks."""

    def __init__(self, files: dict[str, bytes], processes: int, nice: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="drivebyword-")
        for name, content in files.items():
            (Path(self.folder.name) / name).write_bytes(content)
        self.networks = Networks(processes, nice).__enter__()
        self.served = self.networks.serve(Checkpoint(Path(self.folder.name)))
        Thread(target=self._tend, daemon=True).start()

    def _tend(self) -> None:
        while True:
            self.networks.tend()
            time.sleep(1.0)

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint, with where on this machine to ask for it."""
        return self.served


class Hand:
    """An actor that does one task after another."""

    def __init__(self, make_worker: MakeWorker, checkpoint: Checkpoint | None, nice: int) -> None:
        os.nice(nice)
        self.worker = make_worker(checkpoint)

    def ready(self) -> int:
        """Return the process's number, once it can work."""
        return os.getpid()

    def work(self, task: Any) -> tuple[Any, str | None]:
        """Return a task's value, or the error it raised."""
        try:
            return self.worker(task), None
        except Exception as error:  # Counted and named by the caller, as in `fleet`.
            return None, f"{type(error).__name__}: {error}"

    def beat(self) -> None:
        """Answer: this process lives."""


@dataclass(slots=True, eq=False)
class _Employed:
    """An actor, as who employs it knows it."""

    actor: Any
    node: str
    answer: Any
    """What it was asked last: whether it is ready, then a task's value."""
    task: int | None = None
    since: float = field(default_factory=time.monotonic)
    beat: Any = None
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False


def run_tasks_on_ray(
    address: str,
    make_worker: MakeWorker,
    tasks: Sequence[Task],
    checkpoint: Path | None = None,
    nice: int = 0,
    *,
    silence_s: float = SILENCE_S,
    limit_s: float | None = None,
) -> Iterator[Done[Task]]:
    """Yield every task's result in the order of finishing.

    Args:
        address: `ray://HOST:PORT`, or `ray://auto` for the cluster this machine belongs to.
        make_worker: called once in every actor with the checkpoint as it is served there.
        tasks: what to do.
        checkpoint: whose networks the workers ask; None: they need none.
        nice: how much the rest of the machines goes first.
        silence_s: an actor that has not answered for so long is replaced.
        limit_s: so is one that takes longer for a task.

    Raises:
        ValueError: Ray is not installed, or no cluster answers there.
        RuntimeError: no worker can be made, or every machine is gone.
    """
    if not tasks:
        return
    ray = _joined(address)
    cluster = _Cluster(ray, make_worker, tasks, nice, silence_s, limit_s)
    try:
        cluster.hire(checkpoint)
        for number, value, error, lost in cluster.work():
            yield Done(tasks[number], value, error, lost)
    finally:
        cluster.dismiss()


def _joined(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise ValueError("--workers ray://... needs Ray: pip install 'drivebyword[ray]'") from None
    if not address.startswith("ray://"):
        raise ValueError(f"--workers {address!r} is no cluster: write ray://HOST:10001, or ray://auto")
    if not ray.is_initialized():
        try:
            ray.init(address="auto" if address == "ray://auto" else address, log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}") from None
    return ray


class _Cluster:
    """Actors that work off tasks."""

    def __init__(
        self,
        ray: Any,
        make_worker: MakeWorker,
        tasks: Sequence[Any],
        nice: int,
        silence_s: float,
        limit_s: float | None,
    ) -> None:
        self.ray, self.make_worker, self.tasks, self.nice = ray, make_worker, tasks, nice
        self.silence_s, self.limit_s = silence_s, limit_s
        self.todo = deque(range(len(tasks)))
        self.hands: list[_Employed] = []
        self.hosts: dict[str, Any] = {}
        self.served: dict[str, Checkpoint | None] = {}
        self.stillborn, self.worked = 0, False
        self.lookout = Lookout()

    def hire(self, checkpoint: Path | None) -> None:
        """Start networks and workers on every machine."""
        files = None if checkpoint is None else {f.name: f.read_bytes() for f in sorted(checkpoint.iterdir())}
        machines = {n["NodeID"]: int(n["Resources"].get("CPU", 0)) for n in self.ray.nodes() if n["Alive"]}
        machines = {node: cores for node, cores in machines.items() if cores}
        if files is not None:
            host = self.ray.remote(Host)
            for node, cores in machines.items():
                self.hosts[node] = host.options(num_cpus=0, **self._on(node)).remote(files, cores, self.nice)
        places: list[str] = []
        for node, cores in machines.items():
            self.served[node] = None if files is None else self._served(node)
            places += [node] * (cores if files is None else WORLDS * max(1, cores // 2))
        if not places:
            raise RuntimeError("no machine of the cluster has a core to offer")
        # Machine by machine in turn, where there are fewer tasks than places.
        turns = sorted(range(len(places)), key=lambda k: (places[:k].count(places[k]), k))
        for k in turns[: len(self.tasks)]:
            self._employ(places[k])

    def _served(self, node: str) -> Checkpoint:
        """Wait for a machine's networks; return where to ask them."""
        from ray.exceptions import GetTimeoutError

        try:
            served = self.ray.get(self.hosts[node].checkpoint.remote(), timeout=HOST_S)
        except GetTimeoutError:
            raise RuntimeError(f"the networks on machine {node[:8]} did not start within {HOST_S:.0f} s") from None
        assert isinstance(served, Checkpoint)
        return served

    def _on(self, node: str) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}

    def _employ(self, node: str) -> None:
        hand = self.ray.remote(num_cpus=0, max_restarts=0, concurrency_groups={"pulse": 1, "work": 1})(Hand)
        actor = hand.options(**self._on(node)).remote(self.make_worker, self.served[node], self.nice)
        ready = actor.ready.options(concurrency_group="work").remote()
        self.hands.append(_Employed(actor, node, ready))

    def work(self) -> Iterator[tuple[int, Any, str | None, bool]]:
        """Yield number, value, error and whether it was lost, of every task."""
        left = len(self.tasks)
        while left:
            if not self.hands:
                raise RuntimeError(f"every machine of the cluster is gone, with {left} tasks to go")
            self.ray.wait([hand.answer for hand in self.hands], timeout=1.0)
            answered, _ = self.ray.wait([hand.answer for hand in self.hands], num_returns=len(self.hands), timeout=0.0)
            fates = self._watch()
            for hand in list(self.hands):
                number = hand.task
                if hand in fates:
                    self._bury(hand, fates[hand])
                    if number is not None:
                        left -= 1
                        yield number, None, f"the actor that did it {fates[hand]}", True
                elif hand.answer in answered:
                    value, fate = self._heard(hand)
                    if fate is not None:
                        self._bury(hand, fate)
                        if number is not None:
                            left -= 1
                            yield number, None, f"the actor that did it {fate}", True
                        continue
                    hand.ready, hand.task, self.worked = True, None, True
                    self._give(hand)
                    if number is not None:
                        left -= 1
                        yield number, *value, False

    def _heard(self, hand: _Employed) -> tuple[Any, str | None]:
        """Return an answer, or what became of who owed it."""
        from ray.exceptions import RayError

        try:
            return self.ray.get(hand.answer), None
        except RayError as error:
            if not hand.ready and "creation task" in str(error):  # what `make_worker` raised, as Ray tells it
                raise RuntimeError(f"no worker can be made: {str(error).strip().splitlines()[-1]}") from None
            return None, f"died ({type(error).__name__})"

    def _give(self, hand: _Employed) -> None:
        """Give an actor the next task, or let it go where there is none."""
        if self.todo:
            hand.task, hand.since = self.todo.popleft(), time.monotonic()
            hand.answer = hand.actor.work.options(concurrency_group="work").remote(self.tasks[hand.task])
        else:
            self.hands.remove(hand)
            self.ray.kill(hand.actor)

    def _watch(self) -> dict[_Employed, str]:
        """Ask who lives, and say who does not answer or takes too long."""
        away, now, fates = self.lookout.look(), time.monotonic(), {}
        for hand in self.hands:
            hand.since += away
            hand.heard += away
            if hand.beat is None:
                hand.beat = hand.actor.beat.options(concurrency_group="pulse").remote()
            elif self.ray.wait([hand.beat], timeout=0.0)[0]:
                hand.beat, hand.heard = None, now
            patience = self.silence_s if hand.ready else max(self.silence_s, START_S)
            if now - hand.heard > patience:
                fates[hand] = f"stood still for {patience:.0f} s"
            elif self.limit_s is not None and hand.task is not None and now - hand.since > self.limit_s:
                fates[hand] = f"took more than {self.limit_s:.0f} s"
        return fates

    def _bury(self, hand: _Employed, fate: str) -> None:
        """Forget an actor, and start another on its machine if there is something to do and the machine is there."""
        self.hands.remove(hand)
        self.ray.kill(hand.actor)
        if not hand.ready:
            self.stillborn += 1
            if self.stillborn >= STARTS and not self.worked:
                raise RuntimeError(f"{self.stillborn} actors ended before they could work; the last {fate}")
        if self.todo and hand.node in {n["NodeID"] for n in self.ray.nodes() if n["Alive"]}:
            self._employ(hand.node)

    def dismiss(self) -> None:
        """End every actor."""
        for actor in [*(hand.actor for hand in self.hands), *self.hosts.values()]:
            self.ray.kill(actor)
