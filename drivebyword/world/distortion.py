"""Lens distortion: a camera in, where every pixel of its picture comes from in a perfect one out.

The kernel draws straight lines straight. A distorting camera is drawn as a slightly larger perfect one of the same
focal length and resampled, by a map made once. The model is Brown and Conrady's, with OpenCV's names and signs: a
pixel lies at K (x', y', 1) where x', y' are the ray's x / z and y / z after the distortion.
"""

from __future__ import annotations

from dataclasses import replace
from math import atan, ceil, degrees
from typing import no_type_check

import numba as nb
import numpy as np
from jaxtyping import Float, UInt8

from drivebyword.core.rig import CameraConfig, Distortion

Grid = Float[np.ndarray, "H W"]
_ONE = 256
"""Weights of the four neighbours add up to this."""


def distorted(x: Grid, y: Grid, lens: Distortion) -> tuple[Grid, Grid]:
    """Return where a lens puts a ray (x / z to the right, y / z down)."""
    square = x * x + y * y
    radial = 1.0 + square * (lens.k1 + square * (lens.k2 + square * lens.k3))
    return (
        x * radial + 2.0 * lens.p1 * x * y + lens.p2 * (square + 2.0 * x * x),
        y * radial + lens.p1 * (square + 2.0 * y * y) + 2.0 * lens.p2 * x * y,
    )


def undistorted(x: Grid, y: Grid, lens: Distortion, rounds: int = 60) -> tuple[Grid, Grid]:
    """Return the ray that a lens puts at x, y: the fixed point that `distorted` maps there."""
    at_x, at_y = x.copy(), y.copy()
    for _ in range(rounds):
        now_x, now_y = distorted(at_x, at_y, lens)
        at_x, at_y = at_x + 0.7 * (x - now_x), at_y + 0.7 * (y - now_y)
    return at_x, at_y


class Warp:
    """One camera's resampling map.

    Raises:
        ValueError: If the camera is no pinhole, or its distortion folds the picture over.
    """

    def __init__(self, camera: CameraConfig) -> None:
        assert camera.distortion is not None
        matrix = camera.intrinsics()
        focal, middle = matrix[0, 0], matrix[:2, 2]
        u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        wanted = (u - middle[0]) / focal, (v - middle[1]) / focal
        with np.errstate(over="ignore", invalid="ignore"):
            x, y = undistorted(*wanted, camera.distortion)
            again = distorted(x, y, camera.distortion)
            miss = np.hypot(again[0] - wanted[0], again[1] - wanted[1]) * focal
        if not np.nanmax(np.where(np.isfinite(miss), miss, np.inf)) < 0.05:
            raise ValueError(f"camera '{camera.name}': its distortion folds the picture over; use smaller coefficients")
        across = ceil(focal * np.abs(x).max()) + 2
        above, below = ceil(-focal * y.min()) + 2, ceil(focal * y.max()) + 2
        self.camera = replace(
            camera,
            width=2 * across,
            height=above + below,
            fov_deg=2 * degrees(atan(across / focal)),
            pitch=atan((0.5 * (above + below) - above) / focal),
            distortion=None,
        )
        """The perfect camera to draw."""
        column, row = focal * x + across - 0.5, focal * y + above - 0.5
        left, top = np.floor(column), np.floor(row)
        self._at = (top * 2 * across + left).astype(np.int64)
        a, b = column - left, row - top
        shares = np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], -1)
        self._shares = np.round(shares * _ONE).astype(np.int32)
        self._shares[..., 0] += _ONE - self._shares.sum(-1)

    def apply(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the picture of the perfect camera as the lens shows it."""
        out = np.empty((*self._at.shape, 3), np.uint8)
        _gather(out.reshape(-1, 3), picture.reshape(-1, 3), self._at.reshape(-1), self._shares.reshape(-1, 4),
                picture.shape[1])  # fmt: skip
        return out


@nb.njit(cache=True, nogil=True)
@no_type_check
def _gather(out, picture, at, shares, width):  # type: ignore[no-untyped-def]
    for k in range(at.shape[0]):
        p = at[k]
        for c in range(3):
            total = shares[k, 0] * picture[p, c] + shares[k, 1] * picture[p + 1, c]
            total += shares[k, 2] * picture[p + width, c] + shares[k, 3] * picture[p + width + 1, c]
            out[k, c] = (total + 128) >> 8
