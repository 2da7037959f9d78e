"""Many worlds at once: a number in, a gymnasium vector environment out, one process and one SUMO a world.

It is gymnasium's own AsyncVectorEnv with shared memory. What it cannot carry is changed on the way there:
- Text in shared memory is read once and never again (gymnasium 1.4), so the sentence travels as its UTF-8 bytes;
- `info` is merged into arrays, and worlds have different numbers of agents, so a snapshot travels as one object;
- an error in a world shuts its process down, so what a caller can do wrong is refused before any world is told.

Workers are spawned: a fork would copy a simulation, and compiled threads, that the parent already runs. A worker's
pipe is its own, so it ends when the parent is gone, however it went.

    worlds = make_worlds(2, scenario="town-mixed")
    seen, info = worlds.reset(seed=0)                        # scene seeds 0 and 1
    seen, reward, terminated, truncated, info = worlds.step(worlds.action_space.sample())
    sentences_of(seen)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState
from jaxtyping import Float32, UInt8

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.rig import RigConfig
from drivebyword.core.seeds import TRAIN_SEEDS, require_seed
from drivebyword.world.env import DrivingEnv
from drivebyword.world.observing import actuation_of, observation_space
from drivebyword.world.saying import SENTENCE_BYTES
from drivebyword.world.scenario import Scenario, find_scenario
from drivebyword.world.wanted import Wanted


def make_worlds(
    count: int,
    *,
    rig: RigConfig | None = None,
    render_sensors: bool = True,
    scenario: str | Scenario = "town",
    seeds: tuple[int, int] = (TRAIN_SEEDS.start, TRAIN_SEEDS.stop),
    autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    wrap: Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]] | None = None,
) -> Worlds:
    """Start `count` worlds, each in a process of its own.

    A world that ends starts its next scene by itself: `scenario`, with a seed drawn from `seeds` by the generator
    that the first reset's seed set. `reset(seed=s)` starts scenes s, s + 1, ...; `reset(seed=[...])` those named.

    Args:
        autoreset_mode: gymnasium's; NEXT_STEP, SAME_STEP or DISABLED.
        wrap: Picklable; wraps each world in its process, over what is said above (frame stacks, other rewards).
    """
    if not isinstance(count, int) or not 1 <= count <= 256:
        raise ValueError(f"the number of worlds must be 1 to 256, got {count!r}")
    make = partial(_make, rig, render_sensors, scenario, seeds, wrap)
    return Worlds([make] * count, shared_memory=True, context="spawn", autoreset_mode=autoreset_mode)


class Worlds(AsyncVectorEnv):
    """gymnasium's vector of worlds, which goes on after a refusal."""

    def reset_async(self, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> None:
        """Start every world's reset. Raises ValueError for seeds and options no world would take."""
        for each in (
            seed if isinstance(seed, list | tuple) else () if seed is None else (seed, seed + self.num_envs - 1)
        ):
            if each is not None:
                require_seed(each)
        Wanted.of(
            {name: value for name, value in (options or {}).items() if name != "reset_mask"}, find_scenario("town")
        )
        super().reset_async(seed=seed, options=options)

    def step_async(self, actions: Float32[np.ndarray, "E 3"]) -> None:
        """Start every world's step. Raises ValueError for what is not three finite numbers a world."""
        if not isinstance(actions, np.ndarray | Sequence) or len(actions) != self.num_envs:
            raise ValueError(f"actions must be {self.num_envs} rows of three numbers, got {str(actions)[:80]!r}")
        super().step_async(np.stack([actuation_of(action) for action in actions]).astype(np.float32))

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the worlds, and at once where an answer is still due.

        Who was interrupted while it waited may have read half an answer: asking for the rest would wait for ever.
        """
        if self._state is not AsyncState.DEFAULT:
            terminate, self._state = True, AsyncState.DEFAULT
        super().close_extras(timeout=timeout, terminate=terminate)


def _make(
    rig: RigConfig | None,
    render_sensors: bool,
    scenario: str | Scenario,
    seeds: tuple[int, int],
    wrap: Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]] | None,
) -> gymnasium.Env[Any, Any]:
    env = Portable(DrivingEnv(rig=rig, render_sensors=render_sensors, scenario=scenario, seeds=seeds))
    return env if wrap is None else wrap(env)


class Portable(gymnasium.Wrapper[dict[str, Any], Float32[np.ndarray, " 3"], dict[str, Any], Float32[np.ndarray, " 3"]]):
    """A world whose observations are numbers only, and whose `info` gymnasium can merge."""

    env: DrivingEnv

    def __init__(self, env: DrivingEnv) -> None:
        super().__init__(env)
        seen = observation_space(env.rig, env.render_sensors)
        parts = {**seen.spaces, "instruction": spaces.Box(0, 255, (SENTENCE_BYTES,), np.uint8)}
        self.observation_space = spaces.Dict(parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a scene."""
        seen, info = self.env.reset(seed=seed, options=options)
        return self._portable(seen), self._merged(info)

    def step(self, action: Float32[np.ndarray, " 3"]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Hold an actuation for one decision period."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self._portable(seen), reward, terminated, truncated, self._merged(info)

    def _portable(self, seen: dict[str, Any]) -> dict[str, Any]:
        return {**seen, "instruction": sentence_bytes(seen["instruction"])}

    def _merged(self, info: Mapping[str, Any]) -> dict[str, Any]:
        edge: EdgeRecord | None = self.env.edge
        return {**info, "snapshot": self.env.snapshot(), "edge": edge}


def sentence_bytes(sentence: str) -> UInt8[np.ndarray, " 512"]:
    """Return a sentence as UTF-8, filled up with zeros."""
    said = sentence.encode(errors="replace")[:SENTENCE_BYTES]
    return np.frombuffer(said.ljust(SENTENCE_BYTES, b"\0"), np.uint8)


def sentences_of(seen: Mapping[str, Any]) -> Sequence[str]:
    """Return the sentence of every world from a batch of observations."""
    rows = np.atleast_2d(seen["instruction"])
    return tuple(row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows)
