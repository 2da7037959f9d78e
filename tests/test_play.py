"""A person drives with the keyboard in a page: the car obeys, the drive is kept, what must not be is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from drivebyword.cli import main
from drivebyword.data.dataset import Dataset
from drivebyword.world.families import HELD_OUT

ROOT = Path(__file__).parent.parent


def start(out: Path, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start `drivebyword world play` as a person does; return it and the page's address."""
    command = [sys.executable, "-c", "import sys; from drivebyword.cli import main; sys.exit(main())", "world", "play"]
    game = subprocess.Popen(
        [*command, "town", "--no-browser", "--out", str(out), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    line = game.stdout.readline()
    assert line.startswith("drive here: http://127.0.0.1:"), line + game.stderr.read()
    return game, line.split()[2]


def post(address: str, keys: list[str], seen: int = 0, host: str | None = None, **more) -> tuple[bytes, dict]:
    body = json.dumps({"keys": keys, "seen": seen, **more}).encode()
    request = urllib.request.Request(address, body, {"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), json.loads(answer.headers["X-State"])


def drive(address: str, keys: list[str], pictures: int) -> dict:
    """Hold keys for so many pictures; return what the last said."""
    state: dict = {}
    until = time.monotonic() + 120
    while pictures and time.monotonic() < until:
        picture, now = post(address, keys, state.get("number", 0))
        if now.get("number", 0) > state.get("number", 0):
            assert picture[:2] == b"\xff\xd8"  # a JPEG
            state, pictures = now, pictures - 1
    assert pictures == 0
    return state


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_keys_pressed_in_the_page_move_the_car_and_the_drive_is_a_demonstration(tmp_path):
    from playwright.sync_api import sync_playwright

    game, address = start(tmp_path / "out", "--seed", "5")
    complaints: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("pageerror", lambda e: complaints.append(str(e)))
        tab.goto(address)
        tab.wait_for_function("document.getElementById('time').textContent !== ''", timeout=60_000)
        tab.keyboard.down("ArrowUp")
        tab.wait_for_function("Number(document.getElementById('kph').textContent) > 12", timeout=60_000)
        tab.keyboard.down("ArrowLeft")
        tab.wait_for_function("document.getElementById('wheel').value < 0", timeout=30_000)
        tab.keyboard.up("ArrowLeft")
        tab.keyboard.up("ArrowUp")
        tab.keyboard.down("Space")
        tab.wait_for_function("document.getElementById('kph').textContent === '0'", timeout=60_000)
        tab.screenshot(path=tmp_path / "page.png")
        width = tab.evaluate("document.getElementById('view').naturalWidth")
        tab.keyboard.press("Escape")
        told, complained = game.communicate(timeout=120)
        browser.close()
    assert game.returncode == 0 and not complained, complained
    assert width == 640 and complaints == []
    assert f"recorded: {tmp_path / 'out'}" in told
    data = Dataset(tmp_path / "out")
    assert len(data.episodes) == 1
    episode = data.read_episode(0)
    assert (episode.driver, episode.seed, episode.scenario) == ("human", 5, "town")
    assert episode.actuation[:, 1].max() == pytest.approx(0.7) and episode.actuation[:, 2].max() == pytest.approx(1.0)
    assert episode.motion[:, 0].max() > 12 / 3.6 and episode.actuation[:, 0].max() > 0
    assert np.array_equal(episode.act[:-1, 1], episode.actuation[1:])  # a chunk is what was then done
    assert np.isfinite(episode.expert_act).all()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_drive_is_not_lost_on_an_interrupt(how, tmp_path):
    game, address = start(tmp_path / "out")
    drive(address, ["up"], 12)
    game.send_signal(how)
    told, complained = game.communicate(timeout=120)
    assert game.returncode == 0 and not complained, complained
    assert "you got out" in told and "recorded:" in told
    assert len(Dataset(tmp_path / "out").read_episode(0)) >= 10


def test_a_drive_nobody_took_is_not_recorded_and_strangers_are_refused(tmp_path):
    game, address = start(tmp_path / "out")
    for host, body in (("evil.example", None), (None, b"nonsense"), (None, b"[]")):
        with pytest.raises(urllib.error.HTTPError) as error:
            if body is None:
                post(address, [], host=host)
            else:
                urllib.request.urlopen(urllib.request.Request(address, body), timeout=30)
        assert error.value.code == (403 if host else 400)
    drive(address, [], 1)
    post(address, [], 0, leave=True)
    told, complained = game.communicate(timeout=120)
    assert game.returncode == 0 and "nothing recorded" in told and not complained


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["town", "--seed", "2000001"], "test seed"),
        (["town", "--seed", "1000001"], "validation seed"),
        ([HELD_OUT[0]], "held out"),
        ([f"{HELD_OUT[0]}/twin"], "held out"),
        (["twon"], "town"),
        (["town", "--port", "70000"], "--port"),
    ],
)
def test_what_must_not_be_recorded_is_refused_before_anything_starts(arguments, says, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["world", "play", *arguments, "--no-browser", "--out", str(out)]) == 2
    line = capsys.readouterr().err.strip()
    assert says in line and "\n" not in line
