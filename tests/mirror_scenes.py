"""How exactly every sensor mirrors: scenes in, the largest deviations out.

    PYTHONPATH=. python tests/mirror_scenes.py 1000000:1000300

drives each validation seed of a range for a while, in nominal scenes and families in turn, and compares what the
rig sees, without noise, with what it sees of the mirrored moment in the mirror image of the town.
"""

from __future__ import annotations

import sys
from dataclasses import astuple, dataclass, fields

import numpy as np

from drivebyword.world.env import DrivingEnv
from drivebyword.world.families import FAMILIES
from drivebyword.world.mirror import mirror_lidar, mirror_picture, mirror_radar, mirror_snapshot
from drivebyword.world.rigs import tiny

NOMINAL = ("town", "town-night", "town-fog", "town-left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviations:
    """Between a scene's sensors and its image's, mirrored back."""

    camera_levels: int
    """Grey levels, at most."""
    camera_share: float
    """Share of pixels that differ at all."""
    lidar_m: float
    lidar_intensity: float
    lidar_intensity_share: float
    """Share of returns whose intensity differs at all."""
    radar: float
    """Of any of the four numbers of a detection; infinite where their count differs."""


def deviations(env: DrivingEnv, scenario: str, seed: int) -> Deviations:
    """Drive a scene up to a moment of its own and compare it with its image."""
    _, info = env.reset(seed=seed, options={"scenario": scenario})
    for _ in range(int(np.random.default_rng(seed).integers(0, 25))):
        if info["ended"] is None:
            *_, info = env.step(env.expert().act[0])
    snapshot, weather, left_hand = env.snapshot(), env.weather, env.road_map.left_hand
    seen = env._place.sensors.observe(snapshot, weather, None)
    env.reset(seed=seed, options={"scenario": scenario, "mirror": True})
    assert env.road_map.left_hand != left_hand
    image = env._place.sensors.observe(mirror_snapshot(snapshot), weather, None)
    pictures = [
        np.abs(picture.astype(int) - mirror_picture(image.cameras[name])).max(axis=2)
        for name, picture in seen.cameras.items()
    ]
    ranges = np.abs(seen.lidar - mirror_lidar(image.lidar))
    heard, echoed = seen.radar[seen.radar_valid], mirror_radar(image.radar)[image.radar_valid]
    return Deviations(
        camera_levels=max(int(picture.max()) for picture in pictures),
        camera_share=float(np.mean([np.mean(picture > 0) for picture in pictures])),
        lidar_m=float(ranges[..., 0].max()),
        lidar_intensity=float(ranges[..., 1].max()),
        lidar_intensity_share=float(np.mean(ranges[..., 1] > 0)),
        radar=_apart(heard, echoed),
    )


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference between two sets of detections: each is matched with the nearest of the other."""
    if len(a) != len(b):
        return float("inf")
    gaps = np.abs(a[:, None] - b[None]).max(axis=2)
    return float(max(gaps.min(axis=0).max(), gaps.min(axis=1).max())) if len(a) else 0.0


def worst(found: list[Deviations]) -> Deviations:
    """Return the largest of every number."""
    return Deviations(**{f.name: max(getattr(one, f.name) for one in found) for f in fields(Deviations)})


def main() -> None:
    """Compare a range of seeds and print what is largest."""
    first, last = (int(n) for n in sys.argv[1].split(":"))
    env, found, families = DrivingEnv(rig=tiny()), [], list(FAMILIES)
    for k, seed in enumerate(range(first, last)):
        name = families[k // 2 % len(families)] if k % 2 else NOMINAL[k // 2 % len(NOMINAL)]
        found.append(deviations(env, name, seed))
        if any(astuple(found[-1])):
            print(seed, name, found[-1], flush=True)
    exact = sum(not any(astuple(one)) for one in found)
    print(f"{len(found)} scenes, {exact} exact to the last bit; at most {worst(found)}")


if __name__ == "__main__":
    main()
