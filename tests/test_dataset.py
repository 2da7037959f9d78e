"""What is recorded comes back; LeRobot's layout is kept; kills lose and double nothing; damage is named."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_episodes import make_episode, soft_images

from drivebyword.core.seeds import require_training_seed, split_of
from drivebyword.data.dataset import Dataset, DatasetWriter, part_name, parts
from drivebyword.data.episode import read_part, write_part
from drivebyword.data.files import sha256_file, write_json
from drivebyword.data.importers import load_foreign_columns
from drivebyword.world.rigs import tiny


def assert_same(found, expected):
    """Every field equal, NaN included; images within the codec's small error."""
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        elif field.name == "cameras":
            assert list(one) == list(other)
            for name, images in other.items():
                error = np.abs(images.astype(int) - one[name]).mean()
                assert error < 2.0, (name, error)
        else:
            assert one == other, field.name


def recorded(root, seeds=range(3)):
    writer = DatasetWriter(root)
    for seed in seeds:
        writer.add(make_episode(seed, frames=10 + seed))
    writer.finalize()
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("finished") / "set")


@pytest.fixture
def own_copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "set"))


# --------------------------------------------------------------------------- what goes in comes out


def test_an_episode_comes_back_from_its_folder_equal_in_every_field(tmp_path):
    episode = make_episode(7)
    assert_same(read_part(write_part(tmp_path / "one", episode)), episode)


def test_an_episode_without_lidar_or_cameras_has_none_when_read(tmp_path):
    episode = make_episode(7, cameras=(), lidar=None, radar=None, radar_valid=None)
    found = read_part(write_part(tmp_path / "one", episode))
    assert (found.lidar, found.radar, found.radar_valid, found.cameras) == (None, None, None, {})


def test_a_merged_set_gives_every_episode_back(finished):
    dataset = Dataset(finished)
    assert [e.seed for e in dataset.episodes] == [0, 1, 2]
    assert len(dataset) == 33
    for row in range(3):
        assert_same(dataset.read_episode(row), make_episode(row, frames=10 + row))


def test_parts_and_merged_episodes_are_read_alike(own_copy):
    writer = DatasetWriter(own_copy)
    assert writer.add(make_episode(5))
    assert writer.seeds() == {0, 1, 2, 5}
    before = Dataset(own_copy)
    assert [e.seed for e in before.episodes] == [0, 1, 2, 5]
    assert_same(before.read_episode(3), make_episode(5))
    wide, plan = before.load_frames("wide"), before.load_columns(["expert.plan"])["expert.plan"]
    assert writer.finalize() == 1
    after = Dataset(own_copy)
    assert parts(own_copy) == []
    np.testing.assert_array_equal(after.load_frames("wide"), wide)
    np.testing.assert_array_equal(after.load_columns(["expert.plan"])["expert.plan"], plan)


def test_columns_keep_their_shapes_and_chosen_episodes_their_order(finished):
    dataset = Dataset(finished)
    columns = dataset.load_columns(
        ["observation.lidar", "act", "expert.speed", "verdict_why"], [2, 0], dtypes={"observation.lidar": np.float16}
    )
    last, first = make_episode(2, frames=12), make_episode(0, frames=10)
    assert columns["observation.lidar"].dtype == np.float16
    np.testing.assert_array_equal(
        columns["observation.lidar"], np.concatenate([last.lidar, first.lidar]).astype(np.float16)
    )
    np.testing.assert_array_equal(columns["act"], np.concatenate([last.act, first.act]))
    np.testing.assert_array_equal(columns["expert.speed"], np.concatenate([last.expert_speed, first.expert_speed]))
    assert columns["verdict_why"] == last.verdict_why + first.verdict_why


def test_images_decode_alike_from_any_start_and_on_threads(finished):
    dataset = Dataset(finished)
    together = dataset.load_frames("tele")
    np.testing.assert_array_equal(together[dataset.starts[1] : dataset.starts[2]], dataset.load_frames("tele", [1]))
    out = np.zeros_like(together)
    assert dataset.load_frames("tele", out=out, threads=2) is out
    np.testing.assert_array_equal(out, together)


def test_a_two_pixel_lamp_keeps_its_colour(tmp_path):
    images = np.full((10, 64, 128, 3), 90, np.uint8)
    images[:, 20:22, 60:62] = (250, 20, 20)
    episode = make_episode(1, frames=10, cameras=())
    episode.cameras = {"tele": images}
    lamp = read_part(write_part(tmp_path / "one", episode)).cameras["tele"][:, 20:22, 60:62].astype(int)
    assert lamp[..., 0].min() > 200
    assert lamp[..., 1:].max() < 70


