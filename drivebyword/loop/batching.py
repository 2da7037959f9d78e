"""Many worlds, one network: drivers in several processes ask, one process decides for all who wait, in one batch.

In: observations, over a local socket. Out: decisions. A pass over eight frames costs about a third of eight passes
over one, and a world takes less time than its driver's thoughts: so each network has several worlds around it.
Each driver's memory lives with the network; a driver that hangs up is forgotten.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Client, Connection, Listener, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from drivebyword.core.exploration import Lots
from drivebyword.core.records import Decision, Observation
from drivebyword.loop.fleet import START_S, Lookout, Pulse, end_with_parent

if TYPE_CHECKING:
    from drivebyword.model.streaming import Draw, Memory, StreamingPolicy

WORLDS = 12
"""Worlds around one network."""
PATIENCE_S = 0.02
"""How long who asked first waits for company."""
RECENT_S = 0.5
"""Who has asked within this time is expected to ask again."""
ANSWER_S = 900.0
"""Who has waited so long for an answer gives up; the first takes longest, the network reads its weights for it."""


def engine_here() -> str:
    """Return which of `engines.ENGINES` holds networks: kernels of our own where the processor has what they need.

    With them a decision hangs on nothing but its own driver: the same in whatever batch.
    """
    from drivebyword.model.kernels import compiled

    return "fused-bf16" if compiled() else "torch"


def numerics() -> str:
    """Say how networks compute here."""
    return f"bfloat16 ({engine_here()}), in batches, drafts checked up to the act that is driven"


class Question(NamedTuple):
    """One observation of one driver."""

    folder: Path
    """The checkpoint that is asked."""
    begins: bool
    """An episode begins: forget the past."""
    observation: Observation
    draw: Draw | None = None
    """The lots of a driver that explores."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The policy of a checkpoint folder, decided by whichever of `Networks` serves it. Picklable: makes policies."""

    folder: Path
    sockets: tuple[str, ...] = ()
    """Where it is served; empty until `Networks.serve`."""

    def __call__(self, env: object = None) -> AskingPolicy:
        """Return the policy of one driver of this process."""
        return AskingPolicy(self)


class AskingPolicy:
    """Behind the policy protocol, a question to the network's process."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not checkpoint.sockets:
            raise ValueError(f"nobody serves {checkpoint.folder}: ask within `with Networks(...)`")
        self.checkpoint = checkpoint
        self._line: Connection | None = None
        self.lots: Lots | None = None
        """Draws the decisions of the coming episode; None: what is best is done."""
        self.reset()

    def reset(self) -> None:
        """Forget the past: a new episode begins."""
        self._begins = True

    def decide(self, observation: Observation) -> Decision:
        """Ask and wait for the answer; raises what the network's process raised, ConnectionError if it is gone."""
        if self._line is None:
            self._line = _call(self.checkpoint.sockets[os.getpid() % len(self.checkpoint.sockets)])
        try:
            self._line.send(Question(self.checkpoint.folder, self._begins, observation, self._draw()))
            if not self._line.poll(ANSWER_S):
                raise TimeoutError
            answer = self._line.recv()
        except (EOFError, OSError) as error:
            self._line = None  # by the next episode another process may hold the network
            raise ConnectionError("the process that holds the network is gone") from error
        self._begins = False
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Decision)
        return answer

    def _draw(self) -> Draw | None:
        if self.lots is None:
            return None
        from drivebyword.model.streaming import Draw

        return Draw(temperature=self.lots.config.temperature, lots=self.lots.next())


def _call(socket: str) -> Connection:
    """Return a line to a network; it may be about to be replaced."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            return Client(socket)
        except (FileNotFoundError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise ConnectionError("the process that holds the network is gone") from error
            time.sleep(0.2)


class Networks:
    """Processes that hold networks, from the first `serve` as long as the `with` lasts.

    Args:
        processes: Cores to use for networks and worlds together.
        nice: How much the rest of the machine goes first.
        hang_s: A network's process that has shown no sign of life for so long is stopped or stuck.
    """

    def __init__(self, processes: int, nice: int = 0, hang_s: float = 120.0) -> None:
        self.processes, self.nice, self.hang_s = processes, nice, hang_s
        self._held: list[SpawnProcess] = []
        self._pulses: list[Pulse] = []
        self._lookout = Lookout()
        self.replaced = 0
        """Processes that died or stood still, and were replaced."""

    def __enter__(self) -> Networks:
        self._folder = tempfile.TemporaryDirectory(prefix="drivebyword-")
        self._sockets = tuple(str(Path(self._folder.name) / str(k)) for k in range(max(1, self.processes // 2)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in self._held:
            held.kill()  # who is stopped does not hear a politer signal
            held.join()
        self._folder.cleanup()

    @property
    def worlds(self) -> int:
        """Worlds to drive at once: several around each network, or one a core where none is served."""
        return WORLDS * len(self._held) or self.processes

    def serve(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return the checkpoint with where to ask for it."""
        if not self._held:
            engine_here()  # what must be compiled is compiled once, before anybody waits for it
            self._start()
        return replace(checkpoint, sockets=self._sockets)

    def _start(self) -> None:
        for socket in self._sockets:
            held, pulse = self._begin(socket)
            self._held.append(held)
            self._pulses.append(pulse)
        while not all(pulse.began for pulse in self._pulses):
            self.check()
            time.sleep(0.1)

    def _begin(self, socket: str) -> tuple[SpawnProcess, Pulse]:
        context = mp.get_context("spawn")
        pulse = Pulse(context)
        held = context.Process(
            target=_answer_calls, args=(socket, pulse, self.nice), daemon=True, name="drivebyword network"
        )
        held.start()
        return held, pulse

    def _fates(self) -> list[str | None]:
        """Say of every process why it no longer answers; None where it does."""
        self._lookout.look()
        return [
            f"died with exit code {held.exitcode}"
            if not held.is_alive()
            else f"stood still for {self.hang_s:.0f} s"
            if pulse.silent_s(self._lookout.resumed) > (self.hang_s if pulse.began else START_S)
            else None
            for held, pulse in zip(self._held, self._pulses, strict=True)
        ]

    def check(self) -> None:
        """Raise RuntimeError if a network's process has died or hangs: nobody it served can be judged."""
        for fate in self._fates():
            if fate is not None:
                raise RuntimeError(f"the process that holds the network {fate}")

    def tend(self) -> None:
        """Replace processes that have died or hang: what asked them fails, what comes next is answered."""
        for k, fate in enumerate(self._fates()):
            if fate is not None:
                self._held[k].kill()
                self._held[k].join()
                Path(self._sockets[k]).unlink(missing_ok=True)
                self._held[k], self._pulses[k] = self._begin(self._sockets[k])
                self.replaced += 1


