"""A person at the wheel: a scenario in, a page to drive in with the keyboard, a recorded demonstration out.

The page is served on this machine only, by the standard library. It posts which keys are down and gets the next
picture back; the world waits while no page is looking. The drive goes the way of every other: a policy (whose
decisions are a person's) behind `Driver`, `run_episode`, `DatasetWriter`, with the expert's label at every state.
Ctrl-C ends the drive and keeps it.

    drivebyword world play town-mixed
"""

from __future__ import annotations

import io
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import numpy as np
from PIL import Image

from drivebyword.core.records import Act, Decision, Episode, Observation
from drivebyword.core.rig import RigConfig
from drivebyword.core.seeds import TRAIN_SEEDS, require_training_seed
from drivebyword.data.dataset import DatasetWriter
from drivebyword.loop.driver import Driver
from drivebyword.loop.narration import outcome
from drivebyword.loop.rollout import run_episode
from drivebyword.world.env import DrivingEnv
from drivebyword.world.expert import FUTURE
from drivebyword.world.families import HELD_OUT
from drivebyword.world.scenario import find_scenario

PAGE = Path(__file__).parent / "play_page.html"
KEYS = frozenset(("left", "right", "up", "down", "stop"))
THROTTLE, BRAKE, FULL_BRAKE = 0.7, 0.5, 1.0
TURN_RATE, LATERAL = 0.4, 3.5
"""Of the wheel: how far a decision may move it, and the m/s2 sideways a held key asks for at most."""
ABSENT_S, LONGEST_POST = 1.5, 4096
SHORTEST = 5
"""Decisions a drive must have to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayConfig:
    """What to drive and where to keep it."""

    out: Path
    scenario: str = "town"
    seed: int | None = None
    """Training seed of the scene; None takes the first that is not recorded yet."""
    record: bool = True
    """Without, any seed and any family may be driven, and nothing is kept."""
    port: int = 0
    """Of the page; 0 takes a free one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a person's drive came to."""

    episode: Episode
    outcome: str
    kept: bool


class Wheel:
    """What the page and the world share: which keys are down, and what is to be seen."""

    def __init__(self) -> None:
        self.keys: frozenset[str] = frozenset()
        self.leaving = False
        self._changed = Condition()
        self._heard_s = -math.inf
        self._picture, self._state, self._number = b"", dict[str, Any](), 0

    def show(self, picture: bytes, **state: Any) -> None:
        """Put up the next picture and what is said under it."""
        with self._changed:
            self._number += 1
            self._picture, self._state = picture, {**state, "number": self._number}
            self._changed.notify_all()

    def hear(self, keys: frozenset[str], leave: bool) -> None:
        """Take in which keys are down."""
        with self._changed:
            self.keys, self._heard_s = keys, time.monotonic()
            self.leaving |= leave
            self._changed.notify_all()

    def look(self, seen: int, longest_s: float = 1.0) -> tuple[bytes, dict[str, Any]]:
        """Return the first picture after number `seen`, or the same again when none comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > seen, longest_s)
            return self._picture, self._state

    def wait(self, until_s: float) -> None:
        """Wait till a time of the monotonic clock, and on while nobody looks; not at all once somebody leaves."""
        with self._changed:
            while not self.leaving:
                now = time.monotonic()
                if now >= until_s and now - self._heard_s < ABSENT_S:
                    return
                # Not for ever: a signal's handler runs between waits.
                self._changed.wait(min(0.25, max(until_s - now, 0.02)))


class HumanPolicy:
    """A person behind the policy protocol: shows what there is to see, holds what the keys say for one decision."""

    def __init__(self, env: DrivingEnv, wheel: Wheel) -> None:
        self.env, self.wheel = env, wheel
        self.reset()

    def reset(self) -> None:
        """Let go of the wheel."""
        self._steering, self._due_s = 0.0, 0.0

    def decide(self, observation: Observation) -> Decision:
        """Show the world as it is now, wait for its time, and do what the keys say."""
        speed = float(self.env.motion()[0])
        self.wheel.show(
            jpeg(self.env.view()), kph=round(3.6 * speed), sentence=observation.instruction,
            time_s=round(observation.time_s, 1), steering=round(self._steering, 2), over=None,
        )  # fmt: skip
        self._due_s = max(self._due_s + self.env.dt, time.monotonic() + 0.02)
        self.wheel.wait(self._due_s)
        steps = np.tile(self._actuation(self.wheel.keys, speed), (FUTURE, 1))
        return Decision(act=Act(steps), reason=None)

    def _actuation(self, keys: frozenset[str], speed: float) -> np.ndarray:
        car = self.env.car
        most = min(1.0, math.atan(car.wheelbase * LATERAL / max(speed, 1.0) ** 2) / car.steer_max)
        wanted = most * (("left" in keys) - ("right" in keys))
        self._steering += min(max(wanted - self._steering, -TURN_RATE), TURN_RATE)
        brake = FULL_BRAKE if "stop" in keys else BRAKE if "down" in keys else 0.0
        return np.array([self._steering, THROTTLE if "up" in keys and not brake else 0.0, brake])


def jpeg(picture: np.ndarray) -> bytes:
    """Return a picture as JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=80)
    return file.getvalue()


