"""What a car senses with and through: the configurations of cameras, LiDAR, radar and whole rigs, and the weather.

Mounts are in the ego frame (ISO 8855: x forward, y left, z up, origin at the rear axle on the ground); angles in
radians, positive to the left, unless the name says degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin, tan

import numpy as np
from jaxtyping import Float

from drivebyword.core.ranges import require_kind, require_one_of, require_whole, require_within

MOUNT_M = (-10.0, 10.0)
"""How far from the rear axle a sensor may sit."""
TURN = (-3.2, 3.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """Brown-Conrady coefficients, as OpenCV names and applies them (Brown, "Decentering distortion", 1966)."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require_within(self, k1=(-10.0, 10.0), k2=(-10.0, 10.0), p1=(-1.0, 1.0), p2=(-1.0, 1.0), k3=(-10.0, 10.0))


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
    """Positive looks down. The picture is shifted, not tilted (a shift lens): see `intrinsics`."""
    distortion: Distortion | None = None
    """Pinhole only; None: a perfect lens."""

    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Return the pinhole camera's matrix K: pixels from a ray (right, down, ahead) of a camera that looks level.

        The pitch is all in K: it moves the principal point up the picture by tan(pitch) * f, exactly as drawn.
        """
        if self.projection != "pinhole":
            raise ValueError(f"camera '{self.name}' is {self.projection}: only a pinhole has a matrix K")
        focal = self.width / 2 / tan(radians(self.fov_deg) / 2)
        middle = (self.width / 2, self.height / 2 - tan(self.pitch) * focal)
        return np.array([[focal, 0.0, middle[0]], [0.0, focal, middle[1]], [0.0, 0.0, 1.0]])

    def extrinsics(self) -> Float[np.ndarray, "4 4"]:
        """Return ego_from_camera: the ego frame's x, y, z, 1 from the camera's right, down, ahead, 1, metres.

        The camera looks level along its yaw; its pitch is in `intrinsics`, roll there is none.
        """
        c, s = cos(self.yaw), sin(self.yaw)
        return np.array([[s, 0.0, c, self.x], [-c, 0.0, s, self.y], [0.0, -1.0, 0.0, self.z], [0.0, 0.0, 0.0, 1.0]])

    def __post_init__(self) -> None:
        """Refuse what no picture could be drawn with."""
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"CameraConfig.name must be one plain word, got {self.name!r}")
        require_one_of(self, "projection", ("pinhole", "cylindrical"))
        require_whole(self, width=(2, 4096), height=(2, 4096))
        require_within(self, fov_deg=(1.0, 360.0), x=MOUNT_M, y=MOUNT_M, z=(0.05, 10.0))
        require_within(self, yaw=TURN, pitch=(-1.5, 1.5))
        if self.vertical_fov_deg is not None:
            require_within(self, vertical_fov_deg=(1.0, 170.0))
        require_kind(self, distortion=Distortion | None)


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

    def __post_init__(self) -> None:
        """Refuse what no ray could be cast with."""
        require_whole(self, columns=(1, 8192), beams=(1, 512))
        require_within(self, elevation_min_deg=(-89.0, 89.0), elevation_max_deg=(-89.0, 89.0))
        require_within(self, range_max=(1.0, 1000.0), x=MOUNT_M, z=(0.05, 10.0))
        if self.elevation_min_deg > self.elevation_max_deg:
            raise ValueError(
                f"LidarConfig.elevation_min_deg must not be above elevation_max_deg, got {self.elevation_min_deg:g} "
                f"and {self.elevation_max_deg:g}"
            )

    def elevations(self) -> Float[np.ndarray, " beams"]:
        """Return how far each beam looks up, in radians, from the lowest."""
        return np.radians(np.linspace(self.elevation_min_deg, self.elevation_max_deg, self.beams))

    def azimuths(self) -> Float[np.ndarray, " columns"]:
        """Return how far to the left each column looks, in radians, from behind on the left round to the right."""
        return np.pi - (np.arange(self.columns) + 0.5) * 2 * np.pi / self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarNoise:
    """What a real radar adds to the plain one; `world.echoes` says how, and from where the numbers are."""

    azimuth_deg: float = 0.5
    """Deviation of the azimuth ahead; it grows with 1 / cos(azimuth) to the side."""
    mirror_rate: float = 0.3
    """Share of the possible mirror images of a road user, in a wall or a long vehicle, that are detected."""
    clutter: float = 1.0
    """Mean false detections a scan (Poisson)."""
    missed: float = 0.05
    """Share of detections that are lost."""

    def __post_init__(self) -> None:
        """Refuse what no scan could err by."""
        require_within(self, azimuth_deg=(0.0, 45.0), mirror_rate=(0.0, 1.0), clutter=(0.0, 1000.0), missed=(0.0, 1.0))


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
    noise: RadarNoise | None = None
    """None: the plain radar, whose azimuth errs alike everywhere, with a ghost or false alarm now and then."""

    def __post_init__(self) -> None:
        """Refuse what no ray could be cast with."""
        require_whole(self, columns=(1, 4096), rows=(1, 256), detections=(1, 4096))
        require_within(self, fov_deg=(1.0, 360.0), range_max=(1.0, 1000.0), x=MOUNT_M, z=(0.05, 10.0))
        require_kind(self, noise=RadarNoise | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OdometryConfig:
    """What wheels and gyroscope get wrong for a whole drive, drawn anew for each scene."""

    wheel_scale: float = 0.01
    """Deviation of the wheels' circumference from what is believed, as a share: tyres wear and deflate by a per cent
    or two (Borenstein and Feng, 1996)."""
    gyro_bias: float = 0.002
    """Deviation of the gyroscope's constant error, rad/s (0.1 degrees a second: a cheap MEMS part switched on)."""
    gyro_walk: float = 0.0001
    """How far that error wanders, rad/s in a second, growing with the square root of time (bias instability)."""

    def __post_init__(self) -> None:
        """Refuse what no car could drive by."""
        require_within(self, wheel_scale=(0.0, 0.5), gyro_bias=(0.0, 1.0), gyro_walk=(0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class RigConfig:
    """The sensors a car carries."""

    name: str
    cameras: tuple[CameraConfig, ...]
    lidar: LidarConfig | None
    radar: RadarConfig | None
    odometry: OdometryConfig | None = None
    """None: wheels and gyroscope err at random only, from moment to moment."""

    def __post_init__(self) -> None:
        """Refuse two cameras of one name."""
        require_kind(self, lidar=LidarConfig | None, radar=RadarConfig | None, odometry=OdometryConfig | None)
        names = [camera.name for camera in self.cameras]
        if len(set(names)) < len(names):
            raise ValueError(f"RigConfig.cameras must have a name each, got {', '.join(names)}")

    def sensor_names(self) -> tuple[str, ...]:
        """Return camera names, then `lidar` and `radar` where mounted."""
        extra = ("lidar",) * (self.lidar is not None) + ("radar",) * (self.radar is not None)
        return tuple(c.name for c in self.cameras) + extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What light and air do to the sensors and the road."""

    night: float = 0.0
    """In [0, 1]."""
    fog_visibility: float = 1000.0
    """Metres after which 1/e of the light is left. Meteorologists' visibility is three times as far: where 5 % of a
    contrast is left (Koschmieder, 1924)."""
    ice: float = 0.0
    """How slippery the road is and looks, in [0, 1]."""
    rain: float = 0.0
    """mm/h: 2.5 light, 10 moderate, 50 violent (the UK Met Office's steps). The road is wet from the first drop."""
    glare: float = 0.0
    """How much of the sun's light strays inside a lens that looks towards it, in [0, 1]."""
    sun_azimuth: float = -2.437
    """Where the sun stands, map frame. Faces are lit from a fixed afternoon sun; glare comes from here."""
    sun_elevation: float = 0.804
    """Radians above the horizon; low sun is under 0.2."""
    dirt: float = 0.0
    """How dirty every lens is, in [0, 1]; each has its own blotches, for a whole scene."""

    def __post_init__(self) -> None:
        """Refuse what is not between its bounds."""
        require_within(self, night=(0.0, 1.0), fog_visibility=(1.0, 1e6), ice=(0.0, 1.0), rain=(0.0, 200.0))
        require_within(self, glare=(0.0, 1.0), dirt=(0.0, 1.0), sun_azimuth=(-7.0, 7.0), sun_elevation=(-1.6, 1.6))

    @property
    def rain_extinction(self) -> float:
        """1/m of light that rain takes: twice the drops' cross-section in Marshall and Palmer's size distribution.

        N(D) = 8000 exp(-4.1 R^-0.21 D) drops a m3 and mm ("The distribution of raindrops with size", 1948); large
        drops take out twice their shadow. The integral over D comes to 0.000365 R^0.63: 1/e after 360 m at 25 mm/h.
        """
        return 3.65e-4 * self.rain**0.63

    @property
    def sight(self) -> float:
        """Metres as far as some sensor can tell that somebody is there."""
        if self.rain == 0.0:
            return 1.5 * self.fog_visibility
        return 1.5 / (1.0 / self.fog_visibility + self.rain_extinction)

    @property
    def grip(self) -> float:
        """Share of the dry road's friction that is left when wet: 0.8 once it rains, 0.6 from 50 mm/h on.

        Wet asphalt has a friction of 0.7 to 0.8 where dry has 0.8 to 1.0 (Wallman and Astrom, VTI 911A, 2001), and
        less as the film of water grows.
        """
        return 1.0 if self.rain == 0.0 else 0.8 - 0.2 * min(self.rain / 50.0, 1.0)
