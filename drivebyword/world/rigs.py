"""The rigs that ship: `tiny` (what the shipped policy carries) and `reference` (what speed is quoted on)."""

from __future__ import annotations

from drivebyword.core.rig import CameraConfig, LidarConfig, RadarConfig, RigConfig


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
