"""Plane geometry on arrays: poses, polylines, oriented boxes. Angles in radians, counter-clockwise."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def wrap_angle(angle: Float[np.ndarray, ...] | float) -> Float[np.ndarray, ...] | float:
    """Wrap to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def to_ego(points: Float[np.ndarray, "P 2"], pose: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "P 2"]:
    """Express map-frame points in the frame of `pose` (x, y, yaw)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    shifted = points - pose[:2]
    return np.stack([shifted[:, 0] * cos + shifted[:, 1] * sin, shifted[:, 1] * cos - shifted[:, 0] * sin], axis=1)


def to_map(points: Float[np.ndarray, "P 2"], pose: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "P 2"]:
    """Express points given in the frame of `pose` in the map frame."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[:, 0], points[:, 1]
    return np.stack([x * cos - y * sin + pose[0], x * sin + y * cos + pose[1]], axis=1)


def arc_lengths(line: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, " P"]:
    """Return the running length of a polyline, starting at 0."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])


def resample(line: Float[np.ndarray, "P 2"], spacing: float) -> Float[np.ndarray, "Q 2"]:
    """Return the polyline with points every `spacing` metres (ends kept)."""
    s = arc_lengths(line)
    count = max(2, int(np.ceil(s[-1] / spacing)) + 1)
    at = np.linspace(0.0, s[-1], count)
    return np.stack([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])], axis=1)


def project(point: Float[np.ndarray, " 2"], line: Float[np.ndarray, "P 2"]) -> tuple[float, float, float]:
    """Return (arc length, signed offset positive left, heading) of the nearest place on a polyline."""
    a, d = line[:-1], np.diff(line, axis=0)
    length2 = np.maximum((d * d).sum(1), 1e-12)
    t = np.clip(((point - a) * d).sum(1) / length2, 0.0, 1.0)
    gap = point - (a + t[:, None] * d)
    k = int(np.argmin((gap * gap).sum(1)))
    step = np.sqrt(length2)
    s = float(step[:k].sum() + t[k] * step[k])
    side = d[k, 0] * gap[k, 1] - d[k, 1] * gap[k, 0]
    offset = float(np.copysign(np.hypot(*gap[k]), side))
    return s, offset, float(np.arctan2(d[k, 1], d[k, 0]))


def box_corners(x: float, y: float, yaw: float, length: float, width: float) -> Float[np.ndarray, "4 2"]:
    """Return the corners of an oriented box about its centre, counter-clockwise from front left."""
    local = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * np.array([length / 2, width / 2])
    return to_map(local, np.array([x, y, yaw]))


def boxes_overlap(box: Float[np.ndarray, " 5"], boxes: Float[np.ndarray, "M 5"]) -> Bool[np.ndarray, " M"]:
    """Tell which oriented boxes (centre x, y, yaw, length, width) overlap one box: separating axes."""
    if len(boxes) == 0:
        return np.zeros(0, bool)
    delta = boxes[:, :2] - box[:2]
    apart = np.zeros(len(boxes), bool)
    half_a, half_b = box[3:5] / 2, boxes[:, 3:5] / 2
    for yaw in (np.full(len(boxes), box[2]), boxes[:, 2]):
        for turn in (0.0, np.pi / 2):
            ax, ay = np.cos(yaw + turn), np.sin(yaw + turn)
            reach_a = half_a[0] * np.abs(np.cos(box[2] - yaw - turn)) + half_a[1] * np.abs(np.sin(box[2] - yaw - turn))
            angle = boxes[:, 2] - yaw - turn
            reach_b = half_b[:, 0] * np.abs(np.cos(angle)) + half_b[:, 1] * np.abs(np.sin(angle))
            apart |= np.abs(delta[:, 0] * ax + delta[:, 1] * ay) > reach_a + reach_b
    return ~apart
