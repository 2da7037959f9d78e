"""What a table compares: who drives, with or without the guard, with which senses, reading which sentence.

A Row is plain data and crosses process borders; `make_policy` and `make_transform` turn it into what
`run_episode` takes. Blindness removes a reading; it is never replaced by zeros.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from drivebyword.core.records import JUNCTION_INTENTS, Observation
from drivebyword.loop.driver import ConstantSpeed, Policy
from drivebyword.loop.rollout import ExpertPolicy

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv

Transform = Callable[[Observation], Observation]


@runtime_checkable
class DriverFactory(Protocol):
    """Makes a policy, once per worker process. Hashable and picklable: a frozen dataclass or a function."""

    def __call__(self, env: DrivingEnv) -> Policy:
        """Return the policy; only the expert needs the environment."""
        ...


def expert(env: DrivingEnv) -> Policy:
    """Return the privileged expert: what is possible in these scenes."""
    return ExpertPolicy(env)


def constant_speed(env: DrivingEnv) -> Policy:
    """Return the driver that holds 8 m/s: what these scenes ask at the least."""
    return ConstantSpeed()


SENSELESS: tuple[DriverFactory, ...] = (expert, constant_speed)
"""Drivers that read no sensor."""
SENTENCES = ("own", "other", "wrong-branch", "none", "training", "held-out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table."""

    driver: DriverFactory
    guarded: bool = False
    without: tuple[str, ...] = ()
    """Sensors taken away: camera (all of them), a camera's name, lidar, radar."""
    sentences: str = "own"
    """own: as the scene words it. other: one of the same kind (junction or not) from elsewhere.
    wrong-branch: at junctions another direction that exists there. none: empty. training, held-out: same
    meaning, in words seen or not seen in training."""

    def __post_init__(self) -> None:
        """Refuse what no row knows."""
        if self.sentences not in SENTENCES:
            raise ValueError(f"unknown sentences {self.sentences!r}: use one of {', '.join(SENTENCES)}")


def reads_sensors(row: Row) -> bool:
    """Tell whether a row drives by what the sensors show: else they need not be rendered."""
    return row.guarded or row.driver not in SENSELESS


def standard_rows(policy: DriverFactory, random_reader: DriverFactory | None = None) -> dict[str, Row]:
    """Return every row of the big table; the policy's own come first.

    `random_reader` is the same policy behind a language model with random weights.
    """
    alone = Row(driver=policy)
    rows = {
        "policy": alone,
        "guarded": replace(alone, guarded=True),
        "expert": Row(driver=expert),
        "expert-guarded": Row(driver=expert, guarded=True),
        "constant-speed": Row(driver=constant_speed),
        "constant-speed-guarded": Row(driver=constant_speed, guarded=True),
        "instruction-blind": replace(alone, sentences="other"),
        "null-instruction": replace(alone, sentences="none"),
        "wrong-sentence": replace(alone, sentences="wrong-branch"),
        "training-wordings": replace(alone, sentences="training"),
        "held-out-wordings": replace(alone, sentences="held-out"),
    }
    for sensor in ("camera", "lidar", "radar"):
        rows[f"{sensor}-blind"] = replace(alone, without=(sensor,))
        rows[f"{sensor}-blind-guarded"] = replace(alone, without=(sensor,), guarded=True)
    if random_reader is not None:
        rows["random-reader"] = Row(driver=random_reader)
        rows["random-reader-held-out"] = Row(driver=random_reader, sentences="held-out")
    return rows


def choose_rows(rows: dict[str, Row], names: list[str]) -> dict[str, Row]:
    """Return the named rows in the order given; an unknown name raises with the nearest."""
    for name in names:
        if name not in rows:
            near = difflib.get_close_matches(name, rows, n=2, cutoff=0.3) or list(rows)
            raise ValueError(f"unknown row {name!r}: did you mean {' or '.join(near)}?")
    return {name: rows[name] for name in names}


def make_transform(row: Row, env: DrivingEnv, seed: int) -> Transform | None:
    """Return what changes the driver's observations in one scene, or None where nothing is changed."""
    if not row.without and row.sentences == "own":
        return None
    reword = Rewording(row.sentences, seed)

    def transform(observation: Observation) -> Observation:
        mission = env.mission
        sentence = reword(
            observation.instruction, mission.index, mission.instructions[mission.index].intent, mission.ways
        )
        return replace(blind(observation, row.without), instruction=sentence)

    return transform


def blind(observation: Observation, without: tuple[str, ...]) -> Observation:
    """Take sensors away from an observation."""
    cameras = {} if "camera" in without else {n: c for n, c in observation.cameras.items() if n not in without}
    radar = "radar" not in without
    return replace(
        observation,
        cameras=cameras,
        lidar=None if "lidar" in without else observation.lidar,
        radar=observation.radar if radar else None,
        radar_valid=observation.radar_valid if radar else None,
    )


class Rewording:
    """Replaces sentences, the same way every time a scene is driven."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self._said: dict[int, str] = {}

    def __call__(self, sentence: str, index: int, intent: str, ways: tuple[str, ...]) -> str:
        """Return what is typed in place of instruction `index`; `ways` exist at the junction it speaks of."""
        if self.kind == "own" or (intent == "null" and self.kind != "none"):
            return sentence
        if index not in self._said:
            self._said[index] = self._draw(sentence, intent, ways, np.random.default_rng([self.seed, index, 11]))
        return self._said[index]

    def _draw(self, sentence: str, intent: str, ways: tuple[str, ...], rng: np.random.Generator) -> str:
        from drivebyword.core.records import INTENTS
        from drivebyword.tokens.grammar import sample_wording

        if self.kind == "none":
            return ""
        if self.kind in ("training", "held-out"):
            return sample_wording(intent, rng, "train" if self.kind == "training" else "test")
        at_junction = intent in JUNCTION_INTENTS
        if self.kind == "wrong-branch":
            if not at_junction:
                return sentence
            which = "_second" if intent.endswith("_second") else ""
            choices = [f"{way}{which}" for way in ways if f"{way}{which}" != intent]
            if not choices:
                return sentence
        else:
            choices = [i for i in INTENTS[1:] if (i in JUNCTION_INTENTS) == at_junction]
        return sample_wording(choices[int(rng.integers(len(choices)))], rng, "test")
