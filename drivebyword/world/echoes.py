"""A real radar's errors: the plain radar's detections and the mirrors around in, what it would report out.

The azimuth's error grows to the side as 1 / cos(azimuth), as an antenna row looks shorter from there (Skolnik,
"Introduction to radar systems", ch. 9). A smooth wall or a long vehicle's side shows the mirror image of a road user,
farther away and weaker, with the range rate of its longer path (Kraus et al., "Using machine learning to detect ghost
images in automotive radar", ITSC 2020). Clutter is a Poisson number of false alarms (Richards, "Fundamentals of radar
signal processing", ch. 6), and a share of true detections is lost.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32

from drivebyword.core.rig import RadarConfig, RadarNoise
from drivebyword.world.rainfall import packed
from drivebyword.world.solids import BOX, COS, CX, CY, FACADE, HL, HW, OWNER, SHADER, SHAPE, SIN, Z1

PLAIN_AZIMUTH = np.radians(0.5)
"""Deviation that the kernel's azimuths have already."""
MIRROR_LOSS = 10.0
"""dB that a mirror image is weaker."""
MIRRORS = 16
"""Nearest mirrors looked into."""
LONG = 2.5
"""Metres of half length from which on a body is a mirror."""
ON_TARGET = 3.0
"""Metres between a detection and the road user it is of."""


def mirrors(
    floats: Float32[np.ndarray, "rows floats"], codes: np.ndarray, near: np.ndarray, pose: tuple[float, ...]
) -> Float[np.ndarray, "K 6"]:
    """Return the upright faces that mirror: middle x, y, outward normal x, y (radar's frame), half length, owner.

    Args:
        floats: The table of solids.
        codes: Its codes.
        near: Rows of the table, nearest first.
        pose: The radar's x, y, z, yaw in the map frame.
    """
    plane = (codes[near, SHAPE] == BOX) & (floats[near, Z1] > 0.7) & (floats[near, HL] > LONG)
    rows = near[plane & ((codes[near, SHADER] == FACADE) | (codes[near, OWNER] >= 0))][:MIRRORS]
    if not len(rows):
        return np.zeros((0, 6))
    # A lorry's chassis and cargo are one mirror.
    owner = codes[rows, OWNER]
    rows = rows[(owner < 0) | (np.arange(len(rows)) == np.argmax(owner == owner[:, None], axis=1))]
    f = floats[rows].astype(float)
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    dx, dy = f[:, CX] - pose[0], f[:, CY] - pose[1]
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    ax, ay = f[:, COS] * cos + f[:, SIN] * sin, f[:, SIN] * cos - f[:, COS] * sin
    faces = []
    for side in (1.0, -1.0):
        for nx, ny, out, half in ((ax, ay, HL, HW), (-ay, ax, HW, HL)):
            nx, ny = side * nx, side * ny
            faces.append(np.stack([x + nx * f[:, out], y + ny * f[:, out], nx, ny, f[:, half], codes[rows, OWNER]], 1))
    every = np.concatenate(faces)
    return every[(every[:, :2] * every[:, 2:4]).sum(1) < -0.2]  # The radar is before the face.


def in_radar_frame(agents: Float32[np.ndarray, "M 9"], pose: tuple[float, ...]) -> Float[np.ndarray, "M 4"]:
    """Return a snapshot's agents as x, y, vx, vy in the radar's frame, velocities over ground."""
    cos, sin = np.cos(pose[3]), np.sin(pose[3])
    dx, dy = agents[:, 0].astype(float) - pose[0], agents[:, 1].astype(float) - pose[1]
    vx, vy = agents[:, 6].astype(float), agents[:, 7].astype(float)
    return np.stack([dx * cos + dy * sin, dy * cos - dx * sin, vx * cos + vy * sin, vy * cos - vx * sin], 1)


