"""Solids of one moment: scenery in reach, road users and lit lamps in, the table of solids.py out, nearest first.

One compiled call for a snapshot; every sensor then reads the same table.
"""

from __future__ import annotations

from math import cos, hypot, pi, sin, sqrt
from typing import no_type_check

import numpy as np

from drivebyword.world.jit import leaf, outer
from drivebyword.world.solids import (
    BLUE,
    BOX,
    BUS,
    CAR_BODY,
    CARGO,
    COS,
    CX,
    CY,
    ELLIPSOID,
    FLAGS,
    FLAT,
    GLASS,
    GREEN,
    HL,
    HL2,
    HW,
    HW2,
    LAMP,
    MIRRORED,
    OWNER,
    OX,
    RAD,
    RED,
    REFL,
    SEED,
    SHADER,
    SHADOW,
    SHAPE,
    SIGN,
    SIN,
    SUN,
    TAPERED,
    Z0,
    Z1,
)

CALLED = "23f7e570ea7e"
"""Content of the files this one compiles in; a test says what to write. numba's cache sees only this file change."""
RINGS, RINGS_A_METRE = 1024, 4.0
CAR_COLOURS = np.array(
    [
        (200, 204, 208), (236, 236, 234), (60, 64, 70), (128, 132, 138), (46, 78, 138), (176, 44, 40),
        (38, 92, 112), (96, 112, 92), (190, 152, 60), (34, 36, 42), (150, 156, 160), (112, 40, 48),
    ], np.float32,
)  # fmt: skip
CLOTHES = np.array(
    [(196, 62, 52), (56, 92, 168), (232, 200, 80), (64, 140, 96), (228, 228, 224), (120, 74, 140), (234, 132, 52),
     (60, 64, 84)], np.float32,
)  # fmt: skip
EGO_KEY = -1
"""The agent_key that paints a car in the ego's colour, which no other car has."""
EGO_COLOUR = (np.float32(14), np.float32(158), np.float32(150))
CAR_COUNT, CLOTHES_COUNT = len(CAR_COLOURS), len(CLOTHES)
LAMP_COLOURS = np.array([(255, 30, 24), (255, 176, 20), (40, 240, 110)], np.float32)
LAMP_DIAMETER = 0.56
FALL_X, FALL_Y = -SUN[0] / SUN[2], -SUN[1] / SUN[2]


@leaf
@no_type_check
def _put(floats, codes, n, place, heading, size, heights, colour, shape, shader, owner, flags, refl):  # type: ignore[no-untyped-def]
    """Write row n: a part at (ahead, left) of a body whose place is (x, y, cos, sin, hand): -1 mirrors left."""
    if n >= floats.shape[0]:
        return n
    x, y, c, s, hand = place
    ahead, left = heading[0], heading[1] * hand
    f = floats[n]
    f[CX], f[CY], f[COS], f[SIN] = x + ahead * c - left * s, y + ahead * s + left * c, c, s
    f[HL], f[HW], f[Z0], f[Z1] = size[0] / 2, size[1] / 2, heights[0], heights[1]
    f[RED], f[GREEN], f[BLUE] = colour[0], colour[1], colour[2]
    f[HL2], f[HW2], f[OX], f[SEED], f[REFL] = 0.0, 0.0, 0.0, 0.0, refl
    f[RAD] = hypot(size[0], size[1]) / 2
    k = codes[n]
    k[SHAPE], k[SHADER], k[OWNER], k[FLAGS] = shape, shader, owner, flags
    return n + 1


