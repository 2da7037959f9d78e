"""Shared by tests: work for worker processes that needs nothing."""

import os
import time
from pathlib import Path


def sleeper():
    """Return work that takes as long as it is told, and answers who did it; say that this process is ready."""
    if "READY" in os.environ:
        (Path(os.environ["READY"]) / str(os.getpid())).touch()

    def work(seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    return work


def wordy():
    """Return work with an answer longer than a pipe holds, half of which a stopped process leaves behind."""

    def work(number: int) -> str:
        return f"{number}" * 2_000_000

    return work


def busy():
    """Return work that never comes back when told so."""

    def work(ever: bool) -> str:
        while ever:
            pass
        return "done"

    return work


def broken():
    """Fail where a worker is made."""
    raise ValueError("no road to drive on")


def deadly():
    """Take the process along where a worker is made."""
    os._exit(3)
