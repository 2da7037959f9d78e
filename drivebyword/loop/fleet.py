"""Many scenes on many processes: tasks in, results out as they finish, one simulation a process.

A worker is made once per process (it holds the environment and the policy) and called once per task.
A task that raises gives its error as the result: one broken scene never costs the others. A process that dies, stands
still (stopped, or caught in code that never comes back) or takes too long is ended and replaced: its task is `lost`, an
error too, so that who counts keeps it in the denominator.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Worker = Callable[[Any], Any]
SILENCE_S = 60.0
"""A process beats once a second; one that has not for so long is stopped or stuck."""
AWAY_S = 5.0
"""Who has not looked for so long begins to count anew."""
SCENE_S = 1800.0
"""No scene takes so long, on any machine: whoever drives it hangs."""
START_S = 180.0
"""The same before it can work: a process that begins on a busy machine takes its time."""
STARTS = 12
"""If so many processes ended before they could work, and none ever could, it is no accident."""


@dataclass(frozen=True, slots=True)
class Done(Generic[Task]):
    """One finished task."""

    task: Task
    value: Any
    """What the worker returned; None when it raised."""
    error: str | None
    lost: bool = False
    """The process that did it died, stood still or took too long: whether the task could be done is not known."""


class Pulse:
    """A process's sign of life, in memory it shares with whoever started it."""

    def __init__(self, context: SpawnContext) -> None:
        self._last = context.RawValue("d", 0.0)
        self._begun = time.monotonic()

    def beat(self) -> None:
        """Show that this process lives."""
        self._last.value = time.monotonic()

    @property
    def began(self) -> bool:
        """Whether it has ever beaten."""
        return bool(self._last.value)

    def keep_beating(self) -> None:
        """Beat once a second for as long as this process runs and any of its threads gets a turn."""

        def go_on() -> None:
            while True:
                self.beat()
                time.sleep(1.0)

        Thread(target=go_on, daemon=True).start()

    def silent_s(self, since: float = 0.0) -> float:
        """Return the seconds without a sign of life, counted from `since` at the earliest."""
        return time.monotonic() - max(self._last.value or self._begun, since)


@dataclass(slots=True)
class Lookout:
    """Who watches others must not blame them for its own absence: stopped itself, or busy with something else."""

    awake: float = field(default_factory=time.monotonic)
    resumed: float = 0.0
    """When it last came back."""

    def look(self) -> float:
        """Return the seconds nobody looked; 0 in the ordinary course."""
        now = time.monotonic()
        gap, self.awake = now - self.awake, now
        if gap <= AWAY_S:
            return 0.0
        self.resumed = now
        return gap


@dataclass(slots=True, eq=False)
class _Hand:
    """A worker process, as who employs it knows it."""

    process: SpawnProcess
    line: Connection
    pulse: Pulse
    ready: bool = False
    task: int | None = None
    since: float = field(default_factory=time.monotonic)
    """When it got its task."""
    fate: str = ""
    """Why it was ended."""


def run_tasks(
    make_worker: Callable[[], Worker],
    tasks: Sequence[Task],
    processes: int,
    nice: int = 0,
    *,
    silence_s: float = SILENCE_S,
    start_s: float = START_S,
    limit_s: float | None = None,
    tend: Callable[[], None] = lambda: None,
) -> Iterator[Done[Task]]:
    """Yield every task's result in the order of finishing.

    Args:
        make_worker: picklable; called once in every process, returns the function that does a task.
        nice: how much the rest of the machine goes first.
        silence_s: a process that has shown no sign of life for so long is replaced.
        start_s: the same before it can work.
        limit_s: so is one that takes longer for a task.
        tend: called about twice a second: looks after what the workers need.

    Raises:
        RuntimeError: no worker can be made.
    """
    if tasks:
        fleet = _Fleet(make_worker, tasks, nice, (silence_s, max(silence_s, start_s)), limit_s)
        try:
            for _ in range(min(processes, len(tasks))):
                fleet.hire()
            for number, value, error, lost in fleet.work(tend):
                yield Done(tasks[number], value, error, lost)
        finally:
            fleet.dismiss()