@leaf
@no_type_check
def _car(floats, codes, n, place, length, width, height, colour, owner, flags, kind):  # type: ignore[no-untyped-def]
    """Add a car or van: a body up to the belt line, and tapered glass with a painted roof."""
    belt = height * (0.58 if kind == 0 else 0.50)
    n = _put(
        floats, codes, n, place, (0.0, 0.0), (length, width), (0.17, belt), colour, BOX, CAR_BODY, owner, flags, 0.4
    )
    if kind == 0:
        n = _put(floats, codes, n, place, (-0.06 * length, 0.0), (0.66 * length, width * 0.96), (belt, height), colour,
                 TAPERED, GLASS, owner, flags, 0.25)  # fmt: skip
        floats[n - 1, HL2], floats[n - 1, HW2], floats[n - 1, OX] = 0.20 * length, 0.40 * width, -0.03 * length
    else:
        n = _put(floats, codes, n, place, (-0.08 * length, 0.0), (0.83 * length, width * 0.98), (belt, height), colour,
                 TAPERED, GLASS, owner, flags, 0.25)  # fmt: skip
        floats[n - 1, HL2], floats[n - 1, HW2], floats[n - 1, OX] = 0.34 * length, 0.45 * width, -0.06 * length
    return n


@leaf
@no_type_check
def _truck(floats, codes, n, place, length, width, height, colour, owner, flags):  # type: ignore[no-untyped-def]
    """Add a chassis, a cab and a cargo box."""
    dark = (40.0, 42.0, 46.0)
    cab = min(2.2, 0.3 * length)
    n = _put(
        floats, codes, n, place, (0.0, 0.0), (length, width * 0.9), (0.35, 0.95), dark, BOX, CAR_BODY, owner, flags, 0.3
    )
    n = _put(floats, codes, n, place, ((length - cab) / 2, 0.0), (cab, width), (0.5, 0.92 * height), colour, BOX, BUS,
             owner, 8, 0.4)  # fmt: skip
    return _put(floats, codes, n, place, (-(cab + 0.25) / 2, 0.0), (length - cab - 0.25, width), (0.95, height),
                (214.0, 212.0, 204.0), BOX, CARGO, owner, flags, 0.5)  # fmt: skip


@leaf
@no_type_check
def _person(floats, codes, n, place, height, foot, colour, legs, owner, stride, seated):  # type: ignore[no-untyped-def]
    """Add legs, a torso and a head; `stride` swings the legs."""
    skin = (214.0, 168.0, 134.0)
    hip = foot + 0.46 * (height - foot)
    neck = foot + 0.84 * (height - foot)
    if seated:
        n = _put(floats, codes, n, place, (0.12, 0.0), (0.5, 0.3), (foot, hip), legs, BOX, FLAT, owner, 0, 0.3)
    else:
        for side in (-1.0, 1.0):
            n = _put(floats, codes, n, place, (side * stride, side * 0.1), (0.17, 0.17), (foot, hip), legs, BOX, FLAT,
                     owner, 0, 0.3)  # fmt: skip
    lean = 0.12 if seated else 0.0
    n = _put(floats, codes, n, place, (lean, 0.0), (0.28, 0.5), (hip, neck), colour, TAPERED, FLAT, owner, 0, 0.35)
    floats[n - 1, HL2], floats[n - 1, HW2], floats[n - 1, OX] = 0.11, 0.18, lean
    return _put(floats, codes, n, place, (lean * 2, 0.0), (0.25, 0.25), (neck - 0.02, height), skin, ELLIPSOID, FLAT,
                owner, 0, 0.3)  # fmt: skip


@leaf
@no_type_check
def _bicycle(floats, codes, n, place, length, height, colour, legs, owner):  # type: ignore[no-untyped-def]
    """Add two wheels, a frame and a rider."""
    dark = (36.0, 36.0, 40.0)
    for ahead in (-0.3 * length, 0.3 * length):
        n = _put(floats, codes, n, place, (ahead, 0.0), (0.62, 0.07), (0.02, 0.66), dark, BOX, FLAT, owner, 0, 0.5)
    n = _put(floats, codes, n, place, (0.0, 0.0), (0.55 * length, 0.06), (0.5, 0.85), (150.0, 40.0, 40.0), BOX, FLAT,
             owner, 0, 0.5)  # fmt: skip
    return _person(floats, codes, n, place, max(height, 1.65), 0.45, colour, legs, owner, 0.0, True)


