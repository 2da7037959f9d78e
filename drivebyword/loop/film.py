"""A drive's snapshots in, pictures for people out: smooth motion between decisions, packed as WebP.

The policy decides five times a second, which looks like a slide show; poses between two decisions are
interpolated (the ego along a cubic with its measured speeds) and the view is rendered more often. What the
policy itself saw is never interpolated.
"""

from __future__ import annotations

import dataclasses
import io
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, UInt8

from drivebyword.core.geometry import wrap_angle
from drivebyword.core.records import Snapshot

Render = Callable[[Snapshot], np.ndarray]


def between(first: Snapshot, second: Snapshot, share: float) -> Snapshot:
    """Return the world `share` of the way from one snapshot to the next; lamps and signals hold."""
    if share <= 0.0:
        return first
    agents = first.agents.copy()
    later = {int(key): row for key, row in zip(second.agent_key, second.agents)}
    for row, key in zip(agents, first.agent_key):
        goal = later.get(int(key))
        if goal is None:
            continue
        row[:2] += (goal[:2] - row[:2]) * share
        row[2] += wrap_angle(float(goal[2] - row[2])) * share
    return dataclasses.replace(
        first,
        time_s=first.time_s + (second.time_s - first.time_s) * share,
        ego=_ego_between(first, second, share),
        agents=agents,
    )


def _ego_between(first: Snapshot, second: Snapshot, share: float) -> Float[np.ndarray, " 6"]:
    """Return the ego on the Hermite cubic through both poses with both velocities."""
    a, b, gap = first.ego, second.ego, max(second.time_s - first.time_s, 1e-6)
    ego = a + (b - a) * share
    ego[2] = a[2] + wrap_angle(float(b[2] - a[2])) * share
    u = share
    for axis, wave in ((0, np.cos), (1, np.sin)):
        leave, arrive = a[3] * wave(a[2]) * gap, b[3] * wave(b[2]) * gap
        ego[axis] = (
            (2 * u**3 - 3 * u**2 + 1) * a[axis]
            + (u**3 - 2 * u**2 + u) * leave
            + (3 * u**2 - 2 * u**3) * b[axis]
            + (u**3 - u**2) * arrive
        )
    return ego


def shoot(
    snapshots: list[Snapshot], make_render: Callable[[], Render], per_step: int, threads: int = 2
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield `per_step` rendered pictures for every snapshot, in order.

    Args:
        make_render: Called once in every thread: renderers keep tables of their own.
        threads: The ray caster lets go of Python's lock, so threads draw side by side.
    """
    own = threading.local()

    def draw(number: int) -> np.ndarray:
        if not hasattr(own, "render"):
            own.render = make_render()
        step, part = divmod(number, per_step)
        second = snapshots[min(step + 1, len(snapshots) - 1)]
        return own.render(between(snapshots[step], second, part / per_step))

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        for number in range(len(snapshots) * per_step):
            waiting.append(pool.submit(draw, number))
            if len(waiting) > 4 * threads:  # Not all at once: pictures are large.
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def encode_webp(image: UInt8[np.ndarray, "H W 3"], quality: int) -> bytes:
    """Return a picture as WebP; method 2 costs a third of the default's time for 4% more bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def quality_for(sample: UInt8[np.ndarray, "H W 3"], frames: int, budget: int) -> int:
    """Return the highest WebP quality in 30..80 at which `frames` such pictures stay within `budget` bytes."""
    for quality in (80, 70, 60, 50, 40):
        if len(encode_webp(sample, quality)) * frames <= budget:
            return quality
    return 30
