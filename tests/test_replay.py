"""The page of a drive: self-contained, true to the episode, usable by hand, eye and keyboard."""

from __future__ import annotations

import json
import re
import shutil

import av
import numpy as np
import pytest

from drivebyword.core.records import DECISIONS, Reason, VerdictKind
from drivebyword.loop.film import between, encode_webp, quality_for, shoot
from drivebyword.loop.narration import did, moments, outcome, reason_tokens
from drivebyword.loop.replay import ReplayConfig, Strip, replay_data, write_replay
from drivebyword.loop.video import DriveVideo

CHROMIUM = shutil.which("chromium")


def picture(snapshot) -> np.ndarray:
    image = np.full((360, 640, 3), 90, np.uint8)
    x = int(snapshot.time_s * 45) % 580
    image[150:250, x : x + 60] = (255, 190, 40)
    return image


@pytest.fixture(scope="module")
def page(hand_drive, tmp_path_factory):
    frames = [encode_webp(image, 60) for image in shoot(hand_drive.episode.snapshots, lambda: picture, 2)]
    view = Strip(width=640, height=360, per_step=2, frames=frames)
    path = tmp_path_factory.mktemp("page") / "replay.html"
    return write_replay(path, hand_drive.episode, hand_drive.road_map, hand_drive.rig, view, ReplayConfig())


def test_page_asks_the_network_for_nothing(page):
    text = page.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert "http://" not in text and "https://" not in text and "url(" not in text


def test_a_sentence_cannot_break_out_of_the_page(page):
    record = re.search(r'<script type="application/json" id="drive">(.*?)</script>', page.read_text(), re.DOTALL)
    assert json.loads(record.group(1))["instructions"][1]["sentence"] == "pull over </script> when you can"


def test_page_holds_every_decision_and_sensor(hand_drive):
    episode = hand_drive.episode
    view = Strip(width=640, height=360, per_step=1, frames=[b""] * len(episode))
    data = replay_data(episode, hand_drive.road_map, hand_drive.rig, view, ReplayConfig())
    json.dumps(data, allow_nan=False)
    for name in ("time", "pose", "speed", "act", "actuation", "reason", "verdict", "agents", "signals"):
        assert len(data[name]) == len(episode), name
    assert [camera["name"] for camera in data["cameras"]] == ["wide", "tele"]
    assert len(data["lidar"]["frames"]) == len(data["radar"]["frames"]) == len(episode)
    assert len(data["map"]["signals"]) == 4 and len(data["signals"][0]) == 4


def test_a_drive_without_snapshots_is_refused_in_one_line(hand_drive, tmp_path):
    import dataclasses

    bare = dataclasses.replace(hand_drive.episode, snapshots=[])
    with pytest.raises(ValueError, match="kept no snapshots"):
        view = Strip(width=1, height=1, per_step=1, frames=[])
        write_replay(tmp_path / "x.html", bare, hand_drive.road_map, hand_drive.rig, view, ReplayConfig())


def test_pictures_between_decisions_follow_the_car(hand_drive):
    first, second = hand_drive.episode.snapshots[36:38]
    half = between(first, second, 0.5)
    gap = np.hypot(*(second.ego[:2] - first.ego[:2]))
    assert np.hypot(*(half.ego[:2] - first.ego[:2])) == pytest.approx(gap / 2, rel=0.15)
    assert first.ego[2] <= half.ego[2] <= second.ego[2]
    assert half.agents[0, 1] == pytest.approx((first.agents[0, 1] + second.agents[0, 1]) / 2, abs=1e-4)
    np.testing.assert_array_equal(between(first, second, 0.0).ego, first.ego)


def test_an_agent_that_vanishes_stays_where_it_was(hand_drive):
    import dataclasses

    first, second = hand_drive.episode.snapshots[:2]
    gone = dataclasses.replace(
        second,
        agents=second.agents[:1],
        agent_key=second.agent_key[:1],
        agent_kind=second.agent_kind[:1],
        agent_lights=second.agent_lights[:1],
    )
    np.testing.assert_array_equal(between(first, gone, 0.5).agents[1], first.agents[1])


def test_quality_falls_until_pictures_fit_the_budget(hand_drive):
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    size = len(encode_webp(noise, 60))
    assert quality_for(noise, 10, 10**9) == 80
    assert quality_for(noise, 10, size * 10) in (50, 60)
    assert quality_for(noise, 10, 1) == 30


def test_moments_tell_the_drive_in_order(hand_drive):
    told = moments(hand_drive.episode)
    assert [m.step for m in told] == sorted(m.step for m in told)
    kinds = [m.kind for m in told]
    assert kinds.count("said") == 2 and "guard" in kinds and "good" in kinds
    assert any("Turned left" in m.text for m in told)


def test_outcome_names_harm_before_success(hand_drive):
    import dataclasses

    episode = hand_drive.episode
    assert outcome(episode) == ("turned left", True)
    harmed = episode.events.copy()
    harmed[30] = 32
    assert outcome(dataclasses.replace(episode, events=harmed)) == ("ran a red light", False)