@leaf
@no_type_check
def _cone(floats, codes, n, place, width, height, owner):  # type: ignore[no-untyped-def]
    """Add a foot, an orange cone and its white band."""
    orange, white = (250.0, 96.0, 24.0), (244.0, 244.0, 240.0)
    n = _put(floats, codes, n, place, (0.0, 0.0), (width, width), (0.0, 0.05), (40.0, 40.0, 42.0), BOX, FLAT, owner, 0,
             0.3)  # fmt: skip
    for low, high, colour in ((0.05, 0.42, orange), (0.42, 0.66, white), (0.66, 1.0, orange)):
        wide, tip = 0.75 * width * (1.08 - low), 0.75 * width * (1.08 - high)
        n = _put(floats, codes, n, place, (0.0, 0.0), (wide, wide), (low * height, high * height), colour, TAPERED,
                 FLAT, owner, 0, 0.9)  # fmt: skip
        floats[n - 1, HL2], floats[n - 1, HW2] = tip / 2, tip / 2
    return n


@leaf
@no_type_check
def _barrier(floats, codes, n, place, width, height, owner):  # type: ignore[no-untyped-def]
    """Add two feet and a board striped red and white."""
    for side in (-0.4, 0.4):
        n = _put(floats, codes, n, place, (0.0, side * width), (0.5, 0.12), (0.0, 0.55 * height), (60.0, 60.0, 62.0),
                 BOX, FLAT, owner, 0, 0.3)  # fmt: skip
    for k in range(6):
        colour = (206.0, 32.0, 30.0) if k % 2 == 0 else (244.0, 244.0, 240.0)
        n = _put(floats, codes, n, place, (0.0, (k - 2.5) * width / 6), (0.08, width / 6), (0.55 * height, height),
                 colour, BOX, FLAT, owner, 0, 0.9)  # fmt: skip
    return n


@leaf
@no_type_check
def _animal(floats, codes, n, place, length, width, height, owner, stride):  # type: ignore[no-untyped-def]
    """Add four legs, a trunk and a head."""
    fur = (126.0, 88.0, 56.0)
    for ahead in (-0.3, 0.3):
        for side in (-0.3, 0.3):
            n = _put(floats, codes, n, place, (ahead * length + stride * side, side * width), (0.08, 0.08),
                     (0.0, 0.55 * height), fur, BOX, FLAT, owner, 0, 0.3)  # fmt: skip
    n = _put(floats, codes, n, place, (0.0, 0.0), (0.8 * length, width), (0.5 * height, 0.85 * height), fur, ELLIPSOID,
             FLAT, owner, 0, 0.3)  # fmt: skip
    return _put(floats, codes, n, place, (0.45 * length, 0.0), (0.3 * length, 0.6 * width), (0.7 * height, height), fur,
                ELLIPSOID, FLAT, owner, 0, 0.3)  # fmt: skip


