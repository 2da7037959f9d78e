"""Places made ready to drive in: a town or an outside map in; roads, scenery, sensors and expert out, and kept."""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from drivebyword.core.geometry import box_corners, resample, wrap_angle
from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import Snapshot
from drivebyword.core.rig import RigConfig, Weather
from drivebyword.world.building import MapSource, build_map
from drivebyword.world.demand import Streets
from drivebyword.world.graph import RoadGraph
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import Scenery, build_scenery

if TYPE_CHECKING:
    from drivebyword.world.expert import Expert
    from drivebyword.world.ground import Ground
    from drivebyword.world.sensors import Sensors
    from drivebyword.world.view import WorldView

TOWNS_KEPT, BLIND_TOWNS_KEPT = 1, 8
"""With their picture of the ground, which takes 33 MB (a world stays under 300 MB resident); and without."""
COMFORT_LATERAL = 1.4
"""m/s2."""
SIGHT = 80.0
"""Metres within which somebody is taken to be seen where no sensors are rendered."""


@dataclass(slots=True, kw_only=True)
class Place:
    """A town, ready to drive in."""

    road_map: RoadMap
    graph: RoadGraph
    streets: Streets
    expert: Expert
    sensors: Sensors | None
    """None in an environment that renders nothing."""
    solids: Float[np.ndarray, "K 5"]
    """Centre x, y, yaw, length, width of what a car can hit beside the road."""
    scenery: Scenery
    ground: Ground | None
    _view: WorldView | None = None
    _curved: dict[str, bool] = field(default_factory=dict)

    def is_curved(self, lane: str) -> bool:
        """Tell whether a lane bends so much that a comfortable car cannot reach its speed limit."""
        if lane not in self._curved:
            line = resample(self.road_map.lanes[lane].line, 5.0)
            step = np.diff(line, axis=0)
            turn = np.abs(wrap_angle(np.diff(np.arctan2(step[:, 1], step[:, 0]))))
            sharpest = float(turn.max() / 5.0) if len(turn) else 0.0
            self._curved[lane] = self.road_map.lanes[lane].speed_limit ** 2 * sharpest > COMFORT_LATERAL
        return self._curved[lane]

    def seen(self, snapshot: Snapshot, weather: Weather) -> Bool[np.ndarray, " M"]:
        """Tell which agents some sensor of the ego could see; where none is rendered, who is near enough."""
        if self.sensors is not None:
            return self.sensors.visible(snapshot, weather)
        far = np.hypot(snapshot.agents[:, 0] - snapshot.ego[0], snapshot.agents[:, 1] - snapshot.ego[1])
        return far < min(SIGHT, weather.sight)

    def view(self) -> WorldView:
        """Return what draws this town for people; made on first use."""
        if self._view is None:
            from drivebyword.world.ground import Ground
            from drivebyword.world.view import WorldView

            self.ground = self.ground or Ground.build(self.road_map, self.scenery)
            self._view = WorldView(self.road_map, self.ground, self.scenery)
        return self._view


class Places:
    """Builds towns on demand and keeps the last few."""

    def __init__(self, rig: RigConfig, car: CarConfig, dt: float, render: bool) -> None:
        self.rig, self.car, self.dt, self.render = rig, car, dt, render
        self._kept: OrderedDict[tuple[MapSource, bool], Place] = OrderedDict()
        self._left = False

    def get(self, config: MapSource, image: bool = False) -> Place:
        """Return a town or an outside map, from memory, from the disk cache or newly built.

        Args:
            config: Which.
            image: As a mirror image of the other side's town.
        """
        key = config, image
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        place = self._image(config) if image else self._build(config)
        self._kept[key] = place
        while len(self._kept) > (TOWNS_KEPT if self.render else BLIND_TOWNS_KEPT):
            self._kept.popitem(last=False)
        self._left = True
        return place

    def tidy(self) -> None:
        """Give the memory of towns left behind back to the system. Call once nobody looks at them any more."""
        if self._left:
            _give_back()
        self._left = False

    def _build(self, config: MapSource) -> Place:
        road_map = build_map(config)
        scenery, ground = build_scenery(road_map), None
        if self.render:
            from drivebyword.world.ground import Ground

            ground = Ground.build(road_map, scenery)
        return self._furnished(road_map, scenery, ground)

    def _image(self, config: MapSource) -> Place:
        """Mirror the town of the other driving side: its ground and scenery as drawn, its sun and its signs too."""
        other = self.get(replace(config, left_hand=not config.left_hand))
        ground = other.ground.mirrored() if other.ground is not None else None
        return self._furnished(other.road_map.mirrored(), other.scenery.mirrored(image=True), ground)

    def _furnished(self, road_map: RoadMap, scenery: Scenery, ground: Ground | None) -> Place:
        from drivebyword.world.expert import Expert
        from drivebyword.world.sensors import Sensors

        graph = RoadGraph(road_map)
        sensors = Sensors(self.rig, road_map, ground, scenery) if ground is not None else None
        return Place(
            road_map=road_map,
            graph=graph,
            streets=Streets(road_map),
            expert=Expert(road_map, graph, self.car, self.dt),
            sensors=sensors,
            solids=_beside(np.asarray(scenery.solid_boxes(), np.float64).reshape(-1, 5), graph),
            scenery=scenery,
            ground=ground,
        )


def _give_back() -> None:
    """Give freed memory back to the system: glibc keeps what large pictures leave behind (80 MB after ten towns)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _beside(boxes: Float[np.ndarray, "K 5"], graph: RoadGraph) -> Float[np.ndarray, "J 5"]:
    """Keep what stands clear of the road: a post whose foot a lane sweeps is drawn but cannot be hit."""
    if not len(boxes):
        return boxes
    points = np.stack([np.vstack([box_corners(*box), box[None, :2]]) for box in boxes])
    on_road = graph.is_drivable(points.reshape(-1, 2)).reshape(len(boxes), 5).any(axis=1)
    return boxes[~on_road]
