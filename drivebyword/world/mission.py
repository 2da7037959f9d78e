"""What the passenger wants, and the truth about it: a script of intents in, sentences, a route and outcomes out.

The mission types each next sentence where a driver could still follow it, plans the edges ahead, tells the
expert what is asked (`route`, `speed_factor`, `hold`, `pull_over`, `lane_request`) and judges what happened.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import INTENTS, JUNCTION_INTENTS, InstructionRecord
from drivebyword.world.graph import RoadGraph
from drivebyword.world.judging import (
    STANDING,
    FollowJudge,
    GoOnJudge,
    Hop,
    Judge,
    JunctionJudge,
    LaneJudge,
    Moment,
    PaceJudge,
    PullOverJudge,
    StopJudge,
    direction_of,
    is_beside,
    is_free,
)
from drivebyword.world.wayfinding import TOO_LATE

Wording = Callable[[str, np.random.Generator], str]

CRUISE, SLOW, FAST = 0.85, 0.55, 1.0
"""Shares of the speed limit: as usual, after `slower`, after `faster`."""
ROUTE_EDGES = 5
"""Edges kept planned, the current one included."""
PATIENCE_S = 9.0
"""A scripted intent the road offers no place for this long gives way to a branch it does offer."""
REACH = (40.0, 100.0)
"""Metres before a junction from which on a sentence about it may be typed, drawn for each."""
BRANCHES = ("left", "right", "straight")
SPARE_SHARES = (0.64, 0.30, 0.06)
"""Far side, near side, straight on as the spare branch: habit is then right at one junction in three (before: 43 %)."""
SCARCE = ("slower", "faster", "lane_left", "lane_right", "left_second", "right_second", "straight_second")
"""Intents that few places offer: waited for half as long again."""
TURN_SPEED, COMFORT = 5.0, 2.0


class Mission:
    """One scene's instructions: what was said, what it asks for and what came of it.

    `route`, `speed_factor`, `hold`, `pull_over` and `lane_request` are for the expert, `sentence` is for the
    observation, `instructions` is the record.
    """

    def __init__(
        self,
        graph: RoadGraph,
        car: CarConfig,
        route: list[str],
        script: list[str],
        rng: np.random.Generator,
        wording: Wording,
        dt: float,
    ) -> None:
        self.graph, self.car, self.rng, self.wording, self.dt = graph, car, rng, wording, dt
        self.script = list(script)
        self.total = len(script)
        self.instructions = [InstructionRecord(step=0, sentence="", intent="null", deadline_s=0.0, outcome="fulfilled")]
        self.sentence, self.intent = "", "null"
        self.route = list(route)
        self.speed_factor, self.hold, self.pull_over = CRUISE, False, False
        self.lane_request: int | None = None
        """Lane index of the current edge that the passenger wants, or None."""
        self.ways: tuple[str, ...] = ()
        """Directions that exist at the junction the sentence in force speaks of; none where it speaks of none."""
        self.arrived = False
        self.until_s = 0.0
        self.tail = float(rng.uniform(30.0, 50.0))
        self._judge: Judge | None = None
        self._scripted = bool(script)
        self._inside = False
        self._late: str | None = None
        self._strayed = 0.0
        self._odometer = self._resolved_at = self._standing = 0.0
        self._issue_at = float(rng.uniform(1.0, 4.0))
        self._waited = 0.0
        self._reach = float(rng.uniform(*REACH))
        self.near, self.far = graph.road_map.near_side, graph.road_map.far_side
        self._spare = self._draw_spare()
        self._outermost = {graph.lanes_of(e)[0].id: graph.lanes_of(e)[0].width for e in graph.edges}
        self._extend()

    # ------------------------------------------------------------------ what others read

    @property
    def index(self) -> int:
        """Row of `instructions` in force."""
        return len(self.instructions) - 1

    @property
    def way(self) -> list[str]:
        """Where the car goes: the route, but where it is too late to change lanes, on as its lane leads."""
        if self._late is None or len(self.route) < 2 or self.graph.leads(self._late, self.route[1]):
            return list(self.route)
        beyond = self.graph.beyond(self._late)
        return [self.route[0], beyond] if beyond is not None else list(self.route)

    @property
    def completion(self) -> float:
        """Share of the scene done: instructions that came true, and the way driven after the last."""
        good = sum(1 for r in self.instructions[1:] if r.outcome in ("fulfilled", "unfeasible"))
        tail = min(1.0, (self._odometer - self._resolved_at) / self.tail) if self._done() else 0.0
        total = max(self.total, len(self.instructions) - 1)
        return 1.0 if self.arrived and good == total else (good + tail) / (total + 1)

    def _done(self) -> bool:
        return not self.script and self._judge is None and (self._scripted or self.index > 0)

    # ------------------------------------------------------------------ step

    def update(self, moment: Moment) -> tuple[bool, bool]:
        """Take in one step; return (the way changed, a wrong branch was just taken)."""
        way, pending = self.way, self._judge is not None
        hop = self._follow(moment)
        self._odometer += moment.state.speed * moment.dt
        self._standing = self._standing + moment.dt if moment.state.speed < STANDING else 0.0
        wrong = hop is not None and not hop.as_planned and pending and self.intent in JUNCTION_INTENTS
        if self._judge is not None:
            outcome = self._judge.update(moment, hop)
            if outcome is not None:
                self._resolve(outcome, moment.step)
        elif self.script:
            self._try_next(moment)
        else:
            self._try_arrive(moment)
        self._extend()
        if (match := moment.match) is None or not match.internal:
            known = match is not None and not match.wrong_way and match.edge == self.route[0]
            self._late = match.lane if match is not None and known and moment.ahead < TOO_LATE else None
        return self.way != way, wrong

    def _follow(self, moment: Moment) -> Hop | None:
        """Keep `route[0]` the edge the car is on, or the one it left when inside a junction."""
        match = moment.match
        if match is None or match.wrong_way:
            return None
        self._inside = match.internal
        if match.internal or match.edge == self.route[0] or abs(match.heading_error) > 0.7:
            self._strayed = 0.0 if match.edge == self.route[0] else self._strayed
            return None
        if match.edge in self.graph.ways_on(self.route[0]):
            return self._pass_junction(match.edge)
        # Not where any link leads: a brush with a neighbour's lane, or truly another street.
        self._strayed += moment.dt
        if self._strayed > 1.0:
            self.route, self._strayed = [match.edge], 0.0
            return Hop(direction=None, choices=2, as_planned=False)
        return None

    def _pass_junction(self, edge: str) -> Hop:
        before = self.route[0]
        as_planned = len(self.route) > 1 and edge == self.route[1]
        self.route = self.route[1:] if as_planned else [edge]
        self._strayed = 0.0
        self.lane_request = None
        return Hop(
            direction=self.graph.direction(before, edge),
            choices=len(self.graph.branches(before)),
            as_planned=as_planned,
        )

    def _resolve(self, outcome: str, step: int) -> None:
        record, judge = self.instructions[-1], self._judge
        record.outcome, record.resolved_step = outcome, step
        if isinstance(judge, JunctionJudge):
            record.branch_taken = judge.taken
            record.branches = judge.choices or record.branches
        if isinstance(judge, LaneJudge):
            self.lane_request = None
        self._judge = None
        self._resolved_at = self._odometer
        self._waited = 0.0
        pause = (2.0, 4.0) if self.hold or self.pull_over else (1.0, 3.0)
        self._issue_at = step * self.dt + float(self.rng.uniform(*pause))
        self._reach = float(self.rng.uniform(*REACH))
        self._spare = self._draw_spare()

    def _draw_spare(self) -> str:
        return (self.far, self.near, "straight")[int(self.rng.choice(len(BRANCHES), p=SPARE_SHARES))]

    # ------------------------------------------------------------------ route

    def _extend(self) -> None:
        """Plan on: straight where the road goes straight, else along the kerb, else across."""
        while len(self.route) < ROUTE_EDGES:
            ways = self.graph.branches(self.route[-1])
            if not ways:
                return
            self.route.append(self.graph.way_out(self.route) or self._default_way(ways))

    def _default_way(self, ways: dict[str, str]) -> str:
        # Always the same way where nobody said which: what follows from no sentence must be learnable.
        usual = ("straight", self.near, self.far)
        return next((ways[name] for name in usual if name in ways), next(iter(ways.values())))

    def _route_for(self, intent: str, base: list[str]) -> list[str] | None:
        """Return the route that does what a junction intent says, from the last edge of `base`, or None."""
        direction, second = direction_of(intent)
        route = list(base)
        for turn in ["straight", direction] if second else [direction]:
            route = self.graph.until_choice(route)
            ways = self.graph.branches(route[-1])
            if turn not in ways or len(ways) < 2:
                return None
            route.append(ways[turn])
        return route

    # ------------------------------------------------------------------ sentences

    def say(self, sentence: str, intent: str | None, moment: Moment) -> None:
        """Type a sentence now. An unknown meaning (None) is driven, and recorded, as none."""
        if intent is not None and intent not in INTENTS:
            raise ValueError(f"unknown intent {intent!r}: use one of {', '.join(INTENTS)}")
        if self._judge is not None:
            self._resolve("unfeasible", moment.step)  # overtaken by the new sentence before it could come true
        self.arrived = False
        self._issue(sentence, intent or "null", moment)
        if intent is None:
            self._judge, self.tail, self._resolved_at = None, 150.0, self._odometer
            self.instructions[-1].outcome = "unfeasible"

    def _issue(self, sentence: str, intent: str, moment: Moment) -> None:
        """Put a sentence in force. It alone says what is wanted: what earlier ones asked for ends here."""
        self.sentence, self.intent = sentence, intent
        self.speed_factor = {"slower": SLOW, "faster": FAST}.get(intent, CRUISE)
        self.hold, self.pull_over, self.lane_request = intent == "stop", intent == "pull_over", None
        record = InstructionRecord(step=moment.step, sentence=sentence, intent=intent, deadline_s=0.0)
        self.instructions.append(record)
        self._judge = self._make_judge(intent, moment)
        speaks = self._judge is not None and intent in JUNCTION_INTENTS
        there = self.graph.branches(self.route[-2]) if speaks else {}
        self.ways = tuple(way for way in there if way in BRANCHES)
        if self._judge is None:
            record.outcome, record.resolved_step = "unfeasible", moment.step
            self._resolved_at = self._odometer
            self.route = self._kept(moment)
            self._extend()
            return
        record.deadline_s = self._judge.deadline_s
        record.branches = len(there)
        self._extend()

    def _make_judge(self, intent: str, moment: Moment) -> Judge | None:
        """Return the judge for an intent and set the route it needs; None where the road has no such thing."""
        if intent in JUNCTION_INTENTS:
            route = self._route_for(intent, self._open_base(intent, moment))
            if route is None:
                return None
            self.route = route
            return JunctionJudge(*direction_of(intent))
        if intent in ("lane_left", "lane_right"):
            return self._lane_judge(1 if intent == "lane_left" else -1, moment)
        if intent == "pull_over":
            return PullOverJudge(self.car, self._outermost, self.graph.road_map.kerb)
        simple = {"stop": StopJudge, "go_on": GoOnJudge}
        if intent in simple:
            return simple[intent]()
        if intent in ("slower", "faster"):
            return PaceJudge(intent == "faster")
        return FollowJudge()

    def _lane_judge(self, side: int, moment: Moment) -> Judge | None:
        match = moment.match
        if match is None or match.internal or match.wrong_way:
            return None
        lanes = {lane.index: lane for lane in self.graph.lanes_of(match.edge)}
        index = match.index + side * self.graph.to_left
        if index not in lanes:
            return None
        self.lane_request = index
        # Where the new lane leads, the route follows: nobody asks for a lane to leave it again at once.
        ways = self.graph.branches(match.edge)
        fits = [e for e in ways.values() if self.graph.leads(lanes[index].id, e)]
        if fits and (len(self.route) < 2 or self.route[1] not in fits):
            straight = ways.get("straight")
            self.route = [match.edge, straight if straight in fits else sorted(fits)[0]]
        return LaneJudge(match.edge, index, side, lanes[index].width)

    def _kept(self, moment: Moment) -> list[str]:
        """Return the part of the route that can no longer change: the edge, and the one being entered."""
        return self.route[:2] if self._inside else self.route[:1]

    def _open_base(self, intent: str, moment: Moment) -> list[str]:
        """Return the route up to the first edge whose junction the car can still obey at."""
        base = self._kept(moment)
        if self._inside or moment.match is None:
            return base
        direction, second = direction_of(intent)
        target = self.graph.branches(base[-1]).get("straight" if second else direction)
        too_late = moment.ahead < self._least_ahead(moment.state.speed) - 12.0
        wrong_lane = target is not None and not self.graph.leads(moment.match.lane, target) and moment.ahead < 40.0
        return self.route[:2] if (too_late or wrong_lane) and len(self.route) > 1 else base

    def _least_ahead(self, speed: float) -> float:
        """Metres before a junction at which a turn can still be asked for in comfort."""
        return max(25.0, (speed * speed - TURN_SPEED**2) / (2 * COMFORT) + 10.0)

    # ------------------------------------------------------------------ script

    def _try_next(self, moment: Moment) -> None:
        """Type the next scripted sentence, once its time and a place for it have come."""
        if moment.step * self.dt < self._issue_at:
            return
        if self.script[0] == "go_on" and not (self._standing > 0 or self.instructions[-1].outcome == "fulfilled"):
            self.script.pop(0)  # it never stopped: there is nothing to go on from
            self.total -= 1
            return
        intent = self.script[0]
        if not self._fits(intent, moment):
            self._waited += moment.dt if moment.state.speed > 2.0 else 0.0
            patience = PATIENCE_S * (1.5 if intent in SCARCE else 1.0)
            offer = self._offer(moment) if self._waited > patience else None
            if offer is None:
                return
            if intent in ("stop", "pull_over") and self.script[1:2] == ["go_on"]:
                del self.script[1]
                self.total -= 1
            intent = offer
        self.script.pop(0)
        self._issue(self.wording(intent, self.rng), intent, moment)

    def _offer(self, moment: Moment) -> str | None:
        """Return a branch the road offers here instead of an intent it does not.

        Straight on fits from every lane, turns from one: taking whatever fits first would make straight on
        what habit says. So one branch is drawn in advance, and only long waiting takes another.
        """
        if self._waited > 4.0 * PATIENCE_S:
            names = [self._spare, self.far, self.near, "straight"]
        elif self._waited > 2.0 * PATIENCE_S and self._spare != "straight":
            names = [self._spare, self.far, self.near]
        else:
            names = [self._spare]
        return next((name for name in names if self._fits(name, moment)), None)

    def _fits(self, intent: str, moment: Moment) -> bool:
        """Tell whether this is a place where a driver could do what the intent says."""
        if intent == "go_on":
            return self._standing > 1.0 or not (self.hold or self.pull_over)
        match = moment.match
        if match is None or match.internal or match.wrong_way or match.edge != self.route[0]:
            return False
        if intent in JUNCTION_INTENTS:
            return self._junction_fits(intent, moment)
        speed, ahead, share = moment.state.speed, moment.ahead, moment.state.speed / moment.limit
        if intent in ("null", "follow"):
            return 25.0 < ahead < 100.0
        if intent in ("slower", "faster"):
            low, high = (0.72, 9.0) if intent == "slower" else (0.5, 0.9)
            return ahead > (40.0 if intent == "slower" else 50.0) and low < share < high and is_free(moment)
        if speed < 3.0 or match.s < 12.0:
            return False
        if intent == "stop":
            return ahead > speed * speed / 3.0 + 15.0
        if intent == "pull_over":
            lanes = self.graph.lanes_of(match.edge)
            return ahead > speed * speed / 3.0 + 25.0 + (0.0 if match.index == lanes[0].index else 35.0)
        side = 1 if intent == "lane_left" else -1
        lanes = self.graph.lanes_of(match.edge)
        exists = any(lane.index == match.index + side * self.graph.to_left for lane in lanes)
        return exists and ahead > 65.0 and not is_beside(moment, side, lanes[0].width, reach=14.0)

    def _junction_fits(self, intent: str, moment: Moment) -> bool:
        base = self.route[:1]
        if len(self.graph.branches(base[0])) < 2:
            return False
        route = self._route_for(intent, base)
        if route is None or moment.match is None:
            return False
        least = self._least_ahead(moment.state.speed)
        if self.graph.leads(moment.match.lane, route[1]):
            reach = self._reach if self._waited < PATIENCE_S else 2.0 * self._reach
            return least <= moment.ahead <= max(reach, least + 10.0)
        lane = self.graph.links_between(base[0], route[1])[0].from_lane
        side = self.graph.to_left * (1 if self.graph.road_map.lanes[lane].index > moment.match.index else -1)
        room = not is_beside(moment, side, self.graph.road_map.lanes[lane].width, reach=12.0)
        return room and max(50.0, least) <= moment.ahead <= max(100.0, least + 10.0)

    def _try_arrive(self, moment: Moment) -> None:
        if not self._done() or moment.step * self.dt < self.until_s:
            return
        waiting = (self.hold or self.pull_over) and self.instructions[-1].outcome == "fulfilled"
        if waiting:
            self.arrived = self._standing > 2.0
        else:
            self.arrived = self._odometer - self._resolved_at >= self.tail or self.graph.ends(self.route, moment.ahead)
