"""Rain in the LiDAR's and the radar's way: clean returns and mm/h in, what is left and what drops add out.

Both follow from Marshall and Palmer's size distribution of drops (1948): the same that veils the cameras. The form,
Beer and Lambert's law for what is lost and single large drops in the beam for what is added, is that of Kilic et al.,
"Lidar Light Scattering Augmentation" (2021), and of Goodin et al., "Predicting the influence of rain on LIDAR in
ADAS" (Electronics, 2019).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from drivebyword.core.rig import Weather

BEAM = 3.1e-4
"""m2: a beam 2 cm across near the sensor (3 mrad and a 1.5 cm aperture, 10 m long: LISA's and the VLP-16's)."""
NEAR, FAR = 1.0, 10.0
"""Metres between which a single drop's echo rises above the threshold."""
LARGE = 3.0
"""mm: a drop that a beam answers from."""
WET = 0.55
"""Share of a wet road's echo that is left: water mirrors light away, darkens what it wets by about half (Lekner and
Dorf, "Why some things are darker when wet", 1988)."""
RANGE_ERROR = 0.02
"""Deviation of a range as a share of it where rain took all light but the last: Goodin's 0.02 z, here times the share
that was lost, so that near ranges stay sharp."""
RADAR_LOSS, RADAR_POWER = 0.00113, 0.72
"""dB a metre, one way, are the first times (mm/h) to the second at 77 GHz (ITU-R P.838-3)."""


def drop_rate(rain: float) -> float:
    """Return the share of beams with a large drop in their first metres: 1 - exp(-drops in the beam)."""
    if rain <= 0.0:
        return 0.0
    slope = 4.1 * rain**-0.21
    return 1.0 - float(np.exp(-8000.0 / slope * np.exp(-slope * LARGE) * BEAM * (FAR - NEAR)))


def loss_rate(weather: Weather, reach: float) -> float:
    """Return the share of returns from `reach` metres that rain takes: light goes both ways."""
    return 1.0 - float(np.exp(-2.0 * weather.rain_extinction * reach))


def lidar_in_rain(
    scan: Float32[np.ndarray, "beams columns 2"], weather: Weather, elevations: np.ndarray, height: float, key: int
) -> Float32[np.ndarray, "beams columns 2"]:
    """Return a scan as it comes back through rain.

    Args:
        scan: Ranges in metres (0 no return) and intensities, through clear air.
        weather: With its rain.
        elevations: Of the beams, radians up.
        height: Of the LiDAR above the ground, metres.
        key: Of the frame's noise.
    """
    rng = np.random.default_rng([key, 59])
    lost, drop, place = (rng.random(scan.shape[:2]) for _ in range(3))
    error = rng.standard_normal(scan.shape[:2])
    reach, bright = scan[..., 0].astype(float), scan[..., 1].astype(float)
    back = reach > 0.0
    passed = np.exp(-2.0 * weather.rain_extinction * reach)
    ground = back & (np.abs(height + reach * np.sin(elevations)[:, None]) < 0.15)
    bright = bright * np.sqrt(passed) * np.where(ground, WET, 1.0)
    reach = reach + RANGE_ERROR * reach * (1.0 - passed) * error
    gone = back & (lost > passed)
    reach, bright = np.where(gone, 0.0, reach), np.where(gone, 0.0, bright)
    # The first answer counts: a drop hides what is behind it.
    at = NEAR + (FAR - NEAR) * place
    splash = (drop < drop_rate(weather.rain)) & ((reach == 0.0) | (at < reach))
    reach, bright = np.where(splash, at, reach), np.where(splash, 0.04, bright)
    rounded = np.stack([np.round(np.maximum(reach, 0.0) * 64.0) / 64.0, np.round(bright * 255.0) / 255.0], -1)
    return rounded.astype(np.float32)


def radar_in_rain(
    found: Float32[np.ndarray, "detections 4"], valid: Bool[np.ndarray, " detections"], rain: float, key: int
) -> tuple[Float32[np.ndarray, "detections 4"], Bool[np.ndarray, " detections"]]:
    """Return detections as they come back through rain: two ways of loss, and the weakest go."""
    rng = np.random.default_rng([key, 61])
    loss = 2.0 * RADAR_LOSS * rain**RADAR_POWER * found[:, 0]
    found = found.copy()
    found[valid, 3] -= loss[valid]
    # The kernel's margin over noise, less this loss: the same detector.
    margin = found[:, 3] + 46.0 - 40.0 * np.log10(np.maximum(found[:, 0], 1.0) / 10.0)
    kept = rng.random(len(found)) < (1.0 + np.exp(-0.6 * (margin + loss))) / (1.0 + np.exp(-0.6 * margin))
    return packed(found, valid & kept)


def packed(
    found: Float32[np.ndarray, "rows 4"], valid: Bool[np.ndarray, " rows"], limit: int | None = None
) -> tuple[Float32[np.ndarray, "detections 4"], Bool[np.ndarray, " detections"]]:
    """Return the nearest `limit` valid rows first, zeros behind."""
    limit = len(found) if limit is None else limit
    rows = found[valid]
    rows = rows[np.argsort(rows[:, 0], kind="stable")][:limit]
    out, mask = np.zeros((limit, 4), np.float32), np.zeros(limit, np.bool_)
    out[: len(rows)], mask[: len(rows)] = rows, True
    return out, mask
