"""Pictures of one camera in, what another would have seen out: by rays where both lenses are known, else whole.

In: decoded video frames. Out: RGB of our camera's size. A reduced copy of the source is looked up pixel by pixel; the
decoder's own scaler has averaged it down first.
"""

from __future__ import annotations

from math import radians, tan
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from drivebyword.core.rig import CameraConfig
from drivebyword.data.layout import View

if TYPE_CHECKING:
    from av import VideoFrame

_FINER = 2.0
"""Pixels of the reduced source for one of ours, where it is looked up."""


def rays_of(camera: CameraConfig) -> Float[np.ndarray, "H W 3"]:
    """Return which way each pixel of our camera looks, ego frame: x ahead, y left, z up; without distortion."""
    across = (np.arange(camera.width) + 0.5) - camera.width / 2
    down = (np.arange(camera.height) + 0.5) - camera.height / 2
    if camera.projection == "cylindrical":
        scale = camera.width / radians(camera.fov_deg)
        rise = (
            scale
            if camera.vertical_fov_deg is None
            else camera.height / (2 * tan(radians(camera.vertical_fov_deg) / 2))
        )
        azimuth = -across / scale
    else:
        scale = rise = camera.width / (2 * tan(radians(camera.fov_deg) / 2))
        azimuth = np.arctan2(-across, scale)
    # A cylinder's rows are slopes at distance 1; a plane's are slopes at 1 / cos.
    flat = 1.0 if camera.projection == "cylindrical" else np.cos(azimuth)
    slope = -(down[:, None] + tan(camera.pitch) * rise) / rise * flat
    azimuth = azimuth + camera.yaw
    shape = (camera.height, camera.width)
    parts = (np.cos(azimuth), np.sin(azimuth), slope)
    return np.stack([np.broadcast_to(part, shape) for part in parts], -1)


class Reprojection:
    """From one view to one of our cameras.

    Args:
        view: Theirs.
        size: Rows and columns of their pictures.
        camera: Ours.
    """

    def __init__(self, view: View, size: tuple[int, int], camera: CameraConfig) -> None:
        self.camera, self.rows, self.columns = camera, camera.height, camera.width
        self.looked_up: tuple[Int[np.ndarray, "H W"], Int[np.ndarray, "H W"], Bool[np.ndarray, "H W"]] | None = None
        if view.fov_deg is None:
            return
        height, width = size
        focal = width / (2 * tan(radians(view.fov_deg) / 2))
        ray = rays_of(camera)
        c, s = np.cos(radians(view.yaw_deg)), np.sin(radians(view.yaw_deg))
        ahead, left, up = ray[..., 0] * c + ray[..., 1] * s, ray[..., 1] * c - ray[..., 0] * s, ray[..., 2]
        c, s = np.cos(radians(view.pitch_deg)), np.sin(radians(view.pitch_deg))
        ahead, up = ahead * c - up * s, up * c + ahead * s
        with np.errstate(divide="ignore", invalid="ignore"):
            column, row = width / 2 - focal * left / ahead, height / 2 - focal * up / ahead
        seen = (ahead > 1e-6) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        if not seen.any():
            raise ValueError(
                f"{view.field} sees nothing of what camera {camera.name!r} looks at: check yaw_deg, fov_deg"
            )
        apart = np.abs(np.diff(column, axis=1))[seen[:, 1:] & seen[:, :-1]]
        share = min(1.0, _FINER / max(float(apart.min(initial=width)), 1e-6))
        self.rows, self.columns = max(2, round(height * share)), max(2, round(width * share))
        at_row = np.where(seen, row * self.rows / height, 0).astype(int)
        at_column = np.where(seen, column * self.columns / width, 0).astype(int)
        self.looked_up = (at_row.clip(0, self.rows - 1), at_column.clip(0, self.columns - 1), seen)

    def __call__(self, frame: VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """Return what our camera sees."""
        small = frame.reformat(width=self.columns, height=self.rows, format="rgb24", interpolation="AREA").to_ndarray()
        if self.looked_up is None:
            return small
        row, column, seen = self.looked_up
        return np.where(seen[..., None], small[row, column], np.uint8(0))
