"""The car's sensors: a Snapshot and the Weather in, a SensorFrame out.

The bytes depend on the snapshot, the weather and the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Snapshot
from drivebyword.core.rig import CameraConfig, RigConfig, Weather
from drivebyword.world import echoes
from drivebyword.world.bodies import gather
from drivebyword.world.distortion import Warp
from drivebyword.world.faces import CANDIDATES
from drivebyword.world.glass import Glass
from drivebyword.world.ground import PALETTE, Ground
from drivebyword.world.kernel import render
from drivebyword.world.light import FOG_R, HOR_R, INV_VIS, NIGHT, ZEN_R, light_of
from drivebyword.world.noise import SILENCE, frame_key
from drivebyword.world.radar import radar
from drivebyword.world.rainfall import lidar_in_rain, radar_in_rain
from drivebyword.world.ranging import lidar, line_of_sight
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import Scenery
from drivebyword.world.solids import SOLID_CODES, SOLID_FLOATS

SUB_COLUMNS = 2
SENSOR_REACH = 140.0
SUN_REACH = 120.0
"""Metres within which something may hide the sun."""
READ_NOISE = 1.6
SHOT_NOISE = 0.035


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorFrame:
    """What all sensors of a rig saw at one moment."""

    cameras: dict[str, UInt8[np.ndarray, "H W 3"]]
    lidar: Float32[np.ndarray, "beams columns 2"] | None
    """Range in metres (0 = no return) and intensity in [0, 1]; beam 0 is the lowest."""
    radar: Float32[np.ndarray, "detections 4"] | None
    radar_valid: Bool[np.ndarray, " detections"] | None


class Lens:
    """A camera's rays and row tables, computed once."""

    def __init__(self, camera: CameraConfig, ground_pixel: float, subs: int = SUB_COLUMNS, image: bool = False) -> None:
        self.warp = Warp(camera) if camera.distortion is not None else None
        camera = self.warp.camera if self.warp is not None else camera
        self.camera = camera
        width, height = camera.width, camera.height
        self.half_fov = np.radians(camera.fov_deg) / 2
        self.cylindrical = camera.projection == "cylindrical"
        if not self.cylindrical and (camera.projection != "pinhole" or camera.fov_deg >= 170):
            raise ValueError(
                f"camera '{camera.name}': projection must be pinhole (below 170 degrees) or cylindrical, "
                f"got {camera.projection} with {camera.fov_deg:g} degrees"
            )
        at = (np.arange(width * subs) + 0.5) / subs - width / 2
        if self.cylindrical:
            self.scale = width / (2 * self.half_fov)
            azimuth = -at / self.scale
            rise = self.scale
            if camera.vertical_fov_deg is not None:
                rise = height / (2 * np.tan(np.radians(camera.vertical_fov_deg) / 2))
            rows_per_slope = np.full(width * subs, rise)
        else:
            self.scale = rise = width / 2 / np.tan(self.half_fov)
            azimuth = np.arctan2(-at, self.scale)
            rows_per_slope = rise / np.cos(azimuth)
        self.rays = np.stack([np.cos(azimuth), np.sin(azimuth), rows_per_slope], 1)
        self.rise = rise
        # A pitch shifts the picture instead of tilting it: verticals stay upright.
        self.horizon = height / 2 - np.tan(camera.pitch) * rise
        self.row_level, self.row_taps, self.row_distance = self._rows(width, height, ground_pixel, subs)
        self.row_inverse = self._inverse(height, subs)
        if image:  # the columns of a mirror image sample where their originals do
            self.row_inverse = np.ascontiguousarray(self.row_inverse[:, ::-1])
        self.image = np.zeros((height, width, 3), np.float32)
        self._air: tuple[tuple[float, ...], np.ndarray, np.ndarray] | None = None
        self.table = np.zeros((width, CANDIDATES), np.int32)
        self.counts = np.zeros(width, np.int32)
        self._glass: Glass | None = None
        slope = np.maximum((self.horizon - np.arange(height) - 0.5) / rise, 0.0)
        self.row_sky = np.clip(slope / 0.75, 0.0, 1.0) ** 0.6

    def _rows(
        self, width: int, height: int, ground_pixel: float, subs: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose for every row how many ground samples to take along the ray, from which level."""
        z, row = self.camera.z, np.arange(height)
        middle = z * self.rise / np.maximum(row + 0.5 - self.horizon, 1e-3)
        near = z * self.rise / np.maximum(row + 1.0 - self.horizon, 1e-3)
        far = np.minimum(z * self.rise / np.maximum(row - self.horizon, 1e-3), 3 * middle)
        across = middle * 2 * self.half_fov / width
        taps = np.clip(np.round((far - near) / (across * 1.6)), 1, 8 // subs)
        size = np.maximum(across * 0.8, (far - near) / (taps * subs) * 0.8)
        level = np.clip(np.round(np.log2(np.maximum(size / ground_pixel, 1.0))), 0, 6)
        return level.astype(np.int64), taps.astype(np.int64), middle

    def _inverse(self, height: int, subs: int) -> np.ndarray:
        """Return 1 / (rows below the horizon) of every ground sample; sub-columns sample between each other's rows."""
        shape = (height, subs, int(self.row_taps.max()))
        row, sub, tap = (index.astype(float) for index in np.indices(shape))
        at = row + (tap + (sub + 0.5) / subs) / self.row_taps[:, None, None] - self.horizon
        return 1.0 / np.maximum(at, 0.02)

    @property
    def glass(self) -> Glass:
        """What is before the lens in weather that needs it; made on first use."""
        if self._glass is None:
            middle = self.rays.reshape(self.camera.width, -1, 3).mean(1)
            slope = (self.horizon - np.arange(self.camera.height) - 0.5)[:, None] / middle[:, 2]
            rays = np.stack([*np.broadcast_arrays(middle[:, 0], middle[:, 1], slope)], -1)
            self._glass = Glass(rays / np.linalg.norm(rays, axis=-1, keepdims=True), self.camera.name)
        return self._glass

    def air(self, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return, for every row, the share of the ground's light that arrives, and the sky's colour."""
        mark = (float(light[INV_VIS]), float(light[NIGHT]))
        if self._air is None or self._air[0] != mark:
            fog = np.exp(-np.minimum(self.row_distance, 600.0) * light[INV_VIS])
            zenith, horizon = light[ZEN_R : ZEN_R + 3], light[HOR_R : HOR_R + 3]
            # Thick fog hides the sky as if it stood 800 m away at the horizon, less overhead.
            clear = np.exp(-800.0 * light[INV_VIS] * (1.0 - 0.8 * self.row_sky))[:, None]
            sky = (horizon + (zenith - horizon) * self.row_sky[:, None]) * clear
            self._air = (mark, fog, sky + light[FOG_R : FOG_R + 3] * (1.0 - clear))
        return self._air[1:]

    def project(self, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Return (column, row, distance ahead) of map points (x, y, z) for a camera at (x, y, z, yaw)."""
        delta = points - pose[:3]
        ahead = delta[:, 0] * np.cos(pose[3]) + delta[:, 1] * np.sin(pose[3])
        left = delta[:, 1] * np.cos(pose[3]) - delta[:, 0] * np.sin(pose[3])
        azimuth, flat = np.arctan2(left, ahead), np.maximum(np.hypot(ahead, left), 1e-6)
        width = self.camera.width
        if self.cylindrical:
            column, row = width / 2 - self.scale * azimuth, self.horizon - self.rise * delta[:, 2] / flat
        else:
            safe = np.maximum(ahead, 1e-6)
            column, row = width / 2 - self.scale * left / safe, self.horizon - self.rise * delta[:, 2] / safe
        return np.stack([column, row, ahead], 1)


class Solids:
    """The table of solids of one snapshot, and the kernels' common arguments; reused from frame to frame."""

    def __init__(self, road_map: RoadMap, ground: Ground, scenery: Scenery, capacity: int = 4096) -> None:
        self.ground, self.scenery = ground, scenery
        heads = [(h.x, h.y, h.z, h.yaw) for h in road_map.signals]
        self.heads = np.array(heads, float).reshape(-1, 4)
        # Scenery's rows stay where they are; what moves is written behind them.
        self.floats = np.concatenate([scenery.floats, np.zeros((capacity, SOLID_FLOATS), np.float32)])
        self.codes = np.concatenate([scenery.codes, np.zeros((capacity, SOLID_CODES), np.int32)])
        self.order = np.zeros(0, np.int64)
        self.patch = (np.zeros((1, 1), np.uint32), np.zeros(3))
        self.origin = np.array([ground.x_min, ground.y_min, ground.pixel])
        self.ground_args = (ground.base, PALETTE, ground.mips, ground.levels, self.origin)

    def collect(self, snapshot: Snapshot, weather: Weather, reach: float) -> None:
        """Fill the table with what stands around the ego."""
        x, y = float(snapshot.ego[0]), float(snapshot.ego[1])
        if len(snapshot.signals) != len(self.heads):
            raise ValueError(f"snapshot has {len(snapshot.signals)} signal states, the map has {len(self.heads)} heads")
        self.agents = np.ascontiguousarray(snapshot.agents, np.float32)
        self.kinds = np.asarray(snapshot.agent_kind, np.int64)
        self.order = gather(
            self.floats, self.codes, len(self.scenery.floats), self.agents, self.kinds,
            np.asarray(snapshot.agent_lights, np.int64), np.asarray(snapshot.agent_key, np.int64), self.heads,
            np.asarray(snapshot.signals, np.int64), x, y, reach, float(snapshot.time_s), reach + 20.0,
            (0.30 * (1.0 - 0.7 * weather.night), self.scenery.sun_side),
        )  # fmt: skip

    def picture(
        self, lens: Lens, pose: np.ndarray, light: np.ndarray, key: np.uint64, noise: tuple[float, float], fine: int
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Render one camera at (x, y, z, yaw)."""
        out = np.empty((lens.camera.height, lens.camera.width, 3), np.uint8)
        fog, sky = lens.air(light)
        render(
            out, pose, lens.half_fov, lens.scale, lens.cylindrical, lens.rays, lens.horizon, lens.row_level,
            lens.row_taps, lens.row_inverse, fog, sky, self.order, self.floats, self.codes,
            *self.ground_args, light, key, np.array(noise), fine, *self.patch, lens.image, lens.table, lens.counts,
        )  # fmt: skip
        return out


def mounted(ego: np.ndarray, x: float, y: float, z: float, yaw: float) -> tuple[float, float, float, float]:
    """Return x, y, z, yaw in the map frame of a mount on the ego."""
    at_x, at_y, heading = float(ego[0]), float(ego[1]), float(ego[2])
    c, s = cos(heading), sin(heading)
    return at_x + x * c - y * s, at_y + x * s + y * c, z, heading + yaw


class Sensors:
    """A rig on a car in a town."""

    def __init__(
        self, rig: RigConfig, road_map: RoadMap, ground: Ground, scenery: Scenery, car: CarConfig | None = None
    ) -> None:
        self.rig, self.car = rig, car or CarConfig()
        self.solids = Solids(road_map, ground, scenery)
        self.lenses = {camera.name: Lens(camera, ground.pixel, image=scenery.image) for camera in rig.cameras}
        if rig.lidar is not None:
            self.lidar_slopes = np.tan(rig.lidar.elevations())
        if rig.radar is not None:
            spread = np.radians(2.0) * np.linspace(-1.0, 1.0, rig.radar.rows) if rig.radar.rows > 1 else np.zeros(1)
            self.radar_slopes = np.tan(spread)

    def observe(
        self, snapshot: Snapshot, weather: Weather, rng: np.random.Generator | int | None, scene: int = 0
    ) -> SensorFrame:
        """Sense one moment.

        Args:
            snapshot: Ground truth.
            weather: Light and air.
            rng: Source of all noise: a generator (one number is drawn) or a number that names the frame; None:
                without noise, and what is a matter of chance goes the likelier way.
            scene: The scene's seed, for what stays on a lens from frame to frame.
        """
        key = int(frame_key(rng)) if rng is not None else 0
        self.solids.collect(snapshot, weather, SENSOR_REACH)
        ego = np.asarray(snapshot.ego, float)
        keys = [np.uint64((key + 0x632BE59BD9B4E019 * (k + 1)) % 2**64) for k in range(len(self.lenses) + 2)]
        keys = keys if rng is not None else [SILENCE] * len(keys)
        cameras = {
            name: self._picture(lens, ego, weather, keys[k], float(snapshot.time_s), scene)
            for k, (name, lens) in enumerate(self.lenses.items())
        }
        ranges = self._lidar(ego, weather, keys[-2]) if self.rig.lidar else None
        detections, valid = self._radar(ego, weather, keys[-1]) if self.rig.radar else (None, None)
        return SensorFrame(cameras=cameras, lidar=ranges, radar=detections, radar_valid=valid)

    def visible(self, snapshot: Snapshot, weather: Weather, reach: float = 80.0) -> Bool[np.ndarray, " M"]:
        """Tell which agents a ray from the roof reaches, within `reach` metres and the fog's limit."""
        self.solids.collect(snapshot, weather, SENSOR_REACH)
        x, z = (self.rig.lidar.x, self.rig.lidar.z) if self.rig.lidar else (1.2, 1.8)
        eye = mounted(np.asarray(snapshot.ego, float), x, 0.0, z, 0.0)
        out = np.zeros(len(self.solids.agents), np.bool_)
        s = self.solids
        reach = min(reach, weather.sight)
        line_of_sight(out, eye[0], eye[1], eye[2], reach, s.agents, s.order, s.floats, s.codes)
        return out

    def _picture(
        self, lens: Lens, ego: np.ndarray, weather: Weather, key: np.uint64, time_s: float, scene: int
    ) -> np.ndarray:
        camera = lens.camera
        wobble = _bell(key) if key != SILENCE else 0.0
        exposure = (1.0 + 0.25 * weather.night) * (1.0 + 0.03 * wobble)
        light = light_of(weather, ego, exposure, self.solids.scenery.sun_side)
        gain = 1.0 + 1.6 * weather.night if key != SILENCE else 0.0
        noise = (READ_NOISE * gain, SHOT_NOISE * gain)
        pose = np.array(mounted(ego, camera.x, camera.y, camera.z, camera.yaw))
        picture = self.solids.picture(lens, pose, light, key, noise, 0)
        if weather.rain > 0.0 or weather.dirt > 0.0 or weather.glare > 0.0:
            sun = self.sun_seen(pose, weather) if weather.glare > 0.0 else 0.0
            picture = lens.glass.through(picture, weather, pose[3], sun, time_s, scene, int(key))
        return lens.warp.apply(picture) if lens.warp is not None else picture

    def sun_seen(self, pose: np.ndarray, weather: Weather) -> float:
        """Return the share of the sun's disc that neither houses, trees nor vehicles nor clouds hide from a place."""
        s, rise = self.solids, np.tan(weather.sun_elevation)
        if rise <= 0.0:
            return 0.0
        # Rays to five stand-ins across the disc, half a degree wide, on top of rows that are too far to be asked.
        side = weather.sun_azimuth + np.radians(np.linspace(-0.27, 0.27, 5))
        rows = np.full((len(s.agents) + 5, 9), 1e9, np.float32)
        rows[-5:] = 0.0
        rows[-5:, 0], rows[-5:, 1] = pose[0] + SUN_REACH * np.cos(side), pose[1] + SUN_REACH * np.sin(side)
        rows[-5:, 5] = (pose[2] + rise * SUN_REACH) / 0.6
        out = np.zeros(len(rows), np.bool_)
        line_of_sight(out, *pose[:3], SUN_REACH + 1.0, rows, s.order, s.floats, s.codes)
        return float(out[-5:].mean()) * max(0.0, 1.0 - weather.rain / 5.0)

    def _lidar(self, ego: np.ndarray, weather: Weather, key: np.uint64) -> np.ndarray:
        config, s = self.rig.lidar, self.solids
        assert config is not None
        out = np.empty((config.beams, config.columns, 2), np.float32)
        pose = mounted(ego, config.x, 0.0, config.z, 0.0)
        lidar(
            out, pose, self.lidar_slopes, config.range_max, s.order, s.floats, s.codes, *s.ground_args,
            1.0 / weather.fog_visibility, key,
        )  # fmt: skip
        if weather.rain > 0.0:
            return lidar_in_rain(out, weather, config.elevations(), config.z, int(key))
        return out

    def _radar(self, ego: np.ndarray, weather: Weather, key: np.uint64) -> tuple[np.ndarray, np.ndarray]:
        config, s = self.rig.radar, self.solids
        assert config is not None
        out, valid = np.zeros((config.detections, 4), np.float32), np.zeros(config.detections, np.bool_)
        pose = mounted(ego, config.x, 0.0, config.z, 0.0)
        ahead, turning = float(ego[3]), float(ego[4]) * config.x
        c, s_ = cos(ego[2]), sin(ego[2])
        velocity = (ahead * c - turning * s_, ahead * s_ + turning * c)
        radar(
            out, valid, pose, velocity, float(np.radians(config.fov_deg)), config.columns, self.radar_slopes,
            config.range_max, s.order, s.floats, s.codes, s.agents, s.kinds, 1.0 / weather.fog_visibility, key,
        )  # fmt: skip
        if weather.rain > 0.0:
            out, valid = radar_in_rain(out, valid, weather.rain, int(key))
        if config.noise is not None:
            faces = echoes.mirrors(s.floats, s.codes, s.order, pose)
            agents = echoes.in_radar_frame(s.agents, pose)
            return echoes.disturbed(out, valid, config, config.noise, agents, faces, (ahead, turning), int(key))
        return out, valid


def _bell(key: np.uint64) -> float:
    """Return a small number of mean 0 from a key: the frame's exposure."""
    return ((int(key) >> 20) % 2048 + (int(key) >> 40) % 2048 - 2047) / 836.0
