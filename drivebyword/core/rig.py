"""What a car senses with and through: the configurations of cameras, LiDAR, radar and whole rigs, and the weather.

Mounts are in the ego frame (ISO 8855: x forward, y left, z up, origin at the rear axle on the ground); angles in
radians, positive to the left, unless the name says degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """One camera: pinhole, or cylindrical (columns equally spaced in azimuth) for very wide views."""

    name: str
    width: int
    height: int
    fov_deg: float
    """Horizontal field of view in degrees."""
    projection: str = "pinhole"
    """`pinhole` or `cylindrical`."""
    vertical_fov_deg: float | None = None
    """Cylindrical only: vertical field of view in degrees; None keeps pixels square at the horizon."""
    x: float = 1.6
    y: float = 0.0
    z: float = 1.5
    yaw: float = 0.0
    pitch: float = 0.0
    """Positive looks down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarConfig:
    """A spinning LiDAR. Column c looks at azimuth pi - (c + 0.5) * 2 pi / columns: the middle is ahead."""

    columns: int
    beams: int
    elevation_min_deg: float = -14.0
    elevation_max_deg: float = 4.0
    range_max: float = 80.0
    x: float = 1.2
    z: float = 1.8

    def elevations(self) -> Float[np.ndarray, " beams"]:
        """Return how far each beam looks up, in radians, from the lowest."""
        return np.radians(np.linspace(self.elevation_min_deg, self.elevation_max_deg, self.beams))

    def azimuths(self) -> Float[np.ndarray, " columns"]:
        """Return how far to the left each column looks, in radians, from behind on the left round to the right."""
        return np.pi - (np.arange(self.columns) + 0.5) * 2 * np.pi / self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarConfig:
    """A forward radar that returns its `detections` nearest detections, padded with a valid mask."""

    columns: int
    rows: int
    detections: int
    fov_deg: float = 120.0
    range_max: float = 100.0
    x: float = 3.6
    z: float = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class RigConfig:
    """The sensors a car carries."""

    name: str
    cameras: tuple[CameraConfig, ...]
    lidar: LidarConfig | None
    radar: RadarConfig | None

    def sensor_names(self) -> tuple[str, ...]:
        """Return camera names, then `lidar` and `radar` where mounted."""
        extra = ("lidar",) * (self.lidar is not None) + ("radar",) * (self.radar is not None)
        return tuple(c.name for c in self.cameras) + extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What light and air do to the sensors. Fog is a visibility in metres; night in [0, 1]."""

    night: float = 0.0
    fog_visibility: float = 1000.0
    ice: float = 0.0
    """How slippery the road is and looks, in [0, 1]."""
