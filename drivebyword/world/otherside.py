"""SUMO in a mirror: libsumo on a right-hand network in, the same calls for its left-hand mirror image out.

SUMO itself can drive on the left, but its people then keep to the wrong half of pavements and crossings (1.28: the
stripes of its pedestrian model are not mirrored). So a left-hand map is simulated as its mirror image, and what goes
to and comes from SUMO is mirrored here. Only calls that speak of places, angles or indicators differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RIGHT, LEFT = 1, 2
"""SUMO's bits of the two indicators."""


def bare(domain: Any, prefix: str, *names: str) -> list[Callable[[str], Any]]:
    """Return a domain's questions, without the Python shell around libsumo's C functions where there is no other.

    The shell takes a fifth of a question's time, and a step asks 260.
    """
    if not isinstance(domain, type):
        return [getattr(domain, name) for name in names]
    import libsumo

    inner = getattr(libsumo, "_libsumo", None)
    return [getattr(inner, f"{prefix}_{name}", None) or getattr(domain, name) for name in names]


class OtherSide:
    """libsumo, as far as a scene uses it."""

    def __init__(self, sumo: Any) -> None:
        self._sumo = sumo
        self.vehicle, self.person = _Vehicles(sumo.vehicle), _Bodies(sumo.person)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sumo, name)


class _Bodies:
    """Whoever has a place and an angle (degrees, clockwise from north)."""

    def __init__(self, domain: Any) -> None:
        self._domain = domain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domain, name)

    def getPosition(self, name: str) -> tuple[float, float]:  # noqa: N802 - SUMO's name
        x, y = self._domain.getPosition(name)
        return x, -y

    def getAngle(self, name: str) -> float:  # noqa: N802 - SUMO's name
        return (180.0 - float(self._domain.getAngle(name))) % 360.0


class _Vehicles(_Bodies):
    def getSignals(self, name: str) -> int:  # noqa: N802 - SUMO's name
        bits = int(self._domain.getSignals(name))
        swapped = LEFT * bool(bits & RIGHT) | RIGHT * bool(bits & LEFT)
        return bits & ~(RIGHT | LEFT) | swapped

    def moveToXY(  # noqa: N802 - SUMO's name
        self, name: str, edge: str, lane: int, x: float, y: float, angle: float, keep_route: int
    ) -> None:
        self._domain.moveToXY(name, edge, lane, x, -y, (180.0 - angle) % 360.0, keep_route)
