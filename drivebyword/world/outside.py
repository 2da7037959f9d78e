"""Maps from outside: an OpenStreetMap extract, an OpenDRIVE file or a SUMO network in, an imported map out.

An imported map is a folder: `map.net.xml`, which netconvert made, and `map.json`, which says where it is from, under
which licence, and how its coordinates lie on the Earth. A file is imported once and then read from the cache, by
its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from drivebyword.core.places import cache_folder
from drivebyword.world.netfile import takes
from drivebyword.world.town import run_tool, sumo_home

IMPORT_VERSION = 2
"""Part of the cache key: raise it when the same file would be imported otherwise."""
NET, ABOUT = "map.net.xml", "map.json"
LARGEST_FILE = 100e6
"""Bytes: some 200 square kilometres of a city."""
LARGEST = 1500.0
"""Metres along x or y: the ground is one raster, and grows coarser the larger it is."""
ROOTS = {"osm": "osm", "OpenDRIVE": "opendrive", "net": "sumo"}
"""A format by its file's outermost element."""
LICENCES = {
    "osm": (
        "ODbL 1.0 (https://opendatacommons.org/licenses/odbl/1-0/)",
        "(c) OpenStreetMap contributors",
        "Show the attribution wherever you show this map or pictures of it; share maps made from it under ODbL too.",
    ),
    "opendrive": ("unknown", "", "An OpenDRIVE file does not say its licence: ask its author before you share it."),
    "sumo": ("unknown", "", "A SUMO network does not say its licence: ask its author before you share it."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideMap:
    """A map to drive in, as `TownConfig` is a town. `path` is a file to import, or the folder of an imported map."""

    path: Path
    within: tuple[float, float, float, float] | None = None
    """Keep only what lies within west, south, east, north: degrees in OpenStreetMap, else metres of the file."""
    left_hand: bool = False
    """The file's traffic keeps left."""
    walkers: bool = True
    """Add sidewalks and crossings where the file has none."""

    def __post_init__(self) -> None:
        """Take a string for a path, and refuse an empty part."""
        object.__setattr__(self, "path", Path(self.path))
        if self.within is not None and not (self.within[0] < self.within[2] and self.within[1] < self.within[3]):
            raise ValueError(f"within must be west, south, east, north with west < east, south < north: {self.within}")


def imported(config: OutsideMap, cache_dir: Path | None = None) -> Path:
    """Return the folder of an imported map: the one named, or one in the cache, made if it is not there.

    Raises:
        ValueError: The file is no map, is broken or too large, or has no road a car could go round on.
        FileNotFoundError: There is no such file.
    """
    path = config.path
    if path.is_dir():
        return _checked(path)
    if not path.is_file():
        raise FileNotFoundError(f"map {path} not found: name an .osm or .xodr file, or the folder of an imported map")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"map {path} is too big ({path.stat().st_size / 1e6:.0f} MB): cut it to a district first")
    root = cache_dir or cache_folder("maps")
    content = path.read_bytes()
    options = [IMPORT_VERSION, config.within, config.left_hand, config.walkers]
    key = hashlib.sha256(json.dumps(options).encode() + content).hexdigest()[:20]
    target = root / key
    if not (target / ABOUT).exists():
        style = _format_of(path, content)
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".building-") as scratch:
            folder = Path(scratch) / "map"
            folder.mkdir()
            about = _convert(config, style, hashlib.sha256(content).hexdigest(), folder)
            (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            _move(folder, target)
    return target


def about(folder: Path) -> dict[str, Any]:
    """Return what an imported map says of itself."""
    try:
        return dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / ABOUT} is damaged ({error}): import the map again") from None


def credit_of(folder: Path) -> str:
    """Return whom an imported map is from and its licence, in a few words."""
    told = about(folder)
    return f"{told['attribution'] or told['source']}, licence {told['licence'].split(' (')[0]}"


def _checked(folder: Path) -> Path:
    """Return the folder of an imported map if it is one, and whole."""
    if not (folder / ABOUT).is_file() or not (folder / NET).is_file():
        raise ValueError(
            f"{folder} is not an imported map ({ABOUT} and {NET}): drivebyword world import FILE --out {folder}"
        )
    if about(folder).get("net_sha256") != hashlib.sha256((folder / NET).read_bytes()).hexdigest():
        raise ValueError(f"{folder / NET} is not what {ABOUT} says it is: import the map again")
    return folder


def _format_of(path: Path, content: bytes) -> str:
    """Read a file through and return its format; refuse what netconvert would only stumble over."""
    if not content.strip():
        raise ValueError(f"map {path} is empty")
    if b"\0" in content[:4096]:
        raise ValueError(
            f"map {path} is not XML: turn .osm.pbf into .osm first (osmium cat FILE -o map.osm), unpack .gz"
        )
    names: list[str] = []

    def begin(name: str, _: dict[str, str]) -> None:
        if not names:
            names.append(name)

    def refuse(*_: Any) -> None:
        raise ValueError(f"map {path} declares XML entities, which no map needs: refused")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EntityDeclHandler = begin, refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        if not names:
            raise ValueError(f"{path} is not a map: name an .osm or .xodr file ({error})") from None
        raise ValueError(f"map {path} is broken XML: {error}") from None
    if names[0] not in ROOTS:
        raise ValueError(f"{path} is not a map: it begins with <{names[0]}>, a map with <osm> or <OpenDRIVE>")
    return ROOTS[names[0]]


