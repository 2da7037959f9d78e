"""Counter-based random numbers inside the sensor kernels: a key and an index in, a number out.

A frame's numbers depend on its seed alone, never on how often or in which order something was drawn, so the
same seed gives the same bytes on every process. Key 0 is silence: every draw is the middle one. The mixer is
SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

from typing import no_type_check

import numba as nb
import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_S11 = np.uint64(11)
SILENCE = np.uint64(0)
"""The key of a frame without noise."""
_LOW = np.uint64(0x3FF)
_S10, _S20, _S40 = np.uint64(10), np.uint64(20), np.uint64(40)
_LOW20 = np.uint64(0xFFFFF)


@nb.njit(nb.uint64(nb.uint64, nb.int64), cache=True, nogil=True, inline="always")
@no_type_check
def bits(key: int, index: int) -> int:
    """Return 64 random bits for a key and an index."""
    z = key + np.uint64(index) * _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@nb.njit(cache=True, nogil=True, inline="always")
@no_type_check
def uniform(key: int, index: int) -> float:
    """Return a number in [0, 1)."""
    if key == SILENCE:
        return 0.5
    return np.float64(bits(key, index) >> _S11) * (1.0 / 9007199254740992.0)


@nb.njit(cache=True, nogil=True, inline="always")
@no_type_check
def normal(key: int, index: int) -> float:
    """Return a number of mean 0 and deviation 1: three uniforms summed, so never beyond 3."""
    if key == SILENCE:
        return 0.0
    b = bits(key, index)
    total = np.float64(b & _LOW20) + np.float64((b >> _S20) & _LOW20) + np.float64((b >> _S40) & _LOW20)
    return (total * (1.0 / 1048575.0) - 1.5) * 2.0


def frame_key(rng: np.random.Generator | int) -> np.uint64:
    """Return the key of one frame: drawn from a generator, or mixed from a number."""
    if isinstance(rng, np.random.Generator):
        return np.uint64(rng.integers(0, 2**63, dtype=np.uint64))
    return np.uint64((int(rng) * 0x9E3779B97F4A7C15 + 0x1234567) % 2**63)
