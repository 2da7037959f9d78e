"""Angles good enough to say in which columns something may show: coordinates in, radians and an error bound out."""

from __future__ import annotations

from typing import no_type_check

from drivebyword.world.jit import fast_leaf

BEARING_ERROR = 2e-5
"""Radians `bearing` may be wrong by; who lists columns looks that much farther to both sides."""


@fast_leaf
@no_type_check
def bearing(y, x):  # type: ignore[no-untyped-def]
    """Return atan2(y, x) within BEARING_ERROR, by Abramowitz and Stegun 4.4.47: a quarter of what libm's costs."""
    a, b = abs(x), abs(y)
    q = min(a, b) / max(a, b, 1e-12)
    s = q * q
    turn = q * (0.9998660 + s * (-0.3302995 + s * (0.1801410 + s * (-0.0851330 + s * 0.0208351))))
    if b > a:
        turn = 1.5707963267948966 - turn
    if x < 0.0:
        turn = 3.141592653589793 - turn
    return turn if y >= 0.0 else -turn


@fast_leaf
@no_type_check
def half_width(x):  # type: ignore[no-untyped-def]
    """Return an angle not below asin(x), for x in [0, 1]: at most 0.15 rad above it, where x nears 1."""
    s = x * x
    return x * (1.0 + s * (0.16666666666666666 + 0.4041296601282299 * s))