@leaf
@no_type_check
def _director(floats, codes, n, place, height, owner, kind, sign, time):  # type: ignore[no-untyped-def]
    """Add a police officer or a flagger: a vest that shines, and an arm or a paddle that says what to do."""
    officer = kind == 12
    vest = (196.0, 236.0, 40.0) if officer else (255.0, 126.0, 24.0)
    legs = (24.0, 28.0, 56.0) if officer else (60.0, 62.0, 66.0)
    n = _person(floats, codes, n, place, height, 0.0, vest, legs, owner, 0.0, False)
    white = (244.0, 244.0, 240.0)
    n = _put(floats, codes, n, place, (0.0, 0.0), (0.3, 0.52), (0.62 * height, 0.67 * height), white, BOX, FLAT, owner,
             0, 0.9)  # fmt: skip
    shoulder = 0.8 * height
    if officer:
        n = _put(floats, codes, n, place, (0.0, 0.0), (0.3, 0.3), (0.97 * height, 1.05 * height), white, BOX, FLAT,
                 owner, 0, 0.5)  # fmt: skip
        if sign & 16:  # an arm up, its palm ahead
            n = _put(floats, codes, n, place, (0.1, -0.34), (0.13, 0.13), (shoulder, 1.2 * height), vest, BOX, FLAT,
                     owner, 0, 0.6)  # fmt: skip
            n = _put(floats, codes, n, place, (0.16, -0.34), (0.08, 0.28), (1.18 * height, 1.36 * height), white, BOX,
                     FLAT, owner, 0, 0.9)  # fmt: skip
        elif sign & 32:  # an arm that sweeps from the side to the front
            swing = 0.5 + 0.5 * sin(2 * pi * 0.8 * time)
            n = _put(floats, codes, n, place, (0.1 + 0.35 * swing, 0.75 - 0.35 * swing), (0.2, 0.75 - 0.3 * swing),
                     (shoulder - 0.08, shoulder + 0.06), white, BOX, FLAT, owner, 0, 0.9)  # fmt: skip
        return n
    n = _put(floats, codes, n, place, (0.15, -0.45), (0.05, 0.05), (0.5 * height, 1.05 * height), (90.0, 90.0, 92.0),
             BOX, FLAT, owner, 0, 0.3)  # fmt: skip
    if sign & 48:
        face = (206.0, 28.0, 30.0) if sign & 16 else (250.0, 150.0, 20.0)
        n = _put(floats, codes, n, place, (0.15, -0.45), (0.06, 0.74), (1.0 * height, 1.0 * height + 0.74), white, BOX,
                 FLAT, owner, 0, 0.9)  # fmt: skip
        n = _put(floats, codes, n, place, (0.17, -0.45), (0.06, 0.64), (1.0 * height + 0.05, 1.0 * height + 0.69), face,
                 BOX, FLAT, owner, 0, 0.9)  # fmt: skip
        if sign & 16:  # the bar of letters across a stop sign
            n = _put(floats, codes, n, place, (0.19, -0.45), (0.06, 0.5), (1.0 * height + 0.28, 1.0 * height + 0.46),
                     white, BOX, FLAT, owner, 0, 0.9)  # fmt: skip
    return n


@leaf
@no_type_check
def _sign(floats, codes, n, place, width, height, owner, says):  # type: ignore[no-untyped-def]
    """Add a post and, before it, a plate as high as it is wide that says what its flags name."""
    n = _put(floats, codes, n, place, (-0.07, 0.0), (0.08, 0.08), (0.0, height - 0.1), (120.0, 124.0, 128.0), BOX, FLAT,
             owner, 0, 0.4)  # fmt: skip
    return _put(floats, codes, n, place, (0.0, 0.0), (0.04, width), (height - width, height), (138.0, 141.0, 146.0),
                BOX, SIGN, owner, says | (MIRRORED if place[4] < 0.0 else 0), 1.0)  # fmt: skip


@leaf
@no_type_check
def _add_thing(floats, codes, n, place, agent, kind, flags, paint, owner, time):  # type: ignore[no-untyped-def]
    """Add what is no ordinary road user."""
    length, width, height = agent[3], agent[4], agent[5]
    if kind == 7:
        return _cone(floats, codes, n, place, width, height, owner)
    if kind == 8:
        return _barrier(floats, codes, n, place, width, height, owner)
    if kind == 9:
        return _put(floats, codes, n, place, (0.0, 0.0), (length, width), (0.3, height), paint, BOX, FLAT, owner, 0,
                    0.4)  # fmt: skip
    if kind == 10:
        return _put(floats, codes, n, place, (0.0, 0.0), (length, width), (0.0, height), (150.0, 116.0, 76.0), BOX,
                    FLAT, owner, 0, 0.4)  # fmt: skip
    if kind == 11:
        stride = 0.5 * sin(2 * pi * 2.0 * time) * min(1.0, hypot(agent[6], agent[7]))
        return _animal(floats, codes, n, place, length, width, height, owner, stride)
    if kind == 14:
        return _sign(floats, codes, n, place, width, height, owner, flags)
    return _director(floats, codes, n, place, height, owner, kind, flags, time)