def _convert(config: OutsideMap, style: str, source: str, folder: Path) -> dict[str, Any]:
    """Run netconvert and return what is to be known about the map."""
    net = folder / NET
    try:
        run_tool("netconvert", [*_options(config, style), "-o", str(net)])
        run_tool("sumo", ["-n", str(net), "--end", "0", "--no-step-log", "true"])
    except ValueError as error:
        if "No nodes loaded" in str(error) or "No edges loaded" in str(error):
            raise ValueError(f"map {config.path} holds no road that cars may use") from None
        raise ValueError(f"map {config.path}: {error}") from None
    text = net.read_text(encoding="utf-8")
    # The comment at the top says when the file was made: without it equal files give equal maps.
    net.write_text(re.sub(r"<!--.*?-->\s*", "", text, count=1, flags=re.DOTALL), encoding="utf-8")
    root = ET.parse(net).getroot()
    place = root.find("location")
    if place is None or not any(takes(lane, "passenger") for lane in root.iter("lane")):
        raise ValueError(f"map {config.path} holds no road that cars may use")
    west, south, east, north = (float(v) for v in place.attrib["convBoundary"].split(","))
    size = (round(east - west, 1), round(north - south, 1))
    if max(size) > LARGEST:
        raise ValueError(
            f"map {config.path} is too big: {size[0] / 1000:.1f} by {size[1] / 1000:.1f} km, at most "
            f"{LARGEST / 1000:.1f} km fit; take a part of it (--within WEST,SOUTH,EAST,NORTH)"
        )
    licence, attribution, note = LICENCES[style]
    projection = place.attrib["projParameter"]
    return {
        "format": style,
        "source": config.path.name,
        "source_sha256": source,
        "net_sha256": hashlib.sha256(net.read_bytes()).hexdigest(),
        "licence": licence,
        "attribution": attribution,
        "note": note,
        "left_hand": config.left_hand,
        "size_m": size,
        # Map frame = projected coordinates + offset.
        "net_offset_m": [float(v) for v in place.attrib["netOffset"].split(",")],
        "projection": None if projection in ("!", "-", ".") else projection,
        "original_bounds": [float(v) for v in place.attrib["origBoundary"].split(",")],
    }


def _options(config: OutsideMap, style: str) -> list[str]:
    """Return netconvert's options: what a town gets, and what real maps need mended."""
    types = sumo_home() / "data" / "typemap"
    names = {
        "osm": ("osmNetconvert", "osmNetconvertUrbanDe", "osmNetconvertBicycle"),
        "opendrive": ("opendriveNetconvert",),
    }
    options = {
        "osm": ["--osm-files", str(config.path), "--osm.lane-access", "--osm.bike-access", "--osm.turn-lanes"],
        "opendrive": ["--opendrive-files", str(config.path), "--opendrive.curve-resolution=1"],
        # Crossings that are added need their turn in the signals' programs.
        "sumo": ["--sumo-net-file", str(config.path), "--tls.rebuild"],
    }[style]
    if style in names:
        options += ["--type-files", ",".join(str(types / f"{name}.typ.xml") for name in names[style])]
    if style == "osm":
        options += ["--junctions.join", "--ramps.guess", "--tls.guess-signals", "--tls.discard-simple", "--tls.join"]
    options += ["--geometry.remove", "--no-turnarounds=true", "--junctions.internal-link-detail=12"]
    options += ["--junctions.corner-detail=8", "--default.junctions.radius=8", "--rectangular-lane-cut=true"]
    options += ["--keep-edges.by-vclass=passenger", "--keep-edges.components=1", "--tls.default-type=static"]
    # As in towns: every link of a lane shows one colour, so a lane needs one lamp.
    options += ["--tls.green.time=18", "--tls.yellow.time=3", "--tls.left-green.time=0", "--tls.allred.time=1"]
    options += ["--tls.crossing-min.time=5", "--tls.crossing-clearance.time=5", "--walkingareas=true"]
    if config.walkers:
        options += ["--sidewalks.guess=true", "--sidewalks.guess.max-speed=20", "--default.sidewalk-width=2.5"]
        options += ["--crossings.guess=true", "--crossings.guess.speed-threshold=17"]
    if config.within is not None:
        kind = "in-geo-boundary" if style == "osm" else "in-boundary"
        options += [f"--keep-edges.{kind}", ",".join(f"{v:.9g}" for v in config.within)]
    if config.left_hand:
        options.append("--lefthand=true")
    return options


def _move(folder: Path, target: Path) -> None:
    """Put a finished folder in its place; another process may have been faster."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    try:
        folder.rename(target)
    except OSError:
        if not (target / ABOUT).exists():
            raise
        shutil.rmtree(folder, ignore_errors=True)
