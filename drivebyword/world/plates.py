"""The face of a traffic sign in one picture column: what it says and a place across it in, coloured bands out.

A plate is an outline, a ground within a rim, and art on it: a bitmap of letters, digits or a figure, read at the
column's place across. Its back is grey.
"""

from __future__ import annotations

from math import floor, sqrt
from typing import no_type_check

import numpy as np

from drivebyword.world.jit import fast_leaf
from drivebyword.world.solids import SignKind

_STOP, _YIELD, _LIMIT, _NO_LEFT, _NO_RIGHT, _NO_ENTRY, _WORKS = (int(kind) for kind in SignKind)
_FONT = """
### .#. ### ### #.# ### ### ### ### ###  ### ### ### ##.
#.# ##. ..# ..# #.# #.. #.. ..# #.# #.#  #.. .#. #.# #.#
#.# .#. ### ### ### ### ### .#. ### ###  ### .#. #.# ##.
#.# .#. #.. ..# ..# ..# #.# .#. #.# ..#  ..# .#. #.# #..
### ### ### ### ..# ### ### .#. ### ###  ### .#. ### #..
"""
"""Digits 0 to 9, then the letters of STOP: three columns, five rows each."""
_ARROW = """
.........
..#......
.##......
########.
.##...##.
..#...##.
......##.
......##.
......##.
"""
_DIGGER = """
.........
...##....
...##....
..##.#...
.#####.#.
..##..##.
.#..#..##
.#..#.###
#...#####
"""


def _glyphs() -> np.ndarray:
    """Return the font as glyph, row, column."""
    rows = [line.replace(" ", "") for line in _FONT.strip().splitlines()]
    return np.array([[[mark == "#" for mark in row[3 * k : 3 * k + 3]] for row in rows] for k in range(14)], np.uint8)


def _figures() -> np.ndarray:
    """Return the arrow to the left and the digger as figure, row, column."""
    drawn = [[[mark == "#" for mark in row] for row in art.strip().splitlines()] for art in (_ARROW, _DIGGER)]
    return np.array(drawn, np.uint8)


GLYPHS, FIGURES = _glyphs(), _figures()
# First columns of a band's row: lowest and highest point in half sizes from the middle, colour, layer (high is near).
LOWEST, HIGHEST, LAYER = 0, 1, 5
_RED, _WHITE, _INK, _YELLOW = (190.0, 22.0, 30.0), (240.0, 240.0, 236.0), (22.0, 22.0, 24.0), (250.0, 196.0, 30.0)
_BACK = (138.0, 141.0, 146.0)


@fast_leaf
@no_type_check
def _outline(kind, v):  # type: ignore[no-untyped-def]
    """Return the lowest and highest point of a plate at a place across, -1 to 1."""
    across = abs(v)
    if kind == _STOP:
        reach = min(1.0, 1.4142 - across)
        return -reach, reach
    if kind == _YIELD:
        return -1.0 + 1.75 * across, 0.75
    if kind == _WORKS:
        return -0.75, 1.0 - 1.75 * across
    reach = sqrt(max(1.0 - across * across, 0.0))
    return -reach, reach


@fast_leaf
@no_type_check
def _band(bands, n, low, high, colour, layer):  # type: ignore[no-untyped-def]
    """Append a band."""
    if n >= bands.shape[0] or high <= low:
        return n
    b = bands[n]
    b[0], b[1], b[2], b[3], b[4], b[5] = low, high, colour[0], colour[1], colour[2], layer
    return n + 1


@fast_leaf
@no_type_check
def _art(bands, n, art, v, width, low, high, colour):  # type: ignore[no-untyped-def]
    """Append the column of a bitmap `width` across and centred that lies at v; marks above each other are one band."""
    rows, columns = art.shape
    k = floor((v / width + 0.5) * columns)
    if k < 0 or k >= columns:
        return n
    step, row = (high - low) / rows, 0
    while row < rows:
        first = row
        while row < rows and art[row, k]:
            row += 1
        if row > first:
            n = _band(bands, n, high - row * step, high - first * step, colour, 2.0)
        row += 1
    return n


@fast_leaf
@no_type_check
def _word(bands, n, glyphs, count, v, width, height, colour):  # type: ignore[no-untyped-def]
    """Append the column at v of `count` glyphs side by side, a column apart; `glyphs` has 4 bits for each."""
    pitch = width / (4 * count - 1)
    k = floor((v + 0.5 * width) / pitch)
    if k < 0 or k >= 4 * count - 1 or k % 4 == 3:
        return n
    middle = -0.5 * width + (4 * (k // 4) + 1.5) * pitch
    art = GLYPHS[(glyphs >> (4 * (k // 4))) & 15]
    return _art(bands, n, art, v - middle, 3 * pitch, -0.5 * height, 0.5 * height, colour)


@fast_leaf
@no_type_check
def plate(bands, n, code, v, front):  # type: ignore[no-untyped-def]
    """Write the bands of a plate's column from row n on; return the row after them.

    Args:
        bands: Rows to write to, six columns or more.
        n: First row.
        code: SignKind, and 16 times the number shown.
        v: Place across in half sizes, -1 at the viewer's left to 1.
        front: Whether the viewer sees the face; the back is grey.
    """
    kind, number = code & 15, code >> 4
    low, high = _outline(kind, v)
    if not front:
        return _band(bands, n, low, high, _BACK, 0.0)
    n = _band(bands, n, low, high, _WHITE if kind in (_STOP, _NO_ENTRY) else _RED, 0.0)
    if kind in (_STOP, _NO_ENTRY):
        inner = 0.94
        low, high = _outline(kind, v / inner)
        n = _band(bands, n, inner * low, inner * high, _RED, 1.0)
        if kind == _STOP:
            return _word(bands, n, 10 | 11 << 4 | 12 << 8 | 13 << 12, 4, v, 1.6, 0.62, _WHITE)
        return _band(bands, n, -0.19, 0.19, _WHITE, 2.0) if abs(v) < 0.74 else n
    if kind == _YIELD:
        return _band(bands, n, low + 0.46, high - 0.22, _WHITE, 1.0)
    if kind == _WORKS:
        n = _band(bands, n, low + 0.22, high - 0.46, _YELLOW, 1.0)
        return _art(bands, n, FIGURES[1], v, 0.86, -0.52, 0.28, _INK)
    inner = 0.76
    low, high = _outline(kind, v / inner)
    n = _band(bands, n, inner * low, inner * high, _WHITE, 1.0)
    if kind == _LIMIT:
        ones, tens, hundreds = number % 10, number // 10 % 10, number // 100 % 10
        if hundreds > 0:
            return _word(bands, n, hundreds | tens << 4 | ones << 8, 3, v, 1.3, 0.62, _INK)
        return _word(bands, n, tens | ones << 4, 2, v, 1.16, 0.8, _INK)
    n = _art(bands, n, FIGURES[0], v if kind == _NO_LEFT else -v, 1.0, -0.5, 0.5, _INK)
    # The slash falls to the side that is barred.
    slope = v if kind == _NO_LEFT else -v
    return _band(bands, n, slope - 0.16, slope + 0.16, _RED, 3.0) if abs(v) < 0.6 else n
