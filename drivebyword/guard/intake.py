"""What arrives at the driver: an observation in; the same without readings that are none out, and why to stop.

A reading of another shape or type than the rig's, or with a number that is not finite, counts as missing: a policy is
never asked about it, and what the loss of a sensor means is the guard's to say. Without the car's own measurements
nothing can be decided: the car stops.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drivebyword.core.records import EGO_FIELDS, Observation
from drivebyword.core.rig import RigConfig


def sound(reading: object, shape: tuple[int, ...], dtype: type) -> bool:
    """Tell whether a reading is an array of that shape and type, all finite."""
    if not isinstance(reading, np.ndarray) or reading.shape != shape or reading.dtype != dtype:
        return False
    return not np.issubdtype(dtype, np.floating) or bool(np.isfinite(reading).all())


def unsound_ego(observation: Observation) -> str:
    """Return why the car's own measurements cannot be used, empty where they can."""
    ego = observation.ego
    if not isinstance(ego, np.ndarray) or ego.shape != (len(EGO_FIELDS),):
        return "the ego's own measurements are malformed"
    if not (np.isfinite(ego).all() and np.isfinite(observation.time_s)):
        return "the ego's own measurements are not finite"
    return ""


def sifted(observation: Observation, rig: RigConfig) -> Observation:
    """Return the observation without malformed readings of the rig's sensors; itself where there are none."""
    shapes = {camera.name: (camera.height, camera.width, 3) for camera in rig.cameras}
    cameras = {n: c for n, c in observation.cameras.items() if n not in shapes or sound(c, shapes[n], np.uint8)}
    lidar, radar, mask = observation.lidar, observation.radar, observation.radar_valid
    if rig.lidar is not None and not sound(lidar, (rig.lidar.beams, rig.lidar.columns, 2), np.float32):
        lidar = None
    if rig.radar is not None:
        rows = rig.radar.detections
        if not (sound(radar, (rows, 4), np.float32) and sound(mask, (rows,), np.bool_)):
            radar = mask = None
    if len(cameras) == len(observation.cameras) and lidar is observation.lidar and radar is observation.radar:
        return observation
    return replace(observation, cameras=cameras, lidar=lidar, radar=radar, radar_valid=mask)
