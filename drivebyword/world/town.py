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
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from drivebyword.core.seeds import split_of

RECIPE_VERSION = 11
"""Part of the cache key: raise it when the code below draws other towns from the same config."""

SPLIT_STARTS = {"training": 0, "validation": 1_000_000, "test": 2_000_000}
POOL_SIZES = {"training": 160, "validation": 40, "test": 40}
LARGEST = 520.0
"""Metres a random plan may measure along x or y: rasters of the ground grow with its square."""
LONGEST = 320.0
"""Metres between junctions a random plan may have: a scene needs junctions to speak of."""
STYLES = ("grid", "spider", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class TownConfig:
    """What decides a town. Equal configs give equal networks, byte for byte but for comments."""

    style: str = "grid"
    """grid, spider or random."""
    size: int = 3
    """Grid: junctions along x; spider: rings; random: growth (times four streets)."""
    size_y: int = 3
    """Grid: junctions along y; spider: arms; random: unused."""
    block: float = 100.0
    """Street length between junctions in metres, 70 to 150."""
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
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what netconvert would turn into something else."""
        if self.style not in STYLES:
            raise ValueError(f"unknown town style '{self.style}': choose one of {', '.join(STYLES)}")
        if not (1 <= self.main_lanes <= 3 and 1 <= self.side_lanes <= 3):
            raise ValueError(f"lanes each way must be 1 to 3, got {self.main_lanes} and {self.side_lanes}")
        if not 70.0 <= self.block <= 150.0:
            raise ValueError(f"block must be 70 to 150 m, got {self.block:g}")


def sample_town(seed: int) -> TownConfig:
    """Draw a town from the whole range; the same seed gives the same town."""
    rng = np.random.default_rng([7919, seed])
    style = str(rng.choice(STYLES, p=[0.45, 0.2, 0.35]))
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


def town_cache() -> Path:
    """Return the folder generated towns are kept in."""
    root = os.environ.get("DRIVEBYWORD_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "drivebyword") / "towns"


def generate_net(config: TownConfig, cache_dir: Path | None = None) -> Path:
    """Return the town's network file, building it when the cache has none."""
    folder = Path(cache_dir) if cache_dir else town_cache()
    key = hashlib.sha256(json.dumps([RECIPE_VERSION, asdict(config)], sort_keys=True).encode()).hexdigest()[:20]
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
    candidates = []
    for attempt in range(60):
        nodes, streets = _street_plan(config, scratch, config.seed + 100_003 * attempt)
        nodes, streets = _prune(nodes, streets)
        if sum(1 for d in _degrees(streets).values() if d >= 3) < 5:
            continue
        extent = float(np.ptp(np.stack(list(nodes.values())), axis=0).max())
        excess = max(extent / LARGEST, _longest_run(nodes, streets) / LONGEST)
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
    _run("netgenerate", [*shape, f"--seed={seed}", "--plain-output-prefix", str(prefix)])
    nodes = {
        n.attrib["id"]: np.array([float(n.attrib["x"]), float(n.attrib["y"])])
        for n in ET.parse(f"{prefix}.nod.xml").iter("node")
    }
    pairs = {tuple(sorted((e.attrib["from"], e.attrib["to"]))) for e in ET.parse(f"{prefix}.edg.xml").iter("edge")}
    return nodes, sorted((a, b) for a, b in pairs)


def _degrees(streets: list[tuple[str, str]]) -> dict[str, int]:
    degrees: dict[str, int] = defaultdict(int)
    for a, b in streets:
        degrees[a] += 1
        degrees[b] += 1
    return degrees


def _longest_run(nodes: dict[str, np.ndarray], streets: list[tuple[str, str]]) -> float:
    """Return the longest way between two junctions of three or more streets."""
    degrees = _degrees(streets)
    longest = 0.0
    for first in (node for node in sorted(degrees) if degrees[node] >= 3):
        for start in [s for s in streets if first in s]:
            street, node, run = start, first, 0.0
            while True:
                run += float(np.hypot(*(nodes[street[0]] - nodes[street[1]])))
                node = street[1] if street[0] == node else street[0]
                if degrees[node] != 2:
                    break
                street = next(s for s in streets if node in s and s != street)
            longest = max(longest, run)
    return longest


def _prune(
    nodes: dict[str, np.ndarray], streets: list[tuple[str, str]]
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Drop dead ends again and again, then all but the largest connected part."""
    while True:
        degrees = _degrees(streets)
        kept = [(a, b) for a, b in streets if degrees[a] > 1 and degrees[b] > 1]
        if len(kept) == len(streets):
            break
        streets = kept
    part: dict[str, str] = {}
    for start in sorted({n for street in streets for n in street}):
        stack = [] if start in part else [start]
        while stack:
            node = stack.pop()
            if node not in part:
                part[node] = start
                stack += [b if a == node else a for a, b in streets if node in (a, b)]
    if not part:
        return {}, []
    sizes: dict[str, int] = defaultdict(int)
    for root in part.values():
        sizes[root] += 1
    largest = max(sorted(sizes), key=lambda root: sizes[root])
    return {n: nodes[n] for n in part if part[n] == largest}, [s for s in streets if part[s[0]] == largest]


def _main_streets(config: TownConfig, streets: list[tuple[str, str]], rng: np.random.Generator) -> set[tuple[str, str]]:
    """Choose main streets so that they run on: whole rows and columns, rings and arms, or single streets."""

    def family(street: tuple[str, str]) -> str:
        a, b = street
        if config.style == "grid":  # ids are a column letter and a row number
            return f"column {a[0]}" if a[0] == b[0] else f"row {a[1:]}"
        if config.style == "spider":  # ids are a ring letter and an arm number; the centre is A1
            return f"ring {a[0]}" if a[0] == b[0] else f"arm {max(a, b)[1:]}"
        return f"{a}-{b}"

    families = sorted({family(s) for s in streets})
    count = max(1, round(config.main_share * len(families)))
    chosen = set(rng.permutation(families)[:count].tolist())
    return {s for s in streets if family(s) in chosen}


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
    main = _main_streets(config, streets, rng)
    node_root, edge_root = ET.Element("nodes"), ET.Element("edges")
    # Random plans come on a grid (the compact ones do): shake them until it no longer shows.
    shake = (config.jitter + (0.1 if config.style == "random" else 0.0)) * config.block
    place = {n: nodes[n] + rng.uniform(-1, 1, 2) * shake for n in sorted(nodes)}
    kinds = {n: _junction_kind(config, [s in main for s in streets if n in s], rng) for n in place}
    axes = _street_axes(config, place, streets, main, rng)
    for name in sorted({n for (a, b, _), _ in axes for n in (a, b)}):
        x, y = place[name]
        ET.SubElement(node_root, "node", id=name, x=f"{x:.2f}", y=f"{y:.2f}", type=kinds[name])
    for (a, b, shape), is_main in axes:
        lanes = config.main_lanes if is_main else config.side_lanes
        limit = (config.main_limit_kph if is_main else config.side_limit_kph) / 3.6
        for start, end, line in ((a, b, shape), (b, a, shape[::-1])):
            edge = ET.SubElement(edge_root, "edge", {"id": f"{start}_{end}", "from": start, "to": end})
            edge.set("numLanes", str(lanes))
            edge.set("speed", f"{limit:.4f}")
            edge.set("priority", "10" if is_main else "1")
            edge.set("width", f"{config.lane_width:g}")
            if len(line) > 2:
                edge.set("shape", " ".join(f"{x:.2f},{y:.2f}" for x, y in line))
    ET.ElementTree(node_root).write(scratch / "town.nod.xml")
    ET.ElementTree(edge_root).write(scratch / "town.edg.xml")


Axis = tuple[str, str, np.ndarray]


def _street_axes(
    config: TownConfig,
    place: dict[str, np.ndarray],
    streets: list[tuple[str, str]],
    main: set[tuple[str, str]],
    rng: np.random.Generator,
) -> list[tuple[Axis, bool]]:
    """Give every street its axis; streets that meet two by two become one street with a round bend."""
    axes: dict[tuple[str, str], tuple[np.ndarray, bool]] = {}
    for a, b in streets:
        bend = config.bend * rng.uniform(-1, 1) * (rng.random() < 0.6)
        if config.style == "spider" and a[0] == b[0]:
            # A ring is round: it meets its arms squarely, where chords would make corners no car can take.
            axes[a, b] = _ring_arc(place[a], place[b], np.mean(list(place.values()), axis=0)), (a, b) in main
        else:
            axes[a, b] = _bent(place[a], place[b], bend), (a, b) in main
    for node in sorted(place):
        pair = [s for s in axes if node in s]
        ends = [b if a == node else a for a, b in pair]
        if len(pair) != 2 or ends[0] == ends[1] or tuple(ends) in axes or tuple(ends[::-1]) in axes:
            continue
        (one, main_one), (two, main_two) = axes.pop(pair[0]), axes.pop(pair[1])
        one = one if pair[0][1] == node else one[::-1]
        two = two if pair[1][0] == node else two[::-1]
        axes[ends[0], ends[1]] = _rounded(one, two), main_one or main_two
    return [((a, b, line), is_main) for (a, b), (line, is_main) in sorted(axes.items(), key=lambda item: item[0])]


def _bent(a: np.ndarray, b: np.ndarray, bend: float) -> np.ndarray:
    """Return a street axis from a to b: straight, or a bow with straight approaches at both ends."""
    if abs(bend) < 0.01:
        return np.stack([a, b])
    u = np.linspace(0.0, 1.0, 17)[:, None]
    along = b - a
    across = np.array([-along[1], along[0]])
    # sin^2 over the middle 70%: junction arms stay straight, so corners keep their angles.
    bow = np.sin(np.pi * np.clip((u - 0.15) / 0.7, 0.0, 1.0)) ** 2
    return a + along * u + across * bend * bow


def _ring_arc(a: np.ndarray, b: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return the arc from a to b about a centre, its radius running from a's to b's."""
    from_a, from_b = a - center, b - center
    start = np.arctan2(from_a[1], from_a[0])
    turn = (np.arctan2(from_b[1], from_b[0]) - start + np.pi) % (2 * np.pi) - np.pi
    u = np.linspace(0.0, 1.0, 13)
    radius = np.hypot(*from_a) * (1 - u) + np.hypot(*from_b) * u
    return center + radius[:, None] * np.stack([np.cos(start + turn * u), np.sin(start + turn * u)], axis=1)


def _rounded(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Join two axes that meet at a node by an arc as wide as the streets allow: long vehicles cut tight bends."""
    corner = one[-1]
    reach = min(36.0, 0.4 * float(np.hypot(*(one[0] - corner))), 0.4 * float(np.hypot(*(two[-1] - corner))))
    turn = _angle_between(corner - one[0], two[-1] - corner)
    radius = min(80.0, reach / max(np.tan(turn / 2), 1e-3))
    reach = radius * np.tan(turn / 2)
    head = np.array([p for p in one if np.hypot(*(p - corner)) > reach + 1.0])
    tail = np.array([p for p in two if np.hypot(*(p - corner)) > reach + 1.0])
    into = (corner - head[-1]) / np.hypot(*(corner - head[-1]))
    out = (tail[0] - corner) / np.hypot(*(tail[0] - corner))
    turn = _angle_between(into, out)
    if turn < 0.05:
        return np.concatenate([head, tail])
    radius = reach / np.tan(turn / 2)
    side = np.sign(into[0] * out[1] - into[1] * out[0])
    normal = side * np.array([-into[1], into[0]])
    angles = np.linspace(0.0, turn, 13)[:, None]
    arc = corner - into * reach + radius * (np.sin(angles) * into + (1 - np.cos(angles)) * normal)
    return np.concatenate([head, arc, tail])


def _angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b)))


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
    _run("netconvert", options)
    return out


def _run(tool: str, options: list[str]) -> None:
    """Run a SUMO tool; its own words are the error."""
    binary = sumo_home() / "bin" / tool
    if not binary.exists():
        raise FileNotFoundError(f"{binary} not found: install eclipse-sumo (pip install eclipse-sumo)")
    environment = dict(os.environ, SUMO_HOME=str(sumo_home()))
    command = [str(binary), *options, "--xml-validation", "never", "--no-warnings", "true"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
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
