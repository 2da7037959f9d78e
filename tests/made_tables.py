"""Shared by tests: tables of random frames, small and quick."""

import numpy as np

from drivebyword.train.table import FrameTable


def make_table(episodes: int = 3, length: int = 40) -> FrameTable:
    rng = np.random.default_rng(0)
    count = episodes * length
    within = np.tile(np.arange(length), episodes)
    episode = np.repeat(np.arange(episodes), length)
    return FrameTable(
        cameras={"wide": rng.integers(0, 255, (count, 4, 6, 3), dtype=np.uint8)},
        lidar=rng.random((count, 2, 4, 2)).astype(np.float16),
        radar=rng.random((count, 3, 4), dtype=np.float32),
        radar_valid=rng.random((count, 3)) < 0.5,
        ego=rng.random((count, 7), dtype=np.float32),
        act=rng.random((count, 4, 3), dtype=np.float32),
        reason=rng.integers(0, 5, (count, 3)),
        plan=rng.random((count, 8, 2), dtype=np.float32),
        speed=rng.random(count, dtype=np.float32),
        affordances=rng.random((count, 10), dtype=np.float32),
        passed=(within >= 30).astype(np.float32),
        intent=rng.integers(0, 15, count),
        episode=episode,
        sentence=episode * 64 + (within >= 20),
        first=episode * length,
        weight=(1.0 + within).astype(np.float32),
    )
