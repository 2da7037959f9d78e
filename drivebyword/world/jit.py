"""How the sensor kernels are compiled.

In a `leaf` nothing is allocated, and references are not counted: rows of tables are looked at thousands of times a
picture, and numba would count every look, twice, with a locked instruction: a third of a picture's time. `outer` is for
the functions that allocate what leaves work on.

Only `outer` is cached on disk, leaves with it: numba's cache watches the file of a function, not the files whose
constants it was compiled with, so a leaf of its own cache would go on with old ones.
"""

from __future__ import annotations

from typing import Any

import numba as nb

_njit: Any = nb.njit  # `_nrt` is missing from its annotations
leaf = _njit(nogil=True, error_model="numpy", _nrt=False)
outer = _njit(cache=True, nogil=True, error_model="numpy")
fast_leaf = _njit(nogil=True, fastmath=True, error_model="numpy", _nrt=False)
fast_inlined = _njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
