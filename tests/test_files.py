"""Files appear whole or not at all, also when the writer is killed, and bad places give one line."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from drivebyword.data.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    read_json,
    remove_leftovers,
    sha256_file,
    write_atomic,
    write_folder_atomic,
    write_json,
)


def test_a_file_is_written_whole_with_its_folders(tmp_path):
    path = write_atomic(tmp_path / "a" / "b.txt", "gr\u00fcn")
    assert path.read_bytes() == "gr\u00fcn".encode()
    assert sorted(p.name for p in path.parent.iterdir()) == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = write_atomic(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")]
)
def test_a_full_or_read_only_disk_is_one_line(tmp_path, monkeypatch, code, words):
    def refuse(self, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ValueError, match=words) as raised:
        write_atomic(tmp_path / "a.txt", "x")
    assert "a.txt" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path):
    write_atomic(tmp_path / "a", "x")
    with pytest.raises(ValueError, match=r"cannot write .*there already|cannot write .*a file"):
        write_atomic(tmp_path / "a" / "b", "x")
    with (
        pytest.raises(ValueError, match=r"cannot write .*there already|cannot write .*a file"),
        write_folder_atomic(tmp_path / "a" / "b"),
    ):
        pass


def test_json_refuses_nan_and_names_a_damaged_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    path = write_json(tmp_path / "b.json", {"x": 1})
    assert read_json(path) == {"x": 1}
    path.write_bytes(path.read_bytes()[:4])
    with pytest.raises(ValueError, match=r"b\.json is not valid JSON.*damaged"):
        read_json(path)


def test_a_folder_appears_whole_and_is_not_overwritten_by_mistake(tmp_path):
    with write_folder_atomic(tmp_path / "set") as place:
        (place / "sub").mkdir()
        (place / "sub" / "x").write_text("1")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set" / "sub" / "x").read_text() == "1"
    with pytest.raises(ValueError, match="exists already"), write_folder_atomic(tmp_path / "set"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_replacing_a_folder_never_shows_a_gap_to_a_reader(tmp_path):
    target, missing, stop = tmp_path / "meta", [], threading.Event()

    def write(value):
        with write_folder_atomic(target, replace=True) as place:
            (place / "x").write_text(str(value))

    def watch():
        while not stop.is_set():
            if not target.exists():
                missing.append(time.monotonic())

    write(0)
    thread = threading.Thread(target=watch)
    thread.start()
    for value in range(1, 30):
        write(value)
    stop.set()
    thread.join()
    assert missing == []
    assert (target / "x").read_text() == "29"
    assert [p.name for p in tmp_path.iterdir()] == ["meta"]


def test_a_killed_writer_leaves_nothing_but_a_leftover_that_is_swept(tmp_path):
    code = (
        "import sys, time\nfrom drivebyword.data.files import write_folder_atomic\n"
        "with write_folder_atomic(sys.argv[1]) as place:\n"
        "    (place / 'x').write_text('1')\n    print('half', flush=True)\n    time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "set")], stdout=subprocess.PIPE)
    assert writer.stdout.readline().strip() == b"half"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(TEMPORARY_PREFIX)
    assert remove_leftovers(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_sha256_of_the_bytes(tmp_path):
    path = write_atomic(tmp_path / "a", b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
