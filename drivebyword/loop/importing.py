"""An outside map brought home: a file in; a folder out that one can drive on, look at and pass on.

The folder has the network, what is known about it (source, licence, coordinates, counts) and a picture from above.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from drivebyword.core.geometry import arc_lengths
from drivebyword.data.files import write_folder_atomic, write_json
from drivebyword.world.building import build_map
from drivebyword.world.ground import Ground
from drivebyword.world.outside import ABOUT, NET, OutsideMap, about, imported
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import build_scenery
from drivebyword.world.view import WorldView

PICTURE = "map.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An imported map and what is known about it."""

    folder: Path
    about: dict[str, Any]

    @property
    def line(self) -> str:
        """Say in one line what there is to drive on."""
        n, size = self.about["counts"], " by ".join(f"{metres:.0f}" for metres in self.about["size_m"])
        return (
            f"{n['lane_km']:.1f} km of lanes, junctions {n['junctions']} ({n['signalised']} with signals), "
            f"roundabouts {n['roundabouts']}, crossings {n['crossings']}, signs {n['signs']}, {size} m"
        )

    @property
    def licence(self) -> str:
        """Say what whoever shows or shares the map owes."""
        return ", ".join(filter(None, (self.about["attribution"], self.about["licence"]))) + f". {self.about['note']}"


def import_map(config: OutsideMap, out: Path) -> Imported:
    """Import a map into a folder, in place of what an earlier import left there.

    Raises:
        ValueError: The file is no map one can drive on, or the folder holds something else.
        FileNotFoundError: There is no such file.
    """
    if out.exists() and not (out / ABOUT).is_file():
        raise ValueError(f"{out} exists and is no imported map: choose another folder")
    source = imported(config)
    road_map = build_map(config)
    scenery = build_scenery(road_map)
    picture = WorldView(road_map, Ground.build(road_map, scenery), scenery).whole()
    told = about(source) | {"counts": count(road_map)}
    onward = {_edge(road_map, link.from_lane) for link in road_map.links}
    if any(_edge(road_map, link.to_lane) not in onward for link in road_map.links):
        told["note"] += " Most of its roads end at the map's edge: drives end there too."
    with write_folder_atomic(out, replace=True) as folder:
        (folder / NET).write_bytes((source / NET).read_bytes())
        write_json(folder / ABOUT, told)
        Image.fromarray(picture).save(folder / PICTURE)
    return Imported(folder=out, about=told)


def count(road_map: RoadMap) -> dict[str, int | float]:
    """Count what a map has to offer a driver."""
    lanes = road_map.lanes.values()
    metres = sum(float(arc_lengths(lane.line)[-1]) for lane in lanes if lane.kind == "drive")
    pairs = {(link.via[0][1:].rsplit("_", 2)[0], _edge(road_map, link.from_lane), _edge(road_map, link.to_lane))
             for link in road_map.links if link.via}  # fmt: skip
    # Streets meet where one edge leads to several, or several lead to one.
    ways = Counter((junction, 0, start) for junction, start, _ in pairs)
    ways += Counter((junction, 1, end) for junction, _, end in pairs)
    return {
        "lane_km": round(metres / 1000, 3),
        "reserved_lanes": sum(lane.kind == "reserved" and not lane.edge.startswith(":") for lane in lanes),
        "junctions": len({junction for (junction, _, _), number in ways.items() if number > 1}),
        "signalised": len({head.tls for head in road_map.signals}),
        "roundabouts": len(road_map.roundabouts),
        "crossings": len(road_map.crossings),
        "signs": len(road_map.signs),
    }


def _edge(road_map: RoadMap, lane: str) -> str:
    return road_map.lanes[lane].edge
