"""Town recipes: a TownConfig (or a seed) in, a SUMO network file on disk out.

netgenerate draws the bare street plan; here streets get classes (main, side), lanes, limits, bends and
junction types; netconvert builds lanes, links, signals, sidewalks and crossings. Files are cached by the
content of everything that decides them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from drivebyword.core.places import cache_folder
from drivebyword.core.ranges import require_whole, require_within
from drivebyword.core.seeds import split_of
from drivebyword.world.streets import degrees_of, longest_run, prune, road_plan, street_axes

RECIPE_VERSION = 14
"""Part of the cache key: raise it when the code below draws other towns from the same config."""

SPLIT_STARTS = {"training": 0, "validation": 1_000_000, "test": 2_000_000}
POOL_SIZES = {"training": 160, "validation": 40, "test": 40}
LARGEST = 520.0
"""Metres a random plan may measure along x or y: rasters of the ground grow with its square."""
LONGEST = 320.0
"""Metres between junctions a random plan may have: a scene needs junctions to speak of."""
STYLES = ("grid", "spider", "random", "road")


@dataclass(frozen=True, slots=True, kw_only=True)
class TownConfig:
    """What decides a town. Equal configs give equal networks, byte for byte but for comments."""

    style: str = "grid"
    """grid, spider, random, or road: one main road with a side street to either side at every junction."""
    size: int = 3
    """Grid: junctions along x; spider: rings; random: growth (times four streets); road: stretches."""
    size_y: int = 3
    """Grid: junctions along y; spider: arms; random: unused."""
    block: float = 100.0
    """Street length between junctions in metres, 70 to 150; of a road to 400."""
    main_lanes: int = 1
    """Lanes each way on main streets, 1 to 3."""
    side_lanes: int = 1
    main_limit_kph: float = 50.0
    side_limit_kph: float = 30.0
    main_share: float = 0.5
    """Share of streets that are main."""
    lane_width: float = 3.25
    signal_share: float = 0.5
    """Share of junctions with signals; the rest give priority, or right before left between side streets."""
    right_before_left_share: float = 0.5
    """Share of the unsignalised side-street junctions that go right before left."""
    sidewalks: bool = True
    crossings: bool = True
    bend: float = 0.04
    """Sagitta of bent streets as a share of their length."""
    jitter: float = 0.05
    """Displacement of junctions as a share of the block."""
    green_s: int = 22
    signs: bool = False
    """Stop, yield and limit signs at the roadside; off, because the shipped policy learnt in towns without."""
    seed: int = 0
    left_hand: bool = False
    """Left-hand traffic: the exact mirror image of the same town with right-hand traffic."""

    def __post_init__(self) -> None:
        """Refuse what netconvert would turn into something else."""
        if self.style not in STYLES:
            raise ValueError(f"unknown town style '{self.style}': choose one of {', '.join(STYLES)}")
        require_whole(self, main_lanes=(1, 3), side_lanes=(1, 3))
        for name in ("sidewalks", "crossings"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"TownConfig.{name} must be True or False, got {getattr(self, name)!r}")
        require_within(self, block=(70.0, 400.0 if self.style == "road" else 150.0))
        least = {"grid": (2, 2), "spider": (1, 3), "random": (2, 1), "road": (1, 1)}[self.style]
        require_whole(self, size=(least[0], 12), size_y=(least[1], 12), green_s=(5, 120), seed=(0, 2**31 - 1))
        require_within(self, main_limit_kph=(10.0, 130.0), side_limit_kph=(10.0, 130.0), lane_width=(2.5, 5.0))
        require_within(self, main_share=(0.0, 1.0), signal_share=(0.0, 1.0), right_before_left_share=(0.0, 1.0))
        require_within(self, bend=(0.0, 0.5), jitter=(0.0, 0.2))


def sample_town(seed: int) -> TownConfig:
    """Draw a town from the whole range; the same seed gives the same town."""
    rng = np.random.default_rng([7919, seed])
    style = str(rng.choice(STYLES[:3], p=[0.45, 0.2, 0.35]))
    size, size_y = int(rng.integers(3, 5)), int(rng.integers(3, 5))
    longest = {"grid": 440.0 / (max(size, size_y) - 1), "spider": 110.0, "random": 120.0}[style]
    if style == "spider":
        size, size_y = 2, int(rng.integers(4, 7))
    elif style == "random":
        size = int(rng.integers(5, 9))
    main_lanes = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))
    main_limit = float(rng.choice([40, 50, 60]))
    return TownConfig(
        style=style,
        size=size,
        size_y=size_y,
        block=round(float(rng.uniform(72.0, min(115.0, longest))), 1),
        main_lanes=main_lanes,
        side_lanes=int(rng.integers(max(1, main_lanes - 1), main_lanes + 1)),
        main_limit_kph=main_limit,
        side_limit_kph=min(main_limit, float(rng.choice([30, 30, 40, 50]))),
        main_share=float(rng.uniform(0.3, 0.7)),
        lane_width=float(rng.choice([3.1, 3.25, 3.5])),
        signal_share=float(rng.uniform(0.35, 0.75)),
        right_before_left_share=float(rng.uniform(0.3, 0.8)),
        sidewalks=True,
        crossings=bool(rng.random() < 0.85),
        bend=float(rng.choice([0.0, 0.04, 0.08])),
        jitter=float(rng.uniform(0.0, 0.1)),
        green_s=int(rng.integers(10, 18)),
        seed=seed,
    )


def town_for_scene(scene_seed: int) -> TownConfig:
    """Pick the scene's town from its split's bounded pool, so that caching pays; pools are disjoint."""
    split = split_of(scene_seed)
    # A hash, not a modulus: neighbouring scene seeds should not walk through the pool in order with
    # whatever else is drawn from the seed.
    pick = int.from_bytes(hashlib.sha256(f"town {scene_seed}".encode()).digest()[:4], "little")
    return sample_town(SPLIT_STARTS[split] + pick % POOL_SIZES[split])


def generate_net(config: TownConfig, cache_dir: Path | None = None) -> Path:
    """Return the network file of a right-hand town, building it when the cache has none.

    Left-hand towns are mirrored from it (`roads.build_town`): the side is no part of a plan, nor of its key.
    """
    if config.left_hand:
        raise ValueError("a street plan has no driving side: build_town mirrors the right-hand town")
    folder = Path(cache_dir) if cache_dir else cache_folder("towns")
    # The driving side and what stands beside the roads are no part of the plan.
    recipe = {name: value for name, value in asdict(config).items() if name not in ("left_hand", "signs")}
    key = hashlib.sha256(json.dumps([RECIPE_VERSION, recipe], sort_keys=True).encode()).hexdigest()[:20]
    target = folder / f"{key}.net.xml"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
        built = _build_net(config, Path(scratch))
        with built.open("rb") as handle:
            os.fsync(handle.fileno())
        built.replace(target)
    return target


def _build_net(config: TownConfig, scratch: Path) -> Path:
    """Draw plans until one has enough junctions and is no larger than it need be, then convert it."""
    if config.style == "road":
        _dress(config, *road_plan(config.size, config.block), scratch)
        return _convert(config, scratch)
    candidates = []
    for attempt in range(60):
        nodes, streets = _street_plan(config, scratch, config.seed + 100_003 * attempt)
        nodes, streets = prune(nodes, streets)
        if sum(1 for d in degrees_of(streets).values() if d >= 3) < 5:
            continue
        extent = float(np.ptp(np.stack(list(nodes.values())), axis=0).max())
        excess = max(extent / LARGEST, longest_run(nodes, streets) / LONGEST)
        candidates.append((excess, attempt, nodes, streets))
        if config.style != "random" or excess <= 1.0 or attempt > 25:
            break
    if not candidates:
        raise ValueError(f"no connected street plan for town seed {config.seed}: choose another seed or a larger size")
    _, _, nodes, streets = min(candidates, key=lambda candidate: candidate[:2])
    _dress(config, nodes, streets, scratch)
    return _convert(config, scratch)


def _street_plan(config: TownConfig, scratch: Path, seed: int) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Run netgenerate; return node positions and streets (each once, both ways meant)."""
    if config.style == "grid":
        shape = ["--grid", f"--grid.x-number={config.size}", f"--grid.y-number={config.size_y}"]
        shape += [f"--grid.length={config.block}"]
    elif config.style == "spider":
        shape = ["--spider", f"--spider.arm-number={config.size_y}", f"--spider.circle-number={config.size}"]
        shape += [f"--spider.space-radius={config.block}"] + (["--spider.omit-center"] if config.size_y > 4 else [])
    else:
        shape = [
            "--rand",
            "--rand.grid",
            f"--rand.iterations={config.size * 5}",
            f"--rand.min-distance={config.block * 0.9}",
        ]
        shape += [f"--rand.max-distance={config.block * 1.25}", "--rand.min-angle=70", "--rand.connectivity=0.98"]
        shape += ["--rand.neighbor-dist1=0", "--rand.neighbor-dist2=0", "--rand.neighbor-dist3=8"]
        shape += ["--rand.neighbor-dist4=8", "--rand.neighbor-dist5=0", "--rand.neighbor-dist6=0"]
    prefix = scratch / "plan"
    run_tool("netgenerate", [*shape, f"--seed={seed}", "--plain-output-prefix", str(prefix)])
    nodes = {
        n.attrib["id"]: np.array([float(n.attrib["x"]), float(n.attrib["y"])])
        for n in ET.parse(f"{prefix}.nod.xml").iter("node")
    }
    pairs = {tuple(sorted((e.attrib["from"], e.attrib["to"]))) for e in ET.parse(f"{prefix}.edg.xml").iter("edge")}
    return nodes, sorted((a, b) for a, b in pairs)


