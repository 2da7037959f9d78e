"""LiDAR, radar and the car's own motion to tokens.

In: ranges and intensities, radar detections, the ego vector, in SI units. Out: tokens of the encoder's width.
All normalisation constants are in `Normalisation`, which travels in the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.rig import LidarConfig, RadarConfig
from drivebyword.model.attention import as_bias
from drivebyword.model.layers import CrossAttention, EncoderBlock


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What one unit of each input is divided by; SI units."""

    speed: float = 10.0
    trip_distance: float = 50.0
    lidar_range: float = 80.0
    radar_range: float = 50.0
    radar_rate: float = 10.0
    radar_rcs: float = 20.0


CLEARANCE = 0.3
"""Metres above the ground from which on a LiDAR return is an obstacle; curbs are lower."""
_BENDS = (0.01, 0.02, 0.04, 0.07, 0.10, 0.14, 0.19)
ARCS = (*(-bend for bend in reversed(_BENDS)), 0.0, *_BENDS)
"""Curvatures in 1/m, left positive, of the arcs a car may take: tentacles (von Hundelshausen et al., 2008)."""
ARC_MARGIN, ARC_FADE = 0.2, 8.0
"""Metres beside the car that count as in the way, and the free distance at which nearness has fallen to 1/e."""


class LidarEncoder(nn.Module):
    """Sectors of neighbouring columns become tokens, from the left rear round to the right rear."""

    rise: Tensor
    ahead: Tensor
    aside: Tensor
    radius: Tensor
    turn: Tensor

    def __init__(
        self, config: LidarConfig, scale: Normalisation, *, tokens: int, width: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        if config.columns % tokens:
            raise ValueError(f"LiDAR has {config.columns} columns: not a multiple of {tokens} tokens")
        self.tokens, self.scale = tokens, scale
        self.mount, self.car = config, CarConfig()
        rise, azimuth = torch.from_numpy(config.elevations()).float().sin(), torch.from_numpy(config.azimuths()).float()
        arcs = torch.tensor(ARCS)
        self.register_buffer("rise", rise[:, None], persistent=False)
        self.register_buffer("ahead", azimuth.cos(), persistent=False)
        self.register_buffer("aside", azimuth.sin(), persistent=False)
        self.register_buffer("radius", 1 / arcs.abs().clamp(min=1e-4), persistent=False)
        self.register_buffer("turn", torch.where(arcs < 0, -1.0, 1.0), persistent=False)
        features = config.columns // tokens * config.beams * 3
        self.enter = nn.Linear(features, width)
        self.mix = nn.Linear(width, width)
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.block = EncoderBlock(width, heads, hidden)

    @property
    def glimpses(self) -> int:
        """Values in a glance."""
        return self.mount.columns + len(ARCS)

    def glance(self, scan: Float[Tensor, "B beams columns 2"]) -> Float[Tensor, "B G"]:
        """Return how near what stands above the ground is, 1 touches, 0 is nothing: in each column, on each of ARCS."""
        distance = scan[..., 0].float()
        stands = (distance > 0) & (self.mount.z + distance * self.rise > CLEARANCE)
        level = distance * (1 - self.rise * self.rise).sqrt()
        nearest = torch.where(stands, level, float("inf")).amin(1)
        return torch.cat([(self._near(distance) * stands).amax(1), self._along(nearest)], dim=1)

    def _along(self, nearest: Float[Tensor, "B columns"]) -> Float[Tensor, "B arcs"]:
        """Return how near on each of ARCS the car would touch the nearest obstacles, given per column in metres."""
        reach = nearest.clamp(max=1e3)[..., None]
        x, y = self.mount.x + reach * self.ahead[:, None], reach * self.aside[:, None] * self.turn
        beside = (x * x + (self.radius - y) ** 2).sqrt() - self.radius  # exporters know no hypot
        room = torch.atan2(x, self.radius - y) * self.radius - self.car.front
        hit = (beside.abs() < self.car.width / 2 + ARC_MARGIN) & (room > -1.0)
        return torch.where(hit, torch.exp(-room.clamp(min=0) / ARC_FADE), 0.0).amax(1)

    def _near(self, distance: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return 1 - torch.log1p(distance) / torch.log1p(torch.tensor(self.scale.lidar_range))

    def forward(self, scan: Float[Tensor, "B beams columns 2"]) -> Float[Tensor, "B L D"]:
        """Return one token per sector."""
        distance, intensity = scan.float().unbind(-1)
        near = self._near(distance)
        hit = (distance > 0).float()
        x = torch.stack([near * hit, intensity, hit], dim=-1)  # B beams columns 3
        x = x.unflatten(2, (self.tokens, -1)).permute(0, 2, 1, 3, 4).flatten(2)
        x = self.mix(F.gelu(self.enter(x), approximate="tanh")) + self.place
        return self.block(x, x.new_zeros(1, 1, self.tokens))


class RadarEncoder(nn.Module):
    """Detections look at each other, then a few learned queries gather them; the order does not matter.

    The range rate is given as measured and again less the ego's own motion, so that what stands still reads 0.
    """

    def __init__(
        self, config: RadarConfig, scale: Normalisation, *, tokens: int, width: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.scale = scale
        self.enter = nn.Linear(9, width)
        self.mix = nn.Linear(width, width)
        self.block = EncoderBlock(width, heads, hidden)
        # Stands in for "nothing detected", so that there is always something to look at.
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.query = nn.Parameter(torch.randn(tokens, width) * 0.5)
        self.gather = CrossAttention(width, heads)

    def forward(
        self,
        detections: Float[Tensor, "B P 4"],
        valid: Bool[Tensor, "B P"],
        speed: Float[Tensor, " B"],
    ) -> Float[Tensor, "B L D"]:
        """Return the gathered tokens. `speed` is the ego's, m/s."""
        distance, azimuth, rate, rcs = detections.float().unbind(-1)
        s = self.scale
        still = rate + speed.float()[:, None] * azimuth.cos()
        x = torch.stack(
            [
                distance / s.radar_range,
                1 / (1 + distance / 5),
                azimuth.sin(),
                azimuth.cos(),
                distance * azimuth.sin() / 10,
                rate / s.radar_rate,
                still / s.radar_rate,
                rcs / s.radar_rcs,
                valid.float(),
            ],
            dim=-1,
        )
        x = self.mix(F.gelu(self.enter(x), approximate="tanh"))
        x = torch.cat([x, self.nothing.expand(len(x), -1, -1).to(x.dtype)], dim=1)
        seen = F.pad(valid, (0, 1), value=True)
        x = self.block(x, as_bias(seen[:, None, :]))
        return self.query + self.gather(self.query.expand(len(x), -1, -1), x, seen)


class EgoEncoder(nn.Module):
    """The car's own motion, what it has passed, and which sensors are alive, to one token.

    Only speed and the odometry since the sentence are used. Measured steering, yaw rate and acceleration
    predict the next act so well on demonstrations that a policy shown them copies itself off the road
    (docs/LOG.md, 2026-11-22); how long it has stood would teach it to go on standing.
    """

    def __init__(self, scale: Normalisation, *, sensors: int, hidden: int, width: int) -> None:
        super().__init__()
        self.scale = scale
        self.enter = nn.Linear(9 + sensors, hidden)
        self.out = nn.Linear(hidden, width)

    def forward(
        self, ego: Float[Tensor, "B 7"], passed: Float[Tensor, " B"], present: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B 1 D"]:
        """Return the ego token. `passed` counts the junctions since the sentence."""
        speed, _, _, _, distance, heading, _ = ego.float().unbind(-1)
        s = self.scale
        x = torch.stack(
            [
                speed / s.speed,
                (speed < 0.3).float(),
                torch.log1p(distance.clamp(min=0) / 5),
                (distance / s.trip_distance).clamp(-1, 3),
                heading.sin(),
                heading.cos(),
                (heading / torch.pi).clamp(-2, 2),
                (passed > 0).float(),
                (passed > 1).float(),
            ],
            dim=-1,
        )
        x = torch.cat([x, present.float()], dim=-1)
        return self.out(F.gelu(self.enter(x), approximate="tanh"))[:, None]