# --------------------------------------------------------------------------- LeRobot's layout


def test_the_layout_is_lerobot_v3(finished):
    info = json.loads((finished / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["fps"], info["total_episodes"], info["total_frames"], info["total_tasks"]) == (5, 3, 33, 3)
    for name in ("stats.json", "tasks.parquet", "episodes/chunk-000/file-000.parquet"):
        assert (finished / "meta" / name).exists()
    table = pq.read_table(finished / "data/chunk-000/file-000.parquet")
    features = {k: f for k, f in info["features"].items() if f["dtype"] != "video"}
    assert set(table.schema.names) == set(features)
    for name, feature in features.items():
        kind = table.schema.field(name).type
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else 1
        assert feature["shape"] == [size], name
        assert feature["names"] is None or len(feature["names"]) == size, name
        element = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
        assert str(element).replace("float", "float32").replace("double", "float64") == feature["dtype"], name
    assert table["index"].to_pylist() == list(range(33))
    assert table["frame_index"].to_pylist()[:11] == [*range(10), 0]
    np.testing.assert_allclose(table["timestamp"].to_numpy()[:10], np.arange(10) / 5, atol=1e-6)
    for camera in ("wide", "tele"):
        assert info["features"][f"observation.images.{camera}"]["names"] == ["height", "width", "channels"]
        assert (finished / f"videos/observation.images.{camera}/chunk-000/file-000.mp4").exists()


def test_the_episode_table_points_at_rows_and_seconds(finished):
    rows = pq.read_table(finished / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(r["dataset_from_index"], r["dataset_to_index"]) for r in rows] == [(0, 10), (10, 21), (21, 33)]
    key = "videos/observation.images.wide"
    np.testing.assert_allclose([r[f"{key}/from_timestamp"] for r in rows], [0, 2.0, 4.2])
    np.testing.assert_allclose([r[f"{key}/to_timestamp"] for r in rows], [2.0, 4.2, 6.6])
    assert [r["drivebyword.seed"] for r in rows] == [0, 1, 2]


def test_the_task_of_a_frame_is_the_sentence_in_force(finished):
    tasks = {
        t["task_index"]: t["__index_level_0__"] for t in pq.read_table(finished / "meta/tasks.parquet").to_pylist()
    }
    index = pq.read_table(finished / "data/chunk-000/file-000.parquet")["task_index"].to_pylist()
    said = [tasks[i] for i in index]
    assert said[:10] == ['turn "left", gr\u00fcn'] * 5 + ["stop 0"] * 5
    assert said[16:21] == ["stop 1"] * 5
    rows = pq.read_table(finished / "meta/episodes/chunk-000/file-000.parquet")["tasks"].to_pylist()
    assert rows[1] == ['turn "left", gr\u00fcn', "stop 1"]


def test_statistics_are_those_of_all_finite_rows(finished):
    stats = json.loads((finished / "meta/stats.json").read_text())
    columns = Dataset(finished).load_columns(["observation.state", "lane_offset", "observation.lidar"])
    state, lane = columns["observation.state"].astype(float), columns["lane_offset"].astype(float)
    np.testing.assert_allclose(stats["observation.state"]["mean"], state.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["std"], state.std(0), atol=1e-6)
    np.testing.assert_allclose(stats["lane_offset"]["max"], [np.nanmax(lane)])
    assert stats["lane_offset"]["count"] == [int(np.isfinite(lane).sum())]
    assert len(stats["observation.lidar"]["mean"]) == 4 * 16 * 2
    assert np.shape(stats["observation.images.wide"]["mean"]) == (3, 1, 1)


def test_columns_of_any_lerobot_set_are_read_by_mapped_names(finished):
    found = load_foreign_columns(finished, {"pedals": "action", "when": "timestamp"})
    np.testing.assert_array_equal(found["pedals"], Dataset(finished).load_columns(["action"])["action"])
    assert found["when"].shape == (33,)
    with pytest.raises(ValueError, match=r"info\.json: field 'actoin' does not exist; nearest: action"):
        load_foreign_columns(finished, {"pedals": "actoin"})


# --------------------------------------------------------------------------- who may be recorded


def test_test_seeds_and_held_out_scenarios_are_never_recorded_for_training(tmp_path):
    assert [split_of(s) for s in (0, 999_999, 1_000_000, 2_000_000)] == ["training"] * 2 + ["validation", "test"]
    writer = DatasetWriter(tmp_path / "set", held_out=("cut-in",))
    with pytest.raises(ValueError, match="seed 2000000 is a test seed"):
        writer.add(make_episode(2_000_000))
    with pytest.raises(ValueError, match="'cut-in/fast' is held out"):
        writer.add(make_episode(1, scenario="cut-in/fast"))
    with pytest.raises(ValueError, match="seed -1 is outside"):
        require_training_seed(-1)
    assert parts(tmp_path / "set") == []
    assert DatasetWriter(tmp_path / "set", training=False).add(make_episode(2_000_000))


def test_an_episode_of_another_rig_is_refused_by_field(tmp_path):
    with pytest.raises(ValueError, match=r"field observation\.lidar has shape \[4, 16, 2\].*\[16, 128, 2\]"):
        DatasetWriter(tmp_path / "set", rig=tiny()).add(make_episode(1))
    writer = DatasetWriter(tmp_path / "set")
    writer.add(make_episode(1))
    with pytest.raises(ValueError, match=r"field observation\.images\.tele has shape null"):
        DatasetWriter(tmp_path / "set").add(make_episode(2, cameras=(("wide", 32, 96),)))


def test_an_incomplete_episode_is_refused_by_field(tmp_path):
    writer = DatasetWriter(tmp_path / "set")
    with pytest.raises(ValueError, match="field expert_speed has 3 rows, but time_s has 12"):
        episode = make_episode(1)
        episode.expert_speed = episode.expert_speed[:3]
        writer.add(episode)
    with pytest.raises(ValueError, match=r"dt is 0\.1, the data set holds 5"):
        writer.add(make_episode(1, dt=0.1))
    with pytest.raises(ValueError, match=r"instruction_index spans 0\.\.1, but there are 1"):
        writer.add(make_episode(1, instructions=make_episode(1).instructions[:1]))


# --------------------------------------------------------------------------- kills


def test_recording_the_same_scene_twice_records_it_once(own_copy):
    writer = DatasetWriter(own_copy)
    assert not writer.add(make_episode(0))
    assert writer.add(make_episode(0, driver="policy/2"))
    assert not writer.add(make_episode(0, driver="policy/2"))
    assert writer.finalize() == 1
    assert writer.finalize() == 0
    assert [e.driver for e in Dataset(own_copy).episodes] == ["expert"] * 3 + ["policy/2"]


def test_killed_recorders_lose_nothing_and_double_nothing(tmp_path):
    """Two recorders at once, killed again and again, give the same set as one left in peace."""
    script, folder = Path(__file__).with_name("made_episodes.py"), tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(first, last):
        command = [sys.executable, str(script), str(folder), str(first), str(last)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)

    for lines in (1, 3):  # kill soon after the first, then after the third scene of one of them
        pair = start(0, 5), start(2, 7)
        for _ in range(lines):
            pair[0].stdout.readline()
        for process in pair:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
    merging = start(0, 7)
    while merging.stdout.readline().strip() not in (b"merging", b""):
        pass
    time.sleep(0.02)
    merging.send_signal(signal.SIGKILL)
    merging.wait()
    merging.stdout.close()
    last = subprocess.run([sys.executable, str(script), str(folder), "0", "7"], capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    found = Dataset(folder)
    assert sorted(e.seed for e in found.episodes) == list(range(7))
    for row, entry in enumerate(found.episodes):
        assert_same(found.read_episode(row), make_episode(entry.seed))
    assert parts(folder) == []
    assert sorted(p.name for p in folder.iterdir()) == [".parts", "data", "meta", "videos"]


def test_a_kill_between_the_swap_of_meta_and_the_clearing_of_parts_doubles_nothing(tmp_path):
    writer = DatasetWriter(tmp_path / "set")
    for seed in (1, 2):
        writer.add(make_episode(seed))
    shutil.copytree(tmp_path / "set/.parts", tmp_path / "kept")
    writer.finalize()
    shutil.rmtree(tmp_path / "set/.parts")
    shutil.copytree(tmp_path / "kept", tmp_path / "set/.parts")
    assert len(Dataset(tmp_path / "set").episodes) == 2
    assert DatasetWriter(tmp_path / "set").finalize() == 0
    assert [e.seed for e in Dataset(tmp_path / "set").episodes] == [1, 2]
    assert parts(tmp_path / "set") == []


def test_a_kill_before_the_swap_of_meta_leaves_the_old_set_and_the_parts(own_copy, monkeypatch):
    from drivebyword.data import merge

    def killed(root, meta):
        raise KeyboardInterrupt

    writer = DatasetWriter(own_copy)
    writer.add(make_episode(8))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(merge, "save_meta", killed)
        writer.finalize()
    assert [e.seed for e in Dataset(own_copy).episodes] == [0, 1, 2, 8]
    assert writer.finalize() == 1
    assert_same(Dataset(own_copy).read_episode(3), make_episode(8))


# --------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    "name",
    ["data/chunk-000/file-000.parquet", "videos/observation.images.wide/chunk-000/file-000.mp4", "meta/tasks.parquet"],
)
def test_missing_truncated_and_altered_files_are_named(own_copy, name):
    path = own_copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{path.name}.*"):
        Dataset(own_copy)
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(ValueError, match=f"{path.name}.*"):
        Dataset(own_copy)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path.name}.* is missing"):
        Dataset(own_copy)