class _Fleet:
    """Processes that work off tasks, each at the end of a line of its own.

    No two share a queue: who dies while it holds a queue's lock would stop all others. A thread for each listens, so
    that half an answer of a process that stands still is waited for by nobody else.
    """

    def __init__(
        self,
        make_worker: Callable[[], Worker],
        tasks: Sequence[Any],
        nice: int,
        patience: tuple[float, float],
        limit_s: float | None,
    ) -> None:
        self.context = mp.get_context("spawn")
        self.make_worker, self.tasks, self.nice = make_worker, tasks, nice
        self.patience, self.limit_s = patience, limit_s
        self.todo = deque(range(len(tasks)))
        self.hands: list[_Hand] = []
        self.inbox: queue.SimpleQueue[tuple[_Hand, tuple[str, Any] | None]] = queue.SimpleQueue()
        self.stillborn, self.worked = 0, False
        self.lookout = Lookout()

    def hire(self) -> None:
        """Start one more process."""
        near, far = self.context.Pipe()
        pulse = Pulse(self.context)
        process = self.context.Process(
            target=_work, args=(self.make_worker, far, pulse, self.nice), daemon=True, name="drivebyword worker"
        )
        process.start()
        far.close()  # so that this end hears when the other is gone
        hand = _Hand(process, near, pulse)
        self.hands.append(hand)
        Thread(target=self._listen, args=(hand,), daemon=True).start()

    def _listen(self, hand: _Hand) -> None:
        while True:
            try:
                message = hand.line.recv()
            except (EOFError, OSError):
                self.inbox.put((hand, None))
                return
            self.inbox.put((hand, message))

    def work(self, tend: Callable[[], None]) -> Iterator[tuple[int, Any, str | None, bool]]:
        """Yield number, value, error and whether it was lost, of every task."""
        left = len(self.tasks)
        while left:
            self._watch()
            tend()
            try:
                hand, message = self.inbox.get(timeout=0.5)
            except queue.Empty:
                continue
            number = hand.task
            if message is None:
                fate = self._bury(hand)
                if number is not None:
                    left -= 1
                    yield number, None, f"the process that did it {fate}", True
            elif message[0] == "unfit":
                raise RuntimeError(f"no worker can be made: {message[1]}")
            else:
                hand.ready, hand.task, self.worked = True, None, True
                self._give(hand)
                if message[0] != "ready" and number is not None:
                    left -= 1
                    value, error = (message[1], None) if message[0] == "value" else (None, message[1])
                    yield number, value, error, False

    def _watch(self) -> None:
        """End who stands still or takes too long; what follows is as if it had died."""
        away = self.lookout.look()
        for hand in self.hands:
            hand.since += away
            patience = self.patience[0 if hand.ready else 1]
            if hand.pulse.silent_s(self.lookout.resumed) > patience:
                hand.fate = f"stood still for {patience:.0f} s"
            elif self.limit_s is not None and hand.task is not None and time.monotonic() - hand.since > self.limit_s:
                hand.fate = f"took more than {self.limit_s:.0f} s"
            if hand.fate:
                hand.process.kill()

    def _bury(self, hand: _Hand) -> str:
        """Forget a process that has ended, start another if there is something to do; return what became of it."""
        hand.process.kill()
        hand.process.join()
        hand.line.close()
        self.hands.remove(hand)
        fate = hand.fate or f"died with exit code {hand.process.exitcode}"
        if not hand.ready:
            self.stillborn += 1
            if self.stillborn >= STARTS and not self.worked:
                raise RuntimeError(f"{self.stillborn} processes ended before they could work; the last {fate}")
        if self.todo:
            self.hire()
        return fate

    def _give(self, hand: _Hand) -> None:
        """Give a process the next task, if there is one."""
        if self.todo:
            hand.task, hand.since = self.todo.popleft(), time.monotonic()
        try:
            hand.line.send(None if hand.task is None else (self.tasks[hand.task],))
        except OSError:
            # Gone already: the task was never begun.
            if hand.task is not None:
                self.todo.appendleft(hand.task)
                hand.task = None

    def dismiss(self) -> None:
        """End every process."""
        for hand in self.hands:
            hand.process.kill()
            hand.process.join()


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""

    def watch() -> None:
        parent = mp.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _work(make_worker: Callable[[], Worker], line: Connection, pulse: Pulse, nice: int) -> None:
    """Do tasks until there are none; runs in its own process."""
    end_with_parent()
    os.nice(nice)
    pulse.keep_beating()
    try:
        worker = make_worker()
    except Exception as error:  # Told to who asked for workers, and raised there.
        line.send(("unfit", f"{type(error).__name__}: {error}"))
        return
    line.send(("ready", None))
    while (given := line.recv()) is not None:
        try:
            line.send(("value", worker(*given)))
        except Exception as error:  # Counted and named by the caller; see the module docstring.
            line.send(("error", f"{type(error).__name__}: {error}"))


def with_progress(
    done: Iterable[Done[Task]], total: int, show: bool, frames: Callable[[Any], int]
) -> Iterator[Done[Task]]:
    """Pass results on under a bar of scenes with frames per second and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scenes"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), disable=not show) as progress:
        bar = progress.add_task("scenes", total=total, rate="")
        begun, count = time.monotonic(), 0
        for result in done:
            count += frames(result.value) if result.error is None else 0
            progress.update(bar, advance=1, rate=f"{count / (time.monotonic() - begun):.0f} frames/s")
            yield result
