"""The truth about an edge case, as an episode carries it: plain numbers, never part of an observation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class EdgeRecord:
    """The truth about the edge case of a scene."""

    family: str
    twin: bool
    """The nominal twin: the same scene without the edge element."""
    preventable: bool
    """Whether UN R157's careful driver would come through unharmed."""
    began_s: float | None = None
    """When the event began; None: it did not."""
    visible_s: float | None = None
    """When its cause could first be seen."""
    critical_s: float | None = None
    """First time to collision under 1.5 s with the cause; where there was none, when the ego was nearest to it."""
    closest_m: float | None = None
    """Least distance between the ego's middle and the cause's."""
    breach: str | None = None
    """What the family asks besides no harm and the driver did not keep first; None: all was kept."""