def test_damage_in_a_part_is_named(tmp_path):
    writer = DatasetWriter(tmp_path / "set")
    writer.add(make_episode(1))
    part = parts(tmp_path / "set")[0]
    assert part.name == part_name("town", 1, "expert")
    video = part / "tele.mp4"
    video.write_bytes(video.read_bytes()[:-30])
    for read in (lambda: read_part(part), lambda: Dataset(tmp_path / "set"), writer.finalize):
        with pytest.raises(ValueError, match=r"tele\.mp4: its SHA-256 differs"):
            read()
    video.unlink()
    with pytest.raises(ValueError, match=r"tele\.mp4 is missing"):
        read_part(part)
    (part / "episode.json").unlink()
    with pytest.raises(ValueError, match=r"episode\.json is missing"):
        read_part(part)


def test_a_video_cut_short_is_named_even_unverified(tmp_path):
    part = write_part(tmp_path / "one", make_episode(1, frames=20))
    other = write_part(tmp_path / "other", make_episode(1, frames=15))
    shutil.copy(other / "wide.mp4", part / "wide.mp4")
    with pytest.raises(ValueError, match=r"wide\.mp4: ends after frame 15, 20 were recorded"):
        read_part(part, verify=False)


def test_a_foreign_schema_is_refused_by_file_and_field(own_copy, tmp_path):
    meta = own_copy / "meta"
    ours = json.loads((meta / "drivebyword.json").read_text())
    write_json(meta / "drivebyword.json", {**ours, "schema_version": 99})
    with pytest.raises(ValueError, match=r"drivebyword\.json: field schema_version is 99"):
        Dataset(own_copy)
    (meta / "drivebyword.json").unlink()
    with pytest.raises(ValueError, match=r"drivebyword\.json is missing: a LeRobot set made elsewhere"):
        Dataset(own_copy)
    with pytest.raises(ValueError, match=r"info\.json is missing: not a LeRobot"):
        load_foreign_columns(tmp_path, {"a": "action"})
    with pytest.raises(ValueError, match="is not a folder"):
        Dataset(tmp_path / "nowhere")


