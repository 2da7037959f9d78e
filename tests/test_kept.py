"""What is kept on disk: there whole or built again, and never in anybody's way."""

import numpy as np
import pytest

from drivebyword.world.building import build_map
from drivebyword.world.ground import Ground
from drivebyword.world.kept import content_of, kept, named
from drivebyword.world.scenery import _furnish, build_scenery
from drivebyword.world.town import sample_town

ROWS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], np.int32)}


def test_what_was_kept_is_read_and_not_built_again(tmp_path):
    first = kept(tmp_path / "deep" / "x.npz", lambda: ROWS)
    second = kept(tmp_path / "deep" / "x.npz", lambda: pytest.fail("built again"))
    for name, values in ROWS.items():
        assert first[name] is values
        assert second[name].dtype == values.dtype and np.array_equal(second[name], values)


@pytest.mark.parametrize("left", [0, 1, 40, 200])
def test_a_torn_file_is_built_again(tmp_path, left):
    file = tmp_path / "x.npz"
    kept(file, lambda: ROWS)
    file.write_bytes(file.read_bytes()[:left])
    assert kept(file, lambda: {"c": np.ones(3)}).keys() == {"c"}
    assert kept(file, lambda: ROWS).keys() == {"c"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_a_flipped_bit_is_noticed(tmp_path):
    file = tmp_path / "x.npz"
    kept(file, lambda: {"a": np.arange(4096)})
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 16
    file.write_bytes(whole)
    assert kept(file, lambda: {"b": np.ones(1)}).keys() == {"b"}


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    assert kept(named(tmp_path / "file" / "x", "y"), lambda: ROWS) is ROWS


def test_names_tell_everything_apart(tmp_path):
    names = {named(tmp_path, *what) for what in (("a", 1), ("a", 2), ("b", 1), ("a",))}
    assert len(names) == 4
    assert content_of("kept") != content_of("kept", "site")


def test_a_town_read_from_disk_is_the_town_that_was_built(tmp_path, monkeypatch):
    monkeypatch.setenv("DRIVEBYWORD_CACHE", str(tmp_path))
    road_map = build_map(sample_town(3))
    built, again = (build_scenery(road_map) for _ in range(2))
    for name, rows in _furnish(road_map, 0).items():
        assert np.array_equal(getattr(built, name), rows) and np.array_equal(getattr(again, name), rows)
    grounds = [Ground.build(road_map, built) for _ in range(2)]
    assert np.array_equal(grounds[0].base, grounds[1].base) and np.array_equal(grounds[0].mips, grounds[1].mips)
    assert {path.name for path in tmp_path.iterdir()} == {"towns", "scenery", "ground"}