@leaf
@no_type_check
def add_agent(floats, codes, n, agent, kind, flags, key, owner, time):  # type: ignore[no-untyped-def]
    """Add the solids of one road user; return the new row count."""
    place = (agent[0], agent[1], cos(agent[2]), sin(agent[2]), -1.0 if flags & MIRRORED else 1.0)
    flags &= ~MIRRORED
    length, width, height = agent[3], agent[4], agent[5]
    h = (key * 2654435761 + 12345) & 0x7FFFFFFF
    pick = (h >> 8) % CAR_COUNT
    paint = (CAR_COLOURS[pick, 0], CAR_COLOURS[pick, 1], CAR_COLOURS[pick, 2])
    if key == EGO_KEY:
        paint = (EGO_COLOUR[0], EGO_COLOUR[1], EGO_COLOUR[2])
    wear = (h >> 8) % CLOTHES_COUNT
    cloth = (CLOTHES[wear, 0], CLOTHES[wear, 1], CLOTHES[wear, 2])
    shade = np.float32(40.0 + (h >> 16) % 50)
    legs = (shade, shade, shade + np.float32(16.0))
    if kind <= 1:
        if flags & 8:  # an emergency vehicle: white, with a blue lamp on its roof that flashes
            white, blue = (238.0, 238.0, 236.0), (30.0, 70.0, 255.0)
            lit = int(time * 4.0) % 2 == 0
            n = _put(floats, codes, n, place, (0.1 * length, 0.0), (0.35, 0.8 * width), (height, height + 0.16),
                     blue if lit else (20.0, 24.0, 60.0), BOX, LAMP if lit else FLAT, owner, 1, 0.4)  # fmt: skip
            return _car(floats, codes, n, place, length, width, height, white, owner, flags & 7, kind)
        return _car(floats, codes, n, place, length, width, height, paint, owner, flags, kind)
    if kind == 2:
        return _truck(floats, codes, n, place, length, width, height, paint, owner, flags)
    if kind == 3:
        return _put(floats, codes, n, place, (0.0, 0.0), (length, width), (0.3, height), (224.0, 178.0, 52.0), BOX, BUS,
                    owner, flags, 0.45)  # fmt: skip
    if kind >= 7:
        return _add_thing(floats, codes, n, place, agent, kind, flags, paint, owner, time)
    if kind == 4 or kind == 6:
        return _bicycle(floats, codes, n, place, length, height, cloth, legs, owner)
    speed = hypot(agent[6], agent[7])
    stride = 0.26 * sin(2 * pi * 0.8 * time + key) * min(1.0, speed)
    return _person(floats, codes, n, place, height, 0.0, cloth, legs, owner, stride, False)


@leaf
@no_type_check
def _add_shadow(floats, codes, n, agent, owner, shadow):  # type: ignore[no-untyped-def]
    """Add the shadow of one road user: two flat boxes, the inner one darker, shifted away from the sun.

    `shadow` is how dark they are, and the side the sun stands on: 1, or -1 in a mirror image.
    """
    strength, sun_side = shadow
    fall_x, fall_y = FALL_X * 0.35 * agent[5], FALL_Y * sun_side * 0.35 * agent[5]
    place = (agent[0] + fall_x, agent[1] + fall_y, cos(agent[2]), sin(agent[2]), 1.0)
    black = (0.0, 0.0, 0.0)
    for grow in (0.35, -0.05):
        size = (agent[3] + grow + 0.25 * agent[5], agent[4] + grow + 0.25 * agent[5])
        n = _put(floats, codes, n, place, (0.0, 0.0), size, (0.0, 0.0), black, SHADOW, FLAT, owner, 0, 0.0)
        floats[n - 1, SEED] = strength
    return n