def test_a_missed_turn_says_what_was_driven_instead(hand_drive):
    import dataclasses

    record = dataclasses.replace(hand_drive.episode.instructions[0], outcome="missed", branch_taken="straight")
    assert did(record, hand_drive.episode) == "went straight instead"


def test_reason_tokens_are_the_decision_cause_and_relation():
    assert reason_tokens(Reason(2, 4, 4)) == ("stop", "red_light", "junction_ahead")
    assert len(DECISIONS) == 8


def test_film_has_every_picture_and_appears_only_when_whole(hand_drive, tmp_path):
    episode = hand_drive.episode
    with DriveVideo(tmp_path / "drive.mp4", episode, 1) as video:
        for image in shoot(episode.snapshots[:8], lambda: picture, 1):
            video.add(image, np.full((64, 64, 3), 40, np.uint8))
        assert not (tmp_path / "drive.mp4").exists()
    with av.open(str(tmp_path / "drive.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
        assert float(container.streams.video[0].average_rate) == 5.0
    with pytest.raises(RuntimeError), DriveVideo(tmp_path / "torn.mp4", episode, 1) as video:
        raise RuntimeError("killed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive.mp4"]


def test_film_into_a_file_for_a_folder_is_one_line(hand_drive, tmp_path):
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(ValueError, match="cannot write"),
        DriveVideo(tmp_path / "taken" / "a.mp4", hand_drive.episode, 1),
    ):
        pass


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: the page's own behaviour is not looked at here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser, page):
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.complaints = []
    tab.on("console", lambda m: tab.complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: tab.complaints.append(str(e)))
    tab.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else tab.complaints.append(r.url))
    tab.goto(page.as_uri())
    tab.wait_for_function("document.getElementById('clock').textContent.startsWith('0:00.0')")
    yield tab
    assert tab.complaints == []
    tab.close()


def pixels(tab, name: str) -> str:
    tab.wait_for_timeout(150)
    return tab.evaluate(f"document.getElementById('{name}').toDataURL()")


def scrub(tab, step: int) -> None:
    move = "(s) => { const r = document.getElementById('scrub'); r.value = s; r.dispatchEvent(new Event('input')); }"
    tab.evaluate(move, step)


def test_page_shows_the_sentence_and_scrubbing_changes_every_picture(tab):
    assert tab.text_content("#sentence") == "turn left at the next intersection"
    before = {name: pixels(tab, name) for name in ("view", "bird", "graph")}
    scrub(tab, 32)
    for name, old in before.items():
        assert pixels(tab, name) != old, name
    assert "turn-left" in tab.text_content("#tokens")
    assert "left" in tab.text_content("#steer-value")
    scrub(tab, 55)
    assert tab.text_content("#sentence") == "pull over </script> when you can"


def test_page_shows_what_the_guard_did(tab, hand_drive):
    step = int(np.flatnonzero(hand_drive.episode.verdict == VerdictKind.REPLACED)[0])
    scrub(tab, step)
    assert tab.text_content("#verdict") == "replaced"
    assert "1.1 s to impact" in tab.text_content("#verdict-why")
    assert tab.is_visible("#flag")


def test_page_plays_pauses_and_obeys_the_keyboard(tab):
    tab.click("#start")
    tab.wait_for_timeout(700)
    tab.keyboard.press("k")
    reached = int(tab.input_value("#scrub"))
    assert reached >= 2 and tab.get_attribute("#play", "aria-label") == "Play"
    tab.keyboard.press("ArrowRight")
    assert int(tab.input_value("#scrub")) == reached + 1
    tab.keyboard.press("Home")
    assert int(tab.input_value("#scrub")) == 0
    tab.keyboard.press("End")
    assert int(tab.input_value("#scrub")) == 59


def test_page_jumps_to_a_moment_and_changes_its_light(tab):
    tab.click("#log button:has-text('Turned left')")
    assert int(tab.input_value("#scrub")) == 49
    before = tab.evaluate("document.documentElement.dataset.theme")
    tab.click("#theme")
    assert tab.evaluate("document.documentElement.dataset.theme") != before


def test_page_does_not_pretend_that_a_withheld_sensor_was_seen(browser, hand_drive, tmp_path):
    view = Strip(width=64, height=36, per_step=1, frames=[encode_webp(np.zeros((36, 64, 3), np.uint8), 50)] * 60)
    blind = ReplayConfig(seen=("wide", "radar"))
    path = write_replay(tmp_path / "r.html", hand_drive.episode, hand_drive.road_map, hand_drive.rig, view, blind)
    tab = browser.new_page()
    tab.goto(path.as_uri())
    captions = tab.locator("#sensors figcaption").all_text_contents()
    assert "not given" in captions[1] and "not given" not in captions[0] and "LiDAR" not in captions[2]
    tab.close()


def test_page_names_every_control_and_fits_a_phone(tab):
    nameless = """[...document.querySelectorAll('button,input,select,canvas')]
        .filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim()))
        .map(e => e.outerHTML)"""
    assert tab.evaluate(nameless) == []
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
