"""Has an instruction come true? A moment of the drive in, an outcome out (or None while it is open).

One judge an instruction. Deadlines count from the sentence. What traffic or the road made impossible is
`unfeasible`, not missed: a judge says so only from the world's state, never from who drives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from drivebyword.core.kinematics import CarConfig, CarState
from drivebyword.core.records import JUNCTION_INTENTS, SignalState
from drivebyword.world.graph import LaneMatch

STANDING = 0.3
"""m/s below which the car counts as stopped."""
PULL_OVER_GAP = 0.6
"""Metres that may be left between the car's side and the kerb's border of the lane along it."""
SLOW_SHARE, FAST_SHARE = 0.68, 0.92
"""Shares of the speed limit that `slower` has to fall below and `faster` has to pass, on a free road."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What judges and the mission are told after every step."""

    step: int
    dt: float
    state: CarState
    match: LaneMatch | None
    """Lane under the rear axle; None off the lanes."""
    ahead: float
    """Metres from the front bumper to the end of the current edge; 0 inside junctions."""
    limit: float
    """Speed limit here in m/s."""
    planned: float
    """Speed SUMO wanted of the ego in this step, m/s."""
    leader_gap: float
    """Metres to who is ahead on the way; inf when nobody is near."""
    curved: bool
    """Whether this street's bends, not its limit, decide the speed."""
    signal: SignalState | None
    """Colour of the next signal on the way."""
    agents: Float32[np.ndarray, "M 9"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A junction just passed."""

    direction: str | None
    """left, straight or right; None where the map names none."""
    choices: int
    """Legal branches there were."""
    as_planned: bool


class Judge:
    """Decides one instruction."""

    deadline_s = 75.0

    def __init__(self) -> None:
        self.elapsed = 0.0

    def update(self, moment: Moment, hop: Hop | None) -> str | None:
        """Return fulfilled, missed, unfeasible or None (still open)."""
        self.elapsed += moment.dt
        outcome = self.look(moment, hop)
        if outcome is None and self.elapsed > self.deadline_s:
            outcome = self.late()
        return outcome

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge one moment."""
        raise NotImplementedError

    def late(self) -> str:
        """Return what passing the deadline means."""
        return "missed"


class JunctionJudge(Judge):
    """The told branch, at the first or second junction."""

    def __init__(self, direction: str, second: bool) -> None:
        super().__init__()
        self.direction, self.second = direction, second
        self.deadline_s = 240.0 if second else 180.0  # queues at signals are long
        self.taken: str | None = None
        self.choices = 0

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge at the junctions that offer a choice."""
        del moment
        if hop is None or hop.choices < 2:
            return None
        if self.second and hop.as_planned:
            self.second = False
            return None
        self.taken, self.choices = hop.direction, hop.choices
        return "fulfilled" if hop.as_planned else "missed"


class FollowJudge(Judge):
    """On along the road: past one junction, or a while of driving."""

    deadline_s = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.driven = 0.0

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge by the way driven."""
        self.driven += moment.state.speed * moment.dt
        return "fulfilled" if hop is not None or self.driven > 60.0 else None

    def late(self) -> str:
        """Standing at a red light for long proves nothing."""
        return "unfeasible"


class StopJudge(Judge):
    """Standing, soon."""

    deadline_s = 12.0

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge the speed."""
        del hop
        return "fulfilled" if moment.state.speed < STANDING else None


class PullOverJudge(Judge):
    """Standing at the kerb."""

    deadline_s = 25.0

    def __init__(self, car: CarConfig, outermost: dict[str, float], kerb: float) -> None:
        super().__init__()
        self.car, self.outermost, self.kerb = car, outermost, kerb

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge speed and place. `outermost` holds the width of every drive lane along a kerb."""
        del hop
        match = moment.match
        if moment.state.speed >= STANDING or match is None or match.internal or match.wrong_way:
            return None
        if match.lane not in self.outermost:
            return None
        gap = self.outermost[match.lane] / 2 - self.kerb * match.offset - self.car.width / 2
        return "fulfilled" if gap <= PULL_OVER_GAP else None


class GoOnJudge(Judge):
    """Moving again, once the way is free."""

    deadline_s = 75.0
    free_s = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.free = 0.0

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge the speed; only time in which SUMO would let the car go counts against it."""
        del hop
        if moment.state.speed > 2.0:
            return "fulfilled"
        self.free += moment.dt if may_go(moment) else 0.0
        return "missed" if self.free > self.free_s else None

    def late(self) -> str:
        """Never free to go."""
        return "unfeasible"


class PaceJudge(Judge):
    """Slower or faster than before, judged where nothing else dictates the speed."""

    deadline_s = 25.0

    def __init__(self, faster: bool) -> None:
        super().__init__()
        self.faster = faster
        self.free = self.held = 0.0

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge the speed as a share of the limit."""
        del hop
        share = moment.state.speed / moment.limit
        free = is_free(moment)
        self.free += moment.dt if free else 0.0
        good = share >= FAST_SHARE if self.faster else free and share <= SLOW_SHARE
        self.held = self.held + moment.dt if good else 0.0
        if self.held > 0.7:
            return "fulfilled"
        return "missed" if self.free > 9.0 else None

    def late(self) -> str:
        """Traffic or a junction set the pace."""
        return "unfeasible"


class LaneJudge(Judge):
    """On the asked lane of the same street."""

    deadline_s = 14.0

    def __init__(self, edge: str, index: int, side: int, width: float) -> None:
        super().__init__()
        self.edge, self.index, self.side, self.width = edge, index, side, width
        self.blocked = 0.0

    def look(self, moment: Moment, hop: Hop | None) -> str | None:
        """Judge the lane; time with somebody beside the car there is not held against it."""
        del hop
        match = moment.match
        if match is not None and match.edge == self.edge and match.index == self.index and abs(match.offset) < 0.8:
            return "fulfilled"
        self.blocked += moment.dt if is_beside(moment, self.side, self.width) else 0.0
        if match is not None and not match.internal and match.edge != self.edge:
            return self.late()
        return None

    def late(self) -> str:
        """Nobody can change into a lane that is never empty."""
        return "unfeasible" if self.blocked > 3.0 else "missed"


def is_free(moment: Moment) -> bool:
    """Tell whether neither traffic, a signal nor a junction dictates the speed."""
    state = moment.state
    clear = moment.leader_gap > 16.0 + 2.0 * state.speed and not moment.curved
    halting = moment.signal in (SignalState.RED, SignalState.AMBER, SignalState.RED_AMBER)
    return clear and moment.ahead > 12.0 + state.speed**2 / 4.0 + (20.0 if halting else 0.0)


def may_go(moment: Moment) -> bool:
    """Tell whether SUMO would have the car speed up, and not just close up in a queue."""
    return moment.planned > moment.state.speed + 0.25 and moment.leader_gap > 6.0


def is_beside(moment: Moment, side: int, width: float, reach: float = 10.0) -> bool:
    """Tell whether somebody is beside the car in the lane to its left (side 1) or right (side -1)."""
    state, agents = moment.state, moment.agents
    cos, sin = np.cos(state.yaw), np.sin(state.yaw)
    dx, dy = agents[:, 0] - state.x - 1.3 * cos, agents[:, 1] - state.y - 1.3 * sin
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    near = np.abs(along) < reach + agents[:, 3] / 2
    return bool((near & (np.abs(across - side * width) < width / 2)).any())


def direction_of(intent: str) -> tuple[str, bool]:
    """Return (direction, at the second junction) of a junction intent."""
    if intent not in JUNCTION_INTENTS:
        raise ValueError(f"{intent!r} is no junction intent: {', '.join(JUNCTION_INTENTS)}")
    return intent.removesuffix("_second"), intent.endswith("_second")