@leaf
@no_type_check
def _add_lamps(floats, codes, n, head, state):  # type: ignore[no-untyped-def]
    """Add the three lamps of a signal head; unlit ones stay dark glass."""
    place = (head[0], head[1], cos(head[3]), sin(head[3]), 1.0)
    for lamp in range(3):
        lit = (lamp == 0 and (state == 0 or state == 3)) or (lamp == 1 and (state == 1 or state == 3))
        lit = lit or (lamp == 2 and state == 2)
        gain = 1.0 if lit else 0.16
        colour = (LAMP_COLOURS[lamp, 0] * gain, LAMP_COLOURS[lamp, 1] * gain, LAMP_COLOURS[lamp, 2] * gain)
        wide = LAMP_DIAMETER * (1.15 if lit else 0.9)
        z = head[2] + 0.62 * (1 - lamp)
        n = _put(floats, codes, n, place, (0.225, 0.0), (wide, wide), (z - wide / 2, z + wide / 2), colour, ELLIPSOID,
                 LAMP, -1, 1 if lit else 0, 0.3)  # fmt: skip
    return n


@outer
@no_type_check
def gather(floats, codes, still, agents, kinds, lamps, keys, heads, states, x, y, reach, time, keep, shadow):  # type: ignore[no-untyped-def]
    """Write what moves behind the `still` rows of scenery; return the rows around (x, y), nearest first.

    Agents beyond `keep` metres and scenery beyond `reach` are left out. Nearest to a quarter of a metre: counted into
    rings instead of sorted, those of a ring in the table's order.
    """
    rows = _fill(floats, codes, still, agents, kinds, lamps, keys, heads, states, x, y, time, keep, shadow)
    ring, starts = np.empty(rows, np.int32), np.zeros(RINGS + 1, np.int32)
    order = np.empty(_count(floats, still, rows, x, y, reach, ring, starts), np.int64)
    for k in range(rows):
        if ring[k] >= 0:
            order[starts[ring[k]]] = k
            starts[ring[k]] += 1
    return order


@leaf
@no_type_check
def _count(floats, still, rows, x, y, reach, ring, starts):  # type: ignore[no-untyped-def]
    """Find every row's ring, -1 out of reach, and where each ring starts in the order; return how many are in reach."""
    for k in range(rows):
        dx, dy = floats[k, CX] - x, floats[k, CY] - y
        far, radius = sqrt(dx * dx + dy * dy), floats[k, RAD]
        # Small things vanish long before buildings do.
        if k < still and far - radius >= reach * (1.0 if radius > 2.5 else 0.55):
            ring[k] = -1
            continue
        ring[k] = min(int(far * RINGS_A_METRE), RINGS - 1)
        starts[ring[k] + 1] += 1
    for k in range(RINGS):
        starts[k + 1] += starts[k]
    return starts[RINGS]


@leaf
@no_type_check
def _fill(floats, codes, still, agents, kinds, lamps, keys, heads, states, x, y, time, keep, shadow):  # type: ignore[no-untyped-def]
    """Write the rows of what moves; return how many there are now."""
    n = still
    for k in range(heads.shape[0]):
        dx, dy = x - heads[k, 0], y - heads[k, 1]
        # A face turned away shows no lamps.
        if dx * dx + dy * dy < 130.0 * 130.0 and dx * cos(heads[k, 3]) + dy * sin(heads[k, 3]) > -1.0:
            n = _add_lamps(floats, codes, n, heads[k], states[k])
    for k in range(agents.shape[0]):
        dx, dy = agents[k, 0] - x, agents[k, 1] - y
        far = sqrt(dx * dx + dy * dy)
        if far < 60.0 and n + 2 < floats.shape[0]:
            n = _add_shadow(floats, codes, n, agents[k], k, shadow)
        if far < keep:
            n = add_agent(floats, codes, n, agents[k], kinds[k], lamps[k], keys[k], k, time)
    return n