def _families(config: TownConfig, streets: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Name what each street is part of: a row or column, a ring or arm, or nothing but itself."""

    def family(a: str, b: str) -> str:
        if config.style == "grid":  # ids are a column letter and a row number
            return f"column {a[0]}" if a[0] == b[0] else f"row {a[1:]}"
        if config.style == "spider":  # ids are a ring letter and an arm number; the centre is A1
            return f"ring {a[0]}" if a[0] == b[0] else f"arm {max(a, b)[1:]}"
        if config.style == "road":
            return "main" if a[0] == b[0] else f"side {a}-{b}"
        return f"{a}-{b}"

    return {(a, b): family(a, b) for a, b in streets}


def _main_streets(
    config: TownConfig, families: dict[tuple[str, str], str], rng: np.random.Generator
) -> set[tuple[str, str]]:
    """Choose main streets so that they run on: whole rows and columns, rings and arms, or single streets."""
    if config.style == "road":
        return {street for street, family in families.items() if family == "main"}
    names = sorted(set(families.values()))
    count = max(1, round(config.main_share * len(names)))
    chosen = set(rng.permutation(names)[:count].tolist())
    return {street for street, family in families.items() if family in chosen}


def _junction_kind(config: TownConfig, ranks: list[bool], rng: np.random.Generator) -> str:
    """Draw a junction's type from the classes of the streets that meet (True is main)."""
    draws = rng.random(2)
    if len(ranks) < 3:
        return "priority"
    if draws[0] < config.signal_share:
        return "traffic_light"
    if (not any(ranks) or (all(ranks) and config.main_lanes == 1)) and config.side_lanes == 1:
        return "right_before_left" if draws[1] < config.right_before_left_share else "priority"
    # Equal main streets without signals are no town's idea of a junction.
    return "priority" if 0 < sum(ranks) <= 2 else "traffic_light"


def _dress(config: TownConfig, nodes: dict[str, np.ndarray], streets: list[tuple[str, str]], scratch: Path) -> None:
    """Write the node and edge files netconvert reads."""
    rng = np.random.default_rng([104_729, config.seed])
    families = _families(config, streets)
    main = _main_streets(config, families, rng)
    node_root, edge_root = ET.Element("nodes"), ET.Element("edges")
    # Random plans come on a grid (the compact ones do): shake them until it no longer shows.
    shake = (config.jitter + (0.1 if config.style == "random" else 0.0)) * config.block
    place = {n: nodes[n] + rng.uniform(-1, 1, 2) * shake for n in sorted(nodes)}
    kinds = {n: _junction_kind(config, [s in main for s in streets if n in s], rng) for n in place}
    if config.style == "road":  # bent as told, either way
        bends = {s: config.bend * (1.0 if rng.random() < 0.5 else -1.0) * (s in main) for s in streets}
    else:
        bends = {s: config.bend * rng.uniform(-1, 1) * (rng.random() < 0.6) for s in streets}
    axes = street_axes(place, streets, bends, families)
    for name in sorted({node for axis in axes for node in axis.ends}):
        x, y = place[name]
        ET.SubElement(node_root, "node", id=name, x=f"{x:.2f}", y=f"{y:.2f}", type=kinds[name])
    for k, axis in enumerate(axes):
        (a, b), is_main = axis.ends, bool(main & set(axis.streets))
        lanes = config.main_lanes if is_main else config.side_lanes
        limit = (config.main_limit_kph if is_main else config.side_limit_kph) / 3.6
        twin = any({a, b} == set(other.ends) for other in axes[:k])
        for start, end, line in ((a, b, axis.line), (b, a, axis.line[::-1])):
            edge = ET.SubElement(edge_root, "edge", {"id": f"{start}_{end}" + "b" * twin, "from": start, "to": end})
            edge.set("numLanes", str(lanes))
            edge.set("speed", f"{limit:.4f}")
            edge.set("priority", "10" if is_main else "1")
            edge.set("width", f"{config.lane_width:g}")
            if len(line) > 2:
                edge.set("shape", " ".join(f"{x:.2f},{y:.2f}" for x, y in line))
    ET.ElementTree(node_root).write(scratch / "town.nod.xml")
    ET.ElementTree(edge_root).write(scratch / "town.edg.xml")


def _convert(config: TownConfig, scratch: Path) -> Path:
    """Run netconvert on the dressed plan."""
    out = scratch / "town.net.xml"
    options = ["-n", str(scratch / "town.nod.xml"), "-e", str(scratch / "town.edg.xml"), "-o", str(out)]
    options += ["--no-turnarounds=true", "--junctions.internal-link-detail=12", "--junctions.corner-detail=8"]
    options += ["--default.junctions.radius=10", "--rectangular-lane-cut=true"]
    # No separate left phase: every link of a lane then shows one colour, so a lane needs one lamp.
    options += [f"--tls.green.time={config.green_s}", "--tls.yellow.time=3", "--tls.left-green.time=0"]
    options += ["--tls.allred.time=1", "--tls.crossing-min.time=5", "--tls.crossing-clearance.time=5"]
    if config.sidewalks:
        options += ["--sidewalks.guess=true", "--sidewalks.guess.max-speed=20", "--default.sidewalk-width=2.5"]
        options += ["--walkingareas=true"]
        if config.crossings:
            options += ["--crossings.guess=true", "--crossings.guess.speed-threshold=17"]
    run_tool("netconvert", options)
    return out


def run_tool(tool: str, options: list[str]) -> None:
    """Run a SUMO tool; its own first error is the error."""
    binary = sumo_home() / "bin" / tool
    if not binary.exists():
        raise FileNotFoundError(f"{binary} not found: install eclipse-sumo (pip install eclipse-sumo)")
    environment = dict(os.environ, SUMO_HOME=str(sumo_home()), PROJ_DATA=str(sumo_home() / "data" / "proj"))
    command = [str(binary), *options, "--xml-validation", "never", "--no-warnings", "true"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        said = next((line for line in lines if line.startswith("Error")), " ".join(lines))
        raise ValueError(f"{tool} failed ({done.returncode}): {said[:300]}")


def sumo_home() -> Path:
    """Return SUMO's folder inside the eclipse-sumo wheel (or $SUMO_HOME)."""
    # libsumo, once imported, sets SUMO_HOME to a folder that has data but no tools.
    home = os.environ.get("SUMO_HOME")
    if home and (Path(home) / "bin" / "netgenerate").exists():
        return Path(home)
    try:
        import sumo
    except ModuleNotFoundError:
        binary = shutil.which("netconvert")
        if binary:
            return Path(binary).resolve().parent.parent
        raise FileNotFoundError("SUMO not found: pip install eclipse-sumo") from None
    return Path(sumo.SUMO_HOME)
