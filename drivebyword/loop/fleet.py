"""Many scenes on many processes: tasks in, results out as they finish, one simulation a process.

A worker is made once per process (it holds the environment and the policy) and called once per task.
A task that raises gives its error as the result: one broken scene never costs the others.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Worker = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Done(Generic[Task]):
    """One finished task."""

    task: Task
    value: Any
    """What the worker returned; None when it raised."""
    error: str | None


def run_tasks(
    make_worker: Callable[[], Worker], tasks: Sequence[Task], processes: int, nice: int = 0
) -> Iterator[Done[Task]]:
    """Yield every task's result in the order of finishing.

    Args:
        make_worker: picklable; called once in every process, returns the function that does a task.
        nice: how much the rest of the machine goes first.
    """
    if not tasks:
        return
    context = mp.get_context("spawn")
    todo, results = context.Queue(), context.Queue()
    count = min(processes, len(tasks))
    for item in (*enumerate(tasks), *([None] * count)):
        todo.put(item)
    workers = [
        context.Process(target=_work, args=(make_worker, todo, results, nice), daemon=True) for _ in range(count)
    ]
    for worker in workers:
        worker.start()
    left = len(tasks)
    while left:
        try:
            number, value, error = results.get(timeout=5.0)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers):
                raise RuntimeError(f"all {count} worker processes died with {left} tasks to go") from None
            continue
        left -= 1
        yield Done(tasks[number], value, error)
    for worker in workers:
        worker.join(timeout=20.0)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""

    def watch() -> None:
        parent = mp.parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _work(make_worker: Callable[[], Worker], todo: Any, results: Any, nice: int) -> None:
    end_with_parent()
    os.nice(nice)
    worker = make_worker()
    while (item := todo.get()) is not None:
        number, task = item
        try:
            results.put((number, worker(task), None))
        except Exception as error:  # Counted and named by the caller; see the module docstring.
            results.put((number, None, f"{type(error).__name__}: {error}"))


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
