"""The only path from observation to actuation: a policy decides, the guard checks, the car gets the rest.

Observations in, (actuation, decision, verdict) out. Evaluation, rollouts, the `drive` command and every
baseline go through `Driver.drive`; nobody sends a policy's act to the car any other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from drivebyword.core.records import Act, Actuation, Decision, Observation, Verdict, VerdictKind
from drivebyword.core.rig import RigConfig
from drivebyword.guard.guard import Guard, GuardConfig
from drivebyword.guard.intake import sifted, unsound_ego

if TYPE_CHECKING:
    from drivebyword.world.env import DrivingEnv


@runtime_checkable
class Policy(Protocol):
    """Answers one observation with a reason and an act; stateless but for its cache."""

    def reset(self) -> None:
        """Forget the past: a new episode begins."""
        ...

    def decide(self, observation: Observation) -> Decision:
        """Decide on one observation."""
        ...


@runtime_checkable
class Checker(Protocol):
    """What the driver needs of a guard."""

    def reset(self) -> None:
        """Forget the past: a new episode begins."""
        ...

    def check(self, act: Act, observation: Observation, now_s: float | None = None) -> tuple[Actuation, Verdict]:
        """Turn an act into a safe actuation and say what was changed; `now_s` is None where no clock is known."""
        ...


HALT = 0.35
"""Brake where nothing can be decided: about 2.8 m/s2, with the steering last sent."""


class Driver:
    """A policy, its history and, unless None, a guard: what drives the car.

    Args:
        policy: Decides.
        guard: Checks; None for nobody.
        rig: What the observations are made by: readings of another shape or type, or not finite, then count as
            missing. None: observations are taken as they come.
    """

    def __init__(self, policy: Policy, guard: Checker | None, rig: RigConfig | None = None) -> None:
        self.policy, self.guard, self.rig = policy, guard, rig
        self._steering = 0.0

    def reset(self) -> None:
        """Begin a new episode."""
        self._steering = 0.0
        self.policy.reset()
        if self.guard is not None:
            self.guard.reset()

    def drive(self, observation: Observation, now_s: float | None = None) -> tuple[Actuation, Decision, Verdict]:
        """Decide and, with a guard, check. Without one, an act is only brought into the actuators' range.

        Without sound measurements of the car itself the policy is not asked and the car stops. `now_s` is the time of
        the decision, on the observations' clock: by it the guard knows late observations.
        """
        why = unsound_ego(observation)
        if not why and self.rig is not None:
            observation = sifted(observation, self.rig)
        halt = Act(np.tile(np.array([self._steering, 0.0, HALT]), (4, 1)))
        decision = Decision(act=halt, reason=None) if why else self.policy.decide(observation)
        actuation, verdict = in_range(decision.act), Verdict(VerdictKind.REPLACED if why else VerdictKind.ACCEPTED, why)
        if self.guard is not None:
            actuation, verdict = self.guard.check(decision.act, observation, now_s)
        self._steering = actuation.steering
        return actuation, decision, verdict


def driver_in(env: DrivingEnv, policy: Policy, guarded: bool) -> Driver:
    """Return what drives the car of a world, with the guard that fits it or without."""
    guard = Guard(GuardConfig(dt=env.dt), env.rig, env.car) if guarded else None
    return Driver(policy, guard, env.rig)


def in_range(act: Act) -> Actuation:
    """Return an act's first triple clipped to what the actuators accept; NaN becomes a full stop."""
    first = np.asarray(act.steps[0], np.float64)
    if not np.isfinite(first).all():
        return Actuation(0.0, 0.0, 1.0)
    steering, throttle, brake = np.clip(first, (-1.0, 0.0, 0.0), 1.0)
    return Actuation(float(steering), float(throttle), float(brake))


class ConstantSpeed:
    """Control row: holds 8 m/s and never steers."""

    speed = 8.0

    def reset(self) -> None:
        """Nothing to forget."""

    def decide(self, observation: Observation) -> Decision:
        """Close the gap to 8 m/s."""
        push = float(np.clip(0.4 * (self.speed - float(observation.ego[0])), -1.0, 1.0))
        steps = np.tile(np.array([0.0, max(push, 0.0), max(-push, 0.0)]), (4, 1))
        return Decision(act=Act(steps), reason=None)