@dataclass(slots=True)
class _Driver:
    """One line to a driver."""

    line: Connection
    memory: Memory | None = None
    question: Question | None = None
    asked: float = 0.0


@dataclass(slots=True)
class _Switchboard:
    """Everyone who has called."""

    drivers: dict[Connection, _Driver] = field(default_factory=dict)
    policies: dict[Path, StreamingPolicy] = field(default_factory=dict)

    def hear(self, line: Connection) -> None:
        """Take what came over a line: questions, at last its end."""
        driver = self.drivers[line]
        try:
            driver.question, driver.asked = line.recv(), time.monotonic()
        except (EOFError, OSError):
            del self.drivers[line]

    def _policy(self, folder: Path) -> StreamingPolicy:
        from drivebyword.model.streaming import StreamingPolicy

        if folder not in self.policies:
            engine = engine_here()
            self.policies[folder] = StreamingPolicy.from_pretrained(
                folder, threads=1, first_step_only=True, half=engine == "torch", engine=engine
            )
        return self.policies[folder]

    def waiting(self) -> list[_Driver]:
        """Return who waits for an answer, if it is time to answer: half of the busy are there, or one is impatient."""
        asking = [driver for driver in self.drivers.values() if driver.question is not None]
        if not asking:
            return []
        now = time.monotonic()
        busy = sum(now - driver.asked < RECENT_S for driver in self.drivers.values())
        impatient = now - min(driver.asked for driver in asking) > PATIENCE_S
        return asking if 2 * len(asking) >= busy or impatient else []

    def answer(self, drivers: list[_Driver]) -> None:
        """Decide for all, one batch for each policy."""
        groups: dict[Path, list[_Driver]] = {}
        for driver in drivers:
            assert driver.question is not None
            groups.setdefault(driver.question.folder, []).append(driver)
        for folder, group in groups.items():
            for driver, answer in zip(group, self._decide(folder, group), strict=True):
                driver.question, driver.asked = None, time.monotonic()
                try:
                    driver.line.send(answer)
                except OSError:
                    del self.drivers[driver.line]

    def _decide(self, folder: Path, group: list[_Driver]) -> Sequence[Decision | Exception]:
        """Return each driver's decision, or the error that is its own to raise."""
        try:
            policy = self._policy(folder)
            memories, observations, draws = [], [], []
            for driver in group:
                assert driver.question is not None
                if driver.memory is None or driver.question.begins:
                    driver.memory = policy.remember()
                memories.append(driver.memory)
                observations.append(driver.question.observation)
                draws.append(driver.question.draw)
            return policy.decide_all(memories, observations, draws)
        except Exception as error:  # Handed to whose it is: one world's bad observation must not end the others'.
            return [error] if len(group) == 1 else [answer for one in group for answer in self._decide(folder, [one])]


def _answer_calls(socket: str, pulse: Pulse, nice: int) -> None:
    """Hold networks and answer until ended; runs in its own process."""
    end_with_parent()
    os.nice(nice)
    switchboard = _Switchboard()
    arrived: deque[Connection] = deque()
    called, bell = mp.Pipe(duplex=False)
    with Listener(socket, backlog=256) as listener:

        def accept() -> None:
            while True:
                arrived.append(listener.accept())
                bell.send_bytes(b"!")

        Thread(target=accept, daemon=True).start()
        pulse.keep_beating()
        while True:
            asking = any(driver.question for driver in switchboard.drivers.values())
            for line in wait([called, *switchboard.drivers], timeout=PATIENCE_S / 4 if asking else None):
                if line is called:
                    called.recv_bytes()
                    fresh = arrived.popleft()
                    switchboard.drivers[fresh] = _Driver(fresh)
                elif line in switchboard.drivers:
                    switchboard.hear(line)
            switchboard.answer(switchboard.waiting())
