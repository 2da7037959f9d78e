"""One typed sentence in, one drive out: replay.html, drive.mp4, the episode and summary.json in a folder.

The drive goes the only way there is, `run_episode` with a `Driver`; this file adds the live line, the
passenger's later sentences and the pictures. Without a terminal the live line becomes a line every few seconds.

    drivebyword drive "turn left at the next intersection" --then 12:"pull over"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drivebyword.core.records import Actuation, Decision, Episode, Lights, Observation, Verdict, VerdictKind
from drivebyword.core.rig import RigConfig, Weather
from drivebyword.data.episode import write_part
from drivebyword.data.files import write_atomic, write_json
from drivebyword.loop.driver import Driver, driver_in
from drivebyword.loop.film import Render, encode_webp, quality_for, shoot
from drivebyword.loop.narration import did, event_words, outcome, spoken
from drivebyword.loop.policies import load_policy
from drivebyword.loop.replay import ReplayConfig, Strip, write_replay
from drivebyword.loop.rollout import run_episode
from drivebyword.loop.video import DriveVideo
from drivebyword.tokens.grammar import parse_intent
from drivebyword.tokens.text import unreadable
from drivebyword.world import rigs
from drivebyword.world.view import WorldView

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv

VIEW_BUDGET = 6_500_000
"""Bytes of WebP the large view may take in a page: 9 MB once written as text, of 15 MB for a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveConfig:
    """What to type, where to drive and who drives."""

    sentence: str
    out: Path
    scenario: str = "town"
    seed: int = 2_000_017
    policy: str = "tiny"
    engine: str = "torch"
    """What computes the policy: torch, onnx, fused, fused-bf16 or fused-int8."""
    then: tuple[tuple[float, str], ...] = ()
    """Later sentences and the second each is typed at."""
    sensors: tuple[str, ...] | None = None
    """Sensors the driver is given; None means all."""
    weather: Weather | None = None
    """None lets the scene decide."""
    rig: str = "tiny"
    guard: bool = True
    seconds: float = 60.0
    """Longest drive."""
    pictures_per_decision: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """What a drive came to and where it lies."""

    folder: Path
    episode: Episode
    outcome: str
    good: bool
    seconds: dict[str, float]
    """Wall time of starting, driving and picturing."""
    credit: str = ""
    """Whom an outside map is from."""


def drive(config: DriveConfig, show: Callable[[str, bool], None] = lambda line, last: None) -> Drive:
    """Drive one scene and write its folder.

    Args:
        config: The drive.
        show: Called with the live line after each decision, and with True for lines that should stay.
    """
    _check(config)
    write_atomic(config.out / ".probe", b"").unlink()  # A folder that cannot be written is learnt before driving.
    started = time.monotonic()
    from drivebyword.world.env import DrivingEnv

    rig = rigs.rig(config.rig)
    env = DrivingEnv(rig=rig)
    try:
        driver = driver_in(env, load_policy(config.policy, env, threads=1, engine=config.engine), config.guard)
        ready = time.monotonic()
        episode = _run(config, env, driver, show)
        driven = time.monotonic()
        _write(config, env, episode, rig, show)
        pictured = time.monotonic()
    finally:
        env.close()
    ending, good = outcome(episode)
    times = {"start_s": ready - started, "drive_s": driven - ready, "pictures_s": pictured - driven}
    credit = env.scene.credit
    _summarize(config, episode, ending, good, times, credit)
    return Drive(folder=config.out, episode=episode, outcome=ending, good=good, seconds=times, credit=credit)


def _check(config: DriveConfig) -> None:
    """Refuse what cannot be meant, before anything slow starts."""
    names = rigs.rig(config.rig).sensor_names()
    for name in config.sensors or ():
        if name not in names:
            raise ValueError(f"no sensor {name!r} on this car; --sensors takes some of {', '.join(names)}")
    if not 2.0 <= config.seconds <= 600.0:
        raise ValueError(f"--seconds {config.seconds:g} is outside [2, 600]")
    for at, _ in config.then:
        if not 0.0 < at < config.seconds:
            raise ValueError(f"--then {at:g}:... would be typed outside the drive of {config.seconds:g} s")


def _run(config: DriveConfig, env: DrivingEnv, driver: Driver, show: Callable[[str, bool], None]) -> Episode:
    """Drive the scene, typing the later sentences when their time comes."""
    waiting = sorted(config.then)
    options: dict[str, Any] = {"instruction": (config.sentence, _intent(config.sentence))}
    if waiting:
        options["until_s"] = waiting[-1][0] + 1.0
    if config.weather is not None:
        options["weather"] = config.weather
    _warn(config.sentence, show)

    doubted: set[str] = set()

    def watch(env: DrivingEnv, decision: Decision, actuation: Actuation, verdict: Verdict) -> None:
        observation = env.observation()
        if not decision.understood and observation.instruction not in doubted:
            doubted.add(observation.instruction)
            show("the driver did not understand that: driving on safely without it", True)
        if waiting and observation.time_s >= waiting[0][0] - 1e-6:
            sentence = waiting.pop(0)[1]
            _warn(sentence, show)
            env.say(sentence, _intent(sentence))
        show(status_line(observation, decision, actuation, verdict), False)

    return run_episode(
        env,
        driver,
        seed=config.seed,
        scenario=config.scenario,
        name=Path(config.policy).name,
        options=options,
        label=False,
        keep_sensors=True,
        keep_snapshots=True,
        watch=watch,
        seconds=config.seconds,
        transform=_only(config.sensors) if config.sensors is not None else None,
    )


