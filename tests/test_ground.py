"""Ground: what is painted is where the map says, roads explain their limit, and the cache gives the same bytes."""

from dataclasses import replace

import numpy as np
import pytest
from empty_street import empty_scenery, street

from drivebyword.world.ground import PALETTE, Ground
from drivebyword.world.markings import Material, asphalt_of
from drivebyword.world.scenery import build_scenery


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground.build(street(), empty_scenery(), tmp_path_factory.mktemp("ground"))


def at(ground, x, y):
    return Material(int(ground.material(np.array([[x, y]], float))[0]))


def test_asphalt_paint_sidewalk_and_grass_lie_where_the_map_says(ground):
    assert at(ground, 0.0, -1.6) == Material.ASPHALT
    assert at(ground, 0.0, 0.0) == Material.WHITE
    assert at(ground, 39.75, -1.6) == Material.WHITE
    assert at(ground, 0.0, -4.3) == Material.SIDEWALK
    assert at(ground, 0.0, 12.0) == Material.GRASS
    assert at(ground, 0.0, -3.4) == Material.KERB
    assert at(ground, 500.0, 0.0) == Material.GRASS


@pytest.mark.parametrize("limit", [30, 40, 50, 60])
def test_every_limit_looks_different(limit, tmp_path):
    road_map = street()
    lanes = {
        name: replace(lane, speed_limit=limit / 3.6) if lane.kind == "drive" else lane
        for name, lane in road_map.lanes.items()
    }
    ground = Ground.build(replace(road_map, lanes=lanes, id=f"{limit:016x}"), None, tmp_path)
    look = (at(ground, 5.0, -1.6), at(ground, 5.0, -3.0), at(ground, 5.0, -0.15))
    expected = {
        30: (Material.ASPHALT_SLOW, Material.ASPHALT_SLOW),
        40: (Material.ASPHALT, Material.ASPHALT),
        50: (Material.ASPHALT, Material.WHITE),
        60: (Material.ASPHALT_FAST, Material.WHITE),
    }[limit]
    assert look[:2] == expected
    assert (look[2] == Material.YELLOW) == (limit == 60)
    assert look[0] == asphalt_of(limit / 3.6)


def test_the_cache_gives_the_same_bytes_and_heals_from_a_broken_file(tmp_path):
    road_map = street()
    scenery = build_scenery(road_map)
    first = Ground.build(road_map, scenery, tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    second = Ground.build(road_map, scenery, tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:100])
    third = Ground.build(road_map, scenery, tmp_path)
    for other in (second, third):
        assert np.array_equal(first.base, other.base)
        assert np.array_equal(first.mips, other.mips)
    assert [f.name for f in tmp_path.iterdir()] == [files[0].name]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert Ground.build(street(), None, blocked / "inside").base.size > 0


def test_coarser_levels_average_the_finest(ground):
    start, rows, cols = ground.levels[1]
    level = ground.mips[start : start + rows * cols].reshape(rows, cols)
    words = PALETTE[ground.base[: 2 * rows, : 2 * cols]].reshape(rows, 2, cols, 2)
    green = ((words >> 8) & 255).astype(float).mean((1, 3))
    assert np.abs(green - ((level >> 8) & 255)).max() <= 1.0


def test_shadows_darken_but_do_not_repaint(tmp_path):
    road_map = street()
    scenery = build_scenery(road_map)
    lit, shaded = Ground.build(road_map, None, tmp_path), Ground.build(road_map, scenery, tmp_path)
    dark = (shaded.base & 64) > 0
    assert dark.any()
    road = np.isin(lit.base & 15, [1, 6])
    assert np.array_equal(lit.base[road] & 15, shaded.base[road] & 15)
