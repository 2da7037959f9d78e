"""The rigs that ship.

`tiny` (what the shipped policy carries), `seven-camera`, `vision-only`, and `reference` (what speed is quoted on).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from math import radians

from drivebyword.core.rig import (
    CameraConfig,
    Distortion,
    LidarConfig,
    OdometryConfig,
    RadarConfig,
    RadarNoise,
    RigConfig,
)


def tiny() -> RigConfig:
    """Return a wide cylindrical view (190 degrees: turn exits to both sides), a tele for signals, LiDAR, radar."""
    return RigConfig(
        name="tiny",
        cameras=(
            CameraConfig(
                name="wide",
                width=192,
                height=64,
                fov_deg=190.0,
                projection="cylindrical",
                vertical_fov_deg=60.0,
                pitch=0.08,
            ),
            CameraConfig(name="tele", width=128, height=64, fov_deg=35.0, z=1.6, pitch=-0.03),
        ),
        lidar=LidarConfig(columns=128, beams=16),
        radar=RadarConfig(columns=64, rows=3, detections=12),
    )


def reference() -> RigConfig:
    """Return one 128x64 camera, LiDAR 64x16 and radar 64x3."""
    return RigConfig(
        name="reference",
        cameras=(CameraConfig(name="front", width=128, height=64, fov_deg=90.0),),
        lidar=LidarConfig(columns=64, beams=16),
        radar=RadarConfig(columns=64, rows=3, detections=12),
    )


_WIDE_LENS = Distortion(k1=-0.20, k2=0.030, p1=0.0005, p2=-0.0003)
"""A mild barrel, of the size of published calibrations of 60 to 120 degree automotive cameras."""


def _aside(name: str, yaw_deg: float) -> CameraConfig:
    """Return a camera on the car's side, on the left for a positive yaw."""
    y = 0.9 if yaw_deg > 0.0 else -0.9
    return CameraConfig(name=name, width=160, height=96, fov_deg=80.0, x=1.0, y=y, z=1.3, yaw=radians(yaw_deg),
                        distortion=_WIDE_LENS)  # fmt: skip


def _ring() -> tuple[CameraConfig, ...]:
    """Return seven views: two ahead, two to each side, one behind, overlapping all round."""
    return (
        CameraConfig(name="front_wide", width=192, height=96, fov_deg=120.0, pitch=0.08, distortion=_WIDE_LENS),
        CameraConfig(name="front_tele", width=160, height=96, fov_deg=35.0, pitch=-0.02),
        _aside("front_left", 55.0),
        _aside("front_right", -55.0),
        _aside("rear_left", 120.0),
        _aside("rear_right", -120.0),
        CameraConfig(name="rear", width=160, height=96, fov_deg=90.0, yaw=radians(180.0), x=-0.6, z=1.1,
                     distortion=_WIDE_LENS),
    )  # fmt: skip


def seven_camera() -> RigConfig:
    """Return seven distorting cameras all round, a finer LiDAR, a radar and an odometry that err as real ones do."""
    return RigConfig(
        name="seven-camera",
        cameras=_ring(),
        lidar=LidarConfig(columns=256, beams=32),
        radar=RadarConfig(columns=96, rows=3, detections=24, noise=RadarNoise()),
        odometry=OdometryConfig(),
    )


def vision_only() -> RigConfig:
    """Return the seven cameras alone."""
    return RigConfig(name="vision-only", cameras=_ring(), lidar=None, radar=None, odometry=OdometryConfig())


RIGS: dict[str, Callable[[], RigConfig]] = {
    "tiny": tiny,
    "seven-camera": seven_camera,
    "vision-only": vision_only,
    "reference": reference,
}


def rig(name: str) -> RigConfig:
    """Return a rig by name; ValueError names the nearest for an unknown one."""
    if name not in RIGS:
        near = difflib.get_close_matches(name, RIGS, n=2, cutoff=0.4) or list(RIGS)
        raise ValueError(f"no rig {name!r}; did you mean {' or '.join(near)}? There are: {', '.join(RIGS)}")
    return RIGS[name]()
