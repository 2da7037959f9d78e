"""Episodes made of random numbers in every field, for tests of what is stored; run as a script it records some.

python made_episodes.py FOLDER FIRST LAST
"""

import sys

import numpy as np

from drivebyword.core.records import AFFORDANCES, Episode, InstructionRecord
from drivebyword.core.rig import Weather


def soft_images(rng, frames, height, width):
    """Return images with edges, a gradient and mild noise: what cameras give a codec to do."""
    y, x = np.mgrid[:height, :width]
    images = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        image = np.stack([120 + y, 90 + 0.3 * x, 200 - y], -1).astype(float)
        left = (3 * t) % (width - 20)
        image[height // 3 : height // 2, left : left + 18] = (200, 40, 40)
        images[t] = np.clip(image + rng.normal(0, 1.5, (height, width, 1)), 0, 255)
    return images


def make_episode(seed=1, frames=12, cameras=(("wide", 32, 96), ("tele", 32, 64)), beams=4, columns=16, **changes):
    """Return an episode whose every value depends on its seed; NaN and infinity where the world gives them."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(frames, *shape)).astype(np.float32)

    lane_offset, to_collision = normal(), normal() + 5
    lane_offset[3:5], to_collision[::3] = np.nan, np.inf
    half = frames // 2
    values = {
        "scenario": "town", "seed": seed, "driver": "expert", "dt": 0.2, "map_id": "m1",
        "weather": Weather(night=0.3), "rig": "tiny", "ended": "arrived",
        "instructions": [
            InstructionRecord(step=0, sentence='turn "left", gr\u00fcn', intent="left", deadline_s=30.0, branches=3),
            InstructionRecord(step=half, sentence=f"stop {seed % 2}", intent="stop", deadline_s=60.0,
                              outcome="fulfilled", resolved_step=frames - 1),
        ],
        "time_s": np.arange(frames) * 0.2, "pose": rng.normal(size=(frames, 3)), "motion": normal(5),
        "instruction_index": (np.arange(frames) >= half).astype(np.int64), "act": normal(4, 3),
        "reason": rng.integers(-1, 5, (frames, 3)), "actuation": normal(3), "disturbed": rng.random(frames) < 0.3,
        "verdict": rng.integers(0, 3, frames), "verdict_why": ["too fast, 3 m" if t % 7 else "" for t in range(frames)],
        "expert_act": normal(3), "expert_reason": rng.integers(0, 5, (frames, 3)), "expert_plan": normal(8, 2),
        "expert_speed": normal(), "affordances": normal(len(AFFORDANCES)), "events": rng.integers(0, 2048, frames),
        "route_completion": normal(),
        "lane_offset": lane_offset, "time_to_collision": to_collision, "ego_observed": normal(7),
        "cameras": {name: soft_images(rng, frames, height, width) for name, height, width in cameras},
        "lidar": (rng.random((frames, beams, columns, 2)) * 80).astype(np.float32),
        "radar": normal(12, 4), "radar_valid": rng.random((frames, 12)) < 0.5,
    }  # fmt: skip
    return Episode(**{**values, **changes})


if __name__ == "__main__":
    from drivebyword.data.dataset import DatasetWriter

    writer = DatasetWriter(sys.argv[1])
    for seed in range(int(sys.argv[2]), int(sys.argv[3])):
        if not writer.has("town", seed, "expert"):
            writer.add(make_episode(seed))
            print("recorded", seed, flush=True)
    print("merging", flush=True)
    writer.finalize()