def images(
    found: Float[np.ndarray, "D 4"],
    owner: np.ndarray,
    speeds: Float[np.ndarray, "M 2"],
    faces: Float[np.ndarray, "K 6"],
    own: tuple[float, float],
) -> Float[np.ndarray, "I 4"]:
    """Return the mirror images of detections, as range, azimuth, range rate and RCS.

    Args:
        found: Detections.
        owner: Row of the road user each is of, -1 none.
        speeds: Velocities of all road users, radar's frame.
        faces: From `mirrors`.
        own: The radar's velocity in its own frame.
    """
    seen = []
    for k in np.flatnonzero(owner >= 0):
        place = found[k, 0] * np.array([np.cos(found[k, 1]), np.sin(found[k, 1])])
        for face in faces:
            middle, normal, carrier = face[:2], face[2:4], int(face[5])
            before, here = float((place - middle) @ normal), float(-middle @ normal)
            if carrier == owner[k] or before < 0.2:
                continue
            image = place - 2.0 * before * normal
            struck = image * here / (here + before) - middle
            if abs(float(struck[1] * normal[0] - struck[0] * normal[1])) > face[4]:
                continue
            wall = speeds[carrier] if carrier >= 0 else np.zeros(2)
            theirs = speeds[owner[k]]
            moves = theirs - 2.0 * float((theirs - wall) @ normal) * normal
            reach = float(np.hypot(*image))
            towards = image / max(reach, 1e-6)
            rate = float((moves - np.asarray(own)) @ towards)
            seen.append((reach, float(np.arctan2(image[1], image[0])), rate, found[k, 3] - MIRROR_LOSS))
    return np.array(seen, float).reshape(-1, 4)


def disturbed(
    found: Float32[np.ndarray, "detections 4"],
    valid: Bool[np.ndarray, " detections"],
    config: RadarConfig,
    noise: RadarNoise,
    agents: Float[np.ndarray, "M 4"],
    faces: Float[np.ndarray, "K 6"],
    own: tuple[float, float],
    key: int,
) -> tuple[Float32[np.ndarray, "detections 4"], Bool[np.ndarray, " detections"]]:
    """Return detections with a real radar's errors.

    Args:
        found: The plain radar's.
        valid: Which of them are detections.
        config: The radar.
        noise: What errs.
        agents: From `in_radar_frame`.
        faces: From `mirrors`.
        own: The radar's velocity in its own frame.
        key: Of the frame's noise.
    """
    rng = np.random.default_rng([key, 67])
    rows = found[valid].astype(float)
    half = np.radians(config.fov_deg) / 2
    places = rows[:, :1] * np.stack([np.cos(rows[:, 1]), np.sin(rows[:, 1])], 1)
    owner = np.full(len(rows), -1)
    if len(agents) and len(rows):
        gaps = np.hypot(*(places[:, None] - agents[:, :2]).transpose(2, 0, 1))
        owner = np.where(gaps.min(1) < ON_TARGET, gaps.argmin(1), -1)
    ghosts = images(rows, owner, agents[:, 2:], faces, own)
    ghosts = ghosts[(rng.random(len(ghosts)) < noise.mirror_rate) & (np.abs(ghosts[:, 1]) < half)]
    rows = rows[rng.random(len(rows)) >= noise.missed]
    wide = np.radians(noise.azimuth_deg) / np.cos(np.clip(rows[:, 1], -1.5, 1.5))
    rows[:, 1] += np.sqrt(np.maximum(wide**2 - PLAIN_AZIMUTH**2, 0.0)) * rng.standard_normal(len(rows))
    count = int(rng.poisson(noise.clutter))
    azimuth = rng.uniform(-half, half, count)
    still = -(own[0] * np.cos(azimuth) + own[1] * np.sin(azimuth)) + 0.3 * rng.standard_normal(count)
    reach = rng.uniform(3.0, 0.6 * config.range_max, count)
    clutter = np.stack([reach, azimuth, still, -10.0 + 3.0 * rng.standard_normal(count)], 1)
    every = np.concatenate([rows, ghosts, clutter])
    every = every[every[:, 0] < config.range_max].astype(np.float32)
    return packed(every, np.ones(len(every), np.bool_), config.detections)