def test_a_column_missing_from_a_data_file_is_named(own_copy):
    data, listed = own_copy / "data/chunk-000/file-000.parquet", own_copy / "meta/checksums.json"
    pq.write_table(pq.read_table(data).drop_columns(["expert.act"]), data)
    checksums = json.loads(listed.read_text())
    checksums["data/chunk-000/file-000.parquet"] = {"sha256": sha256_file(data), "bytes": data.stat().st_size}
    write_json(listed, checksums)
    with pytest.raises(ValueError, match=r"file-000\.parquet: field 'expert\.act' does not exist"):
        Dataset(own_copy)


# --------------------------------------------------------------------------- speed


def test_a_minute_of_driving_costs_little_to_write_and_read(tmp_path):
    """300 frames of the tiny rig: at most 0.6 CPU-seconds to write; images come back at 2,000 a second or more."""
    rng = np.random.default_rng(0)
    images = {"wide": soft_images(rng, 300, 64, 192), "tele": soft_images(rng, 300, 64, 128)}
    episode = make_episode(1, frames=300, cameras=(), beams=16, columns=128)
    episode.cameras = images
    written, read = [], []
    for attempt in range(3):
        started = time.process_time()
        part = write_part(tmp_path / str(attempt), episode)
        written.append(time.process_time() - started)
        started = time.process_time()
        read_part(part)
        read.append(time.process_time() - started)
    assert min(written) <= 0.6, written
    assert 600 / min(read) >= 2000, read
