"""A configuration and its bounds in, one clear ValueError out where a field lies outside.

For what would otherwise fail late, far away or silently: in a compiled kernel, in SUMO, or as a black picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any

Bounds = tuple[float | int, float | int]


def require_within(config: object, **bounds: Bounds) -> None:
    """Raise ValueError unless each named field is a finite number within its bounds, ends included."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not _is_real(value) or not low <= value <= high:
            raise ValueError(f"{_named(config, name)} must be {_told(low, high)}, got {value!r}")


def require_whole(config: object, **bounds: Bounds) -> None:
    """Raise ValueError unless each named field is a whole number within its bounds, ends included."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or not low <= int(value) <= high:
            raise ValueError(f"{_named(config, name)} must be a whole number {_told(low, high)}, got {value!r}")


def require_ranges(config: object, whole: bool = False, **bounds: Bounds) -> None:
    """Raise ValueError unless each named field is a pair (lowest, highest) of numbers within its bounds."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not _is_pair(value, whole) or not low <= value[0] <= value[1] <= high:
            kind = "whole numbers" if whole else "numbers"
            raise ValueError(
                f"{_named(config, name)} must be two {kind} (lowest, highest) {_told(low, high)}, got {value!r}"
            )


def require_one_of(config: object, name: str, known: Sequence[str]) -> None:
    """Raise ValueError unless a field is one of the names known."""
    value = getattr(config, name)
    if value not in known:
        raise ValueError(f"{_named(config, name)} must be one of {', '.join(known)}, got {value!r}")


def require_kind(config: object, **kinds: Any) -> None:
    """Raise ValueError unless each named field is of its type."""
    for name, kind in kinds.items():
        if not isinstance(getattr(config, name), kind):
            said = str(kind) if not isinstance(kind, type) else kind.__name__
            raise ValueError(f"{_named(config, name)} must be {said}, got {getattr(config, name)!r}")


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _is_pair(value: Any, whole: bool) -> bool:
    if not isinstance(value, tuple) or len(value) != 2 or not all(map(_is_real, value)):
        return False
    return not whole or all(isinstance(part, Integral) for part in value)


def _named(config: object, name: str) -> str:
    return f"{type(config).__name__}.{name}"


def _told(low: float | int, high: float | int) -> str:
    return f"from {low:g} to {high:g}"
