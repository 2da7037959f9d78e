"""The command line: answers at once, forgives nothing silently, and drives."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from drivebyword import cli
from drivebyword.cli import main
from drivebyword.cli.driving import Drive

HEAVY = ("torch", "numba", "libsumo", "transformers", "pyarrow", "av", "gymnasium", "numpy", "PIL")

COMMANDS = ("drive", "collect", "train", "evaluate", "compare", "audit", "iterate", "bench", "doctor")


def test_help_answers_within_a_second_and_imports_nothing_heavy():
    script = (
        "import sys\nfrom drivebyword.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time, not the clock: other processes may be using the machine.
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert "heavy: []" in told
    for command in COMMANDS:
        assert command in told
    assert spent < 1.0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "usage: drivebyword" in told


def refused(arguments: list[str], capsys) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("drivebyword: "), captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["drive", "turn left", "--scenario", "twon", "--policy", "constant"], "town"),
        (["drive", "turn left", "--policy", "expret"], "expert"),
        (["drive", "turn left", "--weather", "fogg", "--policy", "constant"], "fog"),
        (["drive", "turn left", "--sensors", "wide,lydar", "--policy", "constant"], "lidar"),
        (["train", "tniy"], "tiny"),
        (["evaluate", "--suite", "twon", "--policy", "constant"], "town"),
        (["evaluate", "--rows", "expret", "--policy", "constant"], "expert"),
        (["compare", "constant", "expret"], "expert"),
        (["collect", "--scenario", "twon-mixed", "--seeds", "0:1"], "town-mixed"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(arguments, nearest, capsys, tmp_path):
    assert nearest in refused([*arguments, "--out", str(tmp_path / "out")], capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["drive", "turn left", "--then", "pull over"], "names no second"),
        (["drive", "turn left", "--then", "90:pull over"], "outside the drive"),
        (["drive", "turn left", "--seconds", "0"], "outside [2, 600]"),
        (["collect", "--seeds", "5"], "is no range"),
        (["collect", "--seeds", "2000000:2000010"], "test seed"),
        (["evaluate", "--seeds", "9:3", "--policy", "constant"], "name no scene"),
        (["compare", "expert", "expert"], "two different ones"),
        (["audit", "nowhere"], "holds no checkpoint"),
        (["iterate", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_use_is_one_line_that_says_what_would_be_right(arguments, says, capsys, tmp_path):
    assert says in refused([*arguments, "--out", str(tmp_path / "out")], capsys)


def test_a_folder_that_cannot_be_written_is_known_before_driving(capsys, tmp_path):
    (tmp_path / "taken").write_text("a file")
    begun = time.monotonic()
    line = refused(["drive", "turn left", "--policy", "constant", "--out", str(tmp_path / "taken")], capsys)
    assert "cannot write" in line and time.monotonic() - begun < 10


def test_an_interrupt_ends_with_130_and_one_line(monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Drive, "run", interrupted)
    assert cli.main(["drive", "turn left"]) == 130
    assert capsys.readouterr().err == "drivebyword: interrupted\n"


def test_doctor_finds_what_a_drive_needs(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    for name in ("python", "torch", "libsumo", "weights", "disk"):
        assert f"ok      {name}" in told


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """A real drive of the expert through the command line, in a process of its own as people run it."""
    out = tmp_path_factory.mktemp("drive") / "out"
    command = [str(Path(sys.executable).parent / "drivebyword"), "drive", "turn left at the next intersection"]
    options = ["--policy", "expert", "--seconds", "9", "--then", "6:slow down please", "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_drive_leaves_a_page_a_film_the_episode_and_a_summary(driven):
    out, told = driven
    assert told.strip().splitlines()[-1] == f"watch it: {out / 'replay.html'}"
    assert sorted(path.name for path in out.iterdir()) == ["drive.mp4", "episode", "replay.html", "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["policy"] == "expert" and summary["guarded"] and summary["driven_s"] <= 9.01
    with av.open(str(out / "drive.mp4")) as film:
        assert float(film.duration / av.time_base) == pytest.approx(summary["driven_s"], abs=0.25)


def test_drive_shows_speed_sentence_reason_act_and_verdict_as_it_goes(driven):
    _, told = driven
    live = [line for line in told.splitlines() if "km/h" in line]
    assert live and all("turn left" in line or "slow down" in line for line in live)
    assert all(" | " in line and "steer" in line and ("throttle" in line or "brake" in line) for line in live)


def test_a_later_sentence_is_typed_while_it_drives(driven):
    out, _ = driven
    said = json.loads((out / "summary.json").read_text())["instructions"]
    assert [(entry["typed_s"], entry["intent"]) for entry in said] == [(0.0, "left"), (6.0, "slower")]


def test_the_episode_of_a_drive_can_be_read_back(driven):
    from drivebyword.data.episode import read_part

    episode = read_part(driven[0] / "episode")
    assert len(episode) == round(json.loads((driven[0] / "summary.json").read_text())["driven_s"] / 0.2)
    assert set(episode.cameras) == {"wide", "tele"} and episode.lidar is not None


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_page_of_a_real_drive_opens_without_complaint(driven):
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: complaints.append(str(e)))
        tab.goto((driven[0] / "replay.html").as_uri())
        tab.click("#start")
        tab.wait_for_timeout(600)
        assert tab.text_content("#sentence") == "turn left at the next intersection"
        assert float(tab.input_value("#scrub")) > 0
        browser.close()
    assert complaints == []
    assert (driven[0] / "replay.html").stat().st_size < 15e6
