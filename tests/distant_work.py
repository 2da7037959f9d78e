"""Shared by tests: work for actors that needs nothing."""

import os
import time


def sleeper(checkpoint):
    """Return work that takes as long as it is told, and answers who did it, and on which machine."""
    import ray

    node = ray.get_runtime_context().get_node_id()

    def work(seconds: float) -> tuple[int, str]:
        if seconds < 0:
            raise ValueError("time does not run backwards")
        time.sleep(seconds)
        return os.getpid(), node

    return work


def broken(checkpoint):
    """Fail where a worker is made."""
    raise ValueError("no road to drive on")