def _intent(sentence: str) -> str | None:
    """Return what the world judges a sentence by: nothing can be meant by what nobody can read."""
    return "null" if unreadable(sentence) else parse_intent(sentence)


def _warn(sentence: str, show: Callable[[str, bool], None]) -> None:
    """Say of a sentence, as it is typed, what nobody can do with it."""
    why = unreadable(sentence)
    if why:
        show(f"this cannot be read as a sentence ({why})", True)
    elif parse_intent(sentence) is None:
        show("no rule knows this sentence: the driver reads it, but nobody judges what comes of it", True)


def _only(names: tuple[str, ...]) -> Callable[[Observation], Observation]:
    """Return what takes every other sensor away from an observation."""

    def transform(observation: Observation) -> Observation:
        radar = "radar" in names
        return replace(
            observation,
            cameras={name: image for name, image in observation.cameras.items() if name in names},
            lidar=observation.lidar if "lidar" in names else None,
            radar=observation.radar if radar else None,
            radar_valid=observation.radar_valid if radar else None,
        )

    return transform


def status_line(observation: Observation, decision: Decision, actuation: Actuation, verdict: Verdict) -> str:
    """Return one line on one decision: time, speed, sentence, reason, act, verdict."""
    said = observation.instruction if len(observation.instruction) <= 34 else observation.instruction[:31] + "..."
    reason = str(decision.reason) if decision.reason is not None else "no reason"
    pedal = (
        f"throttle {actuation.throttle:.2f}"
        if actuation.throttle >= actuation.brake
        else f"brake {actuation.brake:.2f}"
    )
    checked = verdict.kind.name.lower() + (f": {verdict.why}" if verdict.kind != VerdictKind.ACCEPTED else "")
    return (
        f"{observation.time_s:5.1f} s  {float(observation.ego[0]) * 3.6:3.0f} km/h  \u201c{said}\u201d  "
        f"{reason}  steer {actuation.steering:+.2f} {pedal}  {checked}"
    )


def _write(
    config: DriveConfig, env: DrivingEnv, episode: Episode, rig: RigConfig, show: Callable[[str, bool], None]
) -> None:
    """Write the episode, then render every picture once for both the film and the page."""
    write_part(config.out / "episode", episode, replace=True)
    per_step, weather = config.pictures_per_decision, episode.weather
    count, frames, quality = len(episode) * per_step, [], 0

    plan, bird = env.world_view(), None

    def make_render() -> Render:
        view = WorldView(env.road_map, plan.ground, plan.scenery)  # One for each thread.
        return lambda snapshot: view.chase(snapshot, weather, lights=_lamps(episode, snapshot.time_s))

    with DriveVideo(config.out / "drive.mp4", episode, per_step) as video:
        for number, picture in enumerate(shoot(episode.snapshots, make_render, per_step)):
            if number == 0:
                quality = quality_for(picture, count, VIEW_BUDGET)
            if number % per_step == 0:
                bird = plan.bird_eye(episode.snapshots[number // per_step])
            frames.append(encode_webp(picture, quality))
            video.add(picture, bird)
            show(f"drawing the replay: {len(frames)} of {count} pictures", False)
    height, width = picture.shape[:2]
    strip = Strip(width=width, height=height, per_step=per_step, frames=frames)
    page = ReplayConfig(guarded=config.guard, seen=config.sensors, credit=env.scene.credit)
    write_replay(config.out / "replay.html", episode, env.road_map, rig, strip, page, plan.scenery)


def _lamps(episode: Episode, time_s: float) -> int:
    """Return the ego's own lamps: its brake lights, as the pedal is pressed."""
    step = min(int(time_s / episode.dt + 1e-6), len(episode) - 1)
    return int(Lights.BRAKE) if episode.actuation[step, 2] > 0.03 else 0


def _summarize(
    config: DriveConfig, episode: Episode, ending: str, good: bool, times: dict[str, float], credit: str
) -> None:
    """Write summary.json."""
    moved = float(np.hypot(*np.diff(episode.pose[:, :2], axis=0).T).sum())
    summary = {
        "command": "drive",
        "scenario": config.scenario,
        "map": credit or None,
        "seed": config.seed,
        "policy": config.policy,
        "engine": config.engine,
        "rig": config.rig,
        "guarded": config.guard,
        "sensors": list(config.sensors) if config.sensors is not None else None,
        "outcome": ending,
        "good": good,
        "ended": episode.ended,
        "driven_s": len(episode) * episode.dt,
        "driven_m": round(moved, 1),
        "events": event_words(int(np.bitwise_or.reduce(episode.events))),
        "instructions": [
            {
                "typed_s": round(record.step * episode.dt, 1),
                "sentence": record.sentence,
                "intent": record.intent,
                "outcome": record.outcome,
                "branch_taken": record.branch_taken,
                "came_of_it": did(record, episode),
            }
            for record in spoken(episode)
        ],
        "guard": {kind.name.lower(): int((episode.verdict == kind).sum()) for kind in VerdictKind},
        "wall": {name: round(seconds, 1) for name, seconds in times.items()},
        "files": ["replay.html", "drive.mp4", "episode", "summary.json"],
    }
    write_json(config.out / "summary.json", summary)
