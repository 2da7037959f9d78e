"""The table every sensor sees: one row a solid (box, tapered box or ellipsoid, upright, turned by a yaw).

Scenery writes rows once a town, bodies.py adds those of road users and lamps at every frame, kernel.py and
ranging.py read them. Numbers are float32 in `SOLID_FLOATS` columns, codes are int32 in `SOLID_CODES` columns.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

# Float columns: centre, cos and sin of yaw, half length and width, foot and top, colour 0-255, half length and
# width of the top (tapered only), its shift ahead, a number in [0, 1) for variation, LiDAR intensity, bounding radius.
CX, CY, COS, SIN, HL, HW, Z0, Z1, RED, GREEN, BLUE, HL2, HW2, OX, SEED, REFL, RAD = range(17)
SOLID_FLOATS = 18
# Code columns: shape, how it is coloured, agent index (-1 scenery), lamp flags.
SHAPE, SHADER, OWNER, FLAGS = range(4)
SOLID_CODES = 4

BOX, ELLIPSOID, TAPERED, SHADOW = 0, 1, 2, 3
(FLAT, CAR_BODY, GLASS, FACADE, LAMP, CROWN, CARGO, BUS, ROOF, STREET_LAMP, SIGN) = range(11)

MIRRORED = 4096
"""Code flag of a facade, a crown or an agent that is drawn as its own mirror image."""

Colour = tuple[float | int, float | int, float | int]


class SignKind(IntEnum):
    """What a traffic sign says. Flags of a SIGN solid: the kind, and 16 times the number it shows."""

    STOP = 0
    YIELD = 1
    LIMIT = 2
    NO_LEFT = 3
    NO_RIGHT = 4
    NO_ENTRY = 5
    WORKS = 6


def other_sign(kind: SignKind) -> SignKind:
    """Return what a sign says where one drives on the other side."""
    return {SignKind.NO_LEFT: SignKind.NO_RIGHT, SignKind.NO_RIGHT: SignKind.NO_LEFT}.get(kind, kind)


def sign_code(kind: SignKind, value: int = 0) -> int:
    """Return the flags of a SIGN solid."""
    return int(kind) | value << 4


PLATE = (1.0, 2.9)
"""A sign's width and the height of its upper edge in metres: as wide as on big roads, for small cameras to read."""

SUN = (-0.53, -0.45, 0.72)
"""Unit vector towards the sun, map frame: afternoon, so that north-east faces lie in shade."""


def solid(
    x: float,
    y: float,
    yaw: float,
    size: tuple[float, float],
    heights: tuple[float, float],
    colour: Colour,
    *,
    shape: int = BOX,
    shader: int = FLAT,
    top: tuple[float, float, float] = (0.0, 0.0, 0.0),
    seed: float = 0.0,
    reflectivity: float = 0.35,
) -> tuple[list[float], list[int]]:
    """Return one row.

    Args:
        x: Centre, map frame.
        y: Centre, map frame.
        yaw: Heading of the long side.
        size: Length and width in metres (diameters of an ellipsoid).
        heights: Foot and top above the ground.
        colour: Red, green, blue, 0 to 255.
        shape: BOX, ELLIPSOID or TAPERED.
        shader: How the kernel colours it.
        top: Tapered only: length and width of the upper face, and its shift ahead.
        seed: Picks windows and leaves, in [0, 1).
        reflectivity: LiDAR intensity in [0, 1].
    """
    length, width = size
    row = [x, y, np.cos(yaw), np.sin(yaw), length / 2, width / 2, *heights, *colour]
    row += [top[0] / 2, top[1] / 2, top[2], seed, reflectivity, np.hypot(length, width) / 2, 0.0]
    return [float(v) for v in row], [shape, shader, -1, 0]