def play(config: PlayConfig, rig: RigConfig, ready: Callable[[str], None]) -> Played:
    """Let a person drive one scene. Raises ValueError where it must not be recorded, before anything starts.

    Args:
        ready: Called with the page's address when it can be opened.
    """
    find_scenario(config.scenario)
    writer, seed = _writer(config, rig)
    env, wheel = DrivingEnv(rig=rig), Wheel()
    policy = HumanPolicy(env, wheel)
    with _serve(wheel, config.port) as address, _no_interrupt(wheel):
        ready(address)
        episode = run_episode(
            env, Driver(policy, None), seed=seed, scenario=config.scenario, name="human", keep_sensors=True,
            stop=lambda: wheel.leaving,
        )  # fmt: skip
        # What a chunk says a person meant is what the person then did.
        ahead = np.minimum(np.arange(len(episode))[:, None] + np.arange(FUTURE), len(episode) - 1)
        episode.act = episode.actuation[ahead]
        kept = writer is not None and len(episode) >= SHORTEST and writer.add(episode)
        told = "you got out" if episode.ended == "aborted" else outcome(episode)[0]
        wheel.show(jpeg(env.view()), kph=0, sentence="", time_s=len(episode) * env.dt, steering=0.0, over=told)
        if writer is not None and kept:
            writer.finalize()
        time.sleep(0.5)  # lets the page fetch the last picture
    env.close()
    return Played(episode=episode, outcome=told, kept=kept)


def _writer(config: PlayConfig, rig: RigConfig) -> tuple[DatasetWriter | None, int]:
    """Return what records the drive, and the scene's seed."""
    if not config.record:
        return None, config.seed if config.seed is not None else TRAIN_SEEDS.start
    require_training_seed(config.seed or TRAIN_SEEDS.start, config.scenario, HELD_OUT)
    writer = DatasetWriter(config.out, rig=rig, held_out=HELD_OUT)
    if config.seed is None:
        seed = next(s for s in TRAIN_SEEDS if not writer.has(config.scenario, s, "human"))
        return writer, seed
    if writer.has(config.scenario, config.seed, "human"):
        raise ValueError(f"seed {config.seed} of {config.scenario} is recorded already in {config.out}: choose another")
    return writer, config.seed


@contextmanager
def _no_interrupt(wheel: Wheel) -> Iterator[None]:
    """Let Ctrl-C and a polite kill end the drive, not the recording of it."""

    def leave(number: int, frame: object) -> None:
        wheel.leaving = True  # no lock here: the waiting thread may hold it

    kept = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


# --------------------------------------------------------------------------- page


@contextmanager
def _serve(wheel: Wheel, port: int) -> Iterator[str]:
    """Serve the page on this machine; yield its address."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _Page)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot serve on port {port} ({error}): choose another --port, or 0 for a free one") from None
    server.daemon_threads = True
    server.wheel = wheel  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _Page(BaseHTTPRequestHandler):
    """Answers the page: itself, and pictures for keys."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._from_here():
            return
        if self.path != "/":
            self._answer(404, "text/plain", b"there is one page here: /")
            return
        self._answer(200, "text/html; charset=utf-8", PAGE.read_bytes())

    def do_POST(self) -> None:
        if not self._from_here():
            return
        try:
            length = int(self.headers.get("Content-Length", 0))
            said = json.loads(self.rfile.read(length)) if 0 < length <= LONGEST_POST else {}
            keys, seen, leave = frozenset(said["keys"]) & KEYS, int(said["seen"]), bool(said.get("leave"))
        except (ValueError, KeyError, TypeError):
            self.close_connection = True
            self._answer(400, "text/plain", b"post {keys: [...], seen: number}")
            return
        wheel: Wheel = self.server.wheel  # type: ignore[attr-defined]
        wheel.hear(keys, leave)
        picture, state = wheel.look(seen)
        self._answer(200, "image/jpeg", picture, json.dumps(state))

    def _from_here(self) -> bool:
        """Refuse requests another site's page makes in this browser: they name another host."""
        host = (self.headers.get("Host") or "").partition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            self.close_connection = True
            self._answer(403, "text/plain", b"only from this machine")
        return host in ("127.0.0.1", "localhost")

    def _answer(self, code: int, kind: str, body: bytes, state: str = "{}") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-State", state)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a request every fifth of a second is no news."""
