"""Episode in, numbers out: the score of a drive and, from the same terms, the reward of every step.

`score` gives one flat dict. Events are 0 or 1 (1 is bad except for `success`), shares lie in [0, 1],
`driving_score` in [0, 100]; what is counted over instructions or steps comes as NAME_k of NAME_n, so that
counts add up over episodes. Sources: CARLA leaderboard 2.0 (penalties), nuPlan (comfort, time to
collision), NAVSIM v2 (lane keeping). No number here ever enters an observation.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64

from drivebyword.core.geometry import wrap_angle
from drivebyword.core.records import DECISIONS, INTENTS, JUNCTION_INTENTS, Episode, Event, InstructionRecord

PENALTIES = {
    "pedestrian": 0.50,
    "vehicle": 0.60,
    "static": 0.65,
    "red_light": 0.70,
    "stop_line": 0.80,
}
"""CARLA leaderboard 2.0: the driving score is multiplied by one for every such event."""
_PENALTY_EVENTS = {
    "pedestrian": Event.COLLISION_PERSON,
    "vehicle": Event.COLLISION_VEHICLE,
    "static": Event.COLLISION_STATIC,
    "red_light": Event.RED_LIGHT,
    "stop_line": Event.STOP_LINE,
}
COLLISIONS = Event.COLLISION_PERSON | Event.COLLISION_VEHICLE | Event.COLLISION_STATIC
FAILURES = (
    COLLISIONS | Event.OFFROAD | Event.RED_LIGHT | Event.STOP_LINE | Event.WRONG_WAY | Event.TIMEOUT
) | Event.WRONG_BRANCH
"""Any of these makes a drive unsuccessful."""

ENDED_WELL = ("arrived", "stopped")
"""At the goal, or standing before a place where nobody can go on: a completed minimal-risk manoeuvre."""

# nuPlan's comfort bounds, m/s2, m/s3, rad/s, rad/s2.
ACCEL_LONGITUDINAL = (-4.05, 2.40)
ACCEL_LATERAL = 4.89
JERK_LONGITUDINAL = 4.13
JERK = 8.37
YAW_RATE = 0.95
YAW_ACCEL = 1.93

TTC_LEAST = 0.95
"""nuPlan: seconds to a collision that must remain."""
LANE_OFFSET, LANE_OFFSET_S = 0.5, 2.0
"""NAVSIM: metres off the lane's centre, and for how long."""
STOPPED = 0.5
"""m/s below which a car counts as standing here."""

EVENT_METRICS = (
    "collision",
    "collision_at_fault",
    "collision_person",
    "collision_vehicle",
    "collision_static",
    "offroad",
    "red_light",
    "stop_line",
    "wrong_way",
    "wrong_branch",
    "timeout",
)


def score(episode: Episode) -> dict[str, float]:
    """Return every measure of one drive."""
    flags = np.bitwise_or.reduce(episode.events) if len(episode) else 0
    values = {
        "success": float(_succeeded(episode, int(flags))),
        "driving_score": 100.0 * float(running_score(episode)[-1]) if len(episode) else 0.0,
        "progress": float(np.max(episode.route_completion, initial=0.0)),
        **{name: float(value) for name, value in _happened(episode).items()},
        **_manners(episode),
        "replaced": float(np.mean(episode.verdict == 2)) if len(episode) else 0.0,
        "clipped": float(np.mean(episode.verdict == 1)) if len(episode) else 0.0,
        "duration_s": len(episode) * episode.dt,
        "distance_m": float(np.sum(episode.motion[:, 0]) * episode.dt),
    }
    for name, (k, n) in compliance(episode).items():
        values[f"{name}_k"], values[f"{name}_n"] = float(k), float(n)
    for name, (k, n) in edge_case(episode).items():
        values[f"{name}_k"], values[f"{name}_n"] = float(k), float(n)
    agrees, said = reason_act_agreement(episode)
    values["reason_act_agreement_k"], values["reason_act_agreement_n"] = float(agrees.sum()), float(said.sum())
    return values


def worst_score() -> dict[str, float]:
    """Return the score of a drive whose software crashed: a failure in every respect, kept in the denominator."""
    zeros = ("success", "driving_score", "progress", "comfort", "comfort_steps", "ttc", "lane_keeping")
    told = {"compliance_k": 0.0, "compliance_n": 1.0, "junction_compliance_k": 0.0, "junction_compliance_n": 1.0}
    return {**dict.fromkeys(zeros, 0.0), **dict.fromkeys(EVENT_METRICS, 1.0), **told, "crashed": 1.0}


# --------------------------------------------------------------------------- events


def _happened(episode: Episode) -> dict[str, bool]:
    """Tell which events occurred at least once."""
    events = episode.events

    def any_of(flag: Event) -> bool:
        return bool((events & int(flag)).any())

    at_fault = (events & int(Event.AT_FAULT)) != 0
    with_others = (events & int(Event.COLLISION_PERSON | Event.COLLISION_VEHICLE)) != 0
    return {
        "collision": any_of(COLLISIONS),
        "collision_at_fault": bool((at_fault & with_others).any()),
        "collision_person": any_of(Event.COLLISION_PERSON),
        "collision_vehicle": any_of(Event.COLLISION_VEHICLE),
        "collision_static": any_of(Event.COLLISION_STATIC),
        "offroad": any_of(Event.OFFROAD),
        "red_light": any_of(Event.RED_LIGHT),
        "stop_line": any_of(Event.STOP_LINE),
        "wrong_way": any_of(Event.WRONG_WAY),
        "wrong_branch": any_of(Event.WRONG_BRANCH),
        "timeout": any_of(Event.TIMEOUT) or episode.ended == "timeout",
        "crashed": episode.ended == "crashed",
    }


def _succeeded(episode: Episode, flags: int) -> bool:
    """Tell whether the route was finished, every told branch taken, and nothing went wrong."""
    missed_turn = any(r.intent in JUNCTION_INTENTS and r.outcome == "missed" for r in episode.instructions)
    return episode.ended in ENDED_WELL and not flags & int(FAILURES) and not missed_turn


def still_success(episode: Episode) -> Float64[np.ndarray, " T"]:
    """Return 1 for every step after which the drive may still be a success, 0 from the step on that ruled it out."""
    ruled_out = (episode.events & int(FAILURES)) != 0
    for record in episode.instructions:
        if record.intent in JUNCTION_INTENTS and record.outcome == "missed" and record.resolved_step is not None:
            ruled_out[min(record.resolved_step, len(ruled_out) - 1) :] = True
    if len(ruled_out) and episode.ended not in (*ENDED_WELL, "aborted"):
        ruled_out[-1] = True
    return 1.0 - np.maximum.accumulate(ruled_out).astype(np.float64)


def _onsets(flags: Bool[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
    """Keep the first step of every stretch: one event, however long it lasts."""
    return flags & ~np.concatenate([[False], flags[:-1]])


def running_score(episode: Episode) -> Float64[np.ndarray, " T"]:
    """Return CARLA's driving score in [0, 1] as it stood after every step.

    Route completion so far x a factor for every event so far x the share of the way driven on the road.
    """
    value = np.maximum.accumulate(np.clip(episode.route_completion.astype(np.float64), 0.0, 1.0))
    for name, flag in _PENALTY_EVENTS.items():
        count = np.cumsum(_onsets((episode.events & int(flag)) != 0))
        value = value * PENALTIES[name] ** count
    moved = np.maximum(episode.motion[:, 0].astype(np.float64), 1e-6)
    off = (episode.events & int(Event.OFFROAD)) != 0
    return value * (1.0 - np.cumsum(moved * off) / np.cumsum(moved))


HARM = COLLISIONS | Event.OFFROAD | Event.RED_LIGHT | Event.STOP_LINE | Event.WRONG_WAY
"""What an edge case must not end in."""


def edge_case(episode: Episode) -> dict[str, tuple[bool, bool]]:
    """Return (true and counted, counted) of what is measured of edge cases; nothing of nominal scenes and twins.

    handled: no harm, the goal reached or a stand where nobody can go on, and what the family asks kept, in a case
    that UN R157's careful driver would have come through. happened: the event began.
    """
    edge = episode.edge
    if edge is None or edge.twin:
        return {}
    flags = int(np.bitwise_or.reduce(episode.events)) if len(episode) else int(HARM)
    began = edge.began_s is not None
    well = not flags & int(HARM) and edge.breach is None and episode.ended in ENDED_WELL
    counted = edge.preventable and began
    return {
        "handled": (well and counted, counted),
        "happened": (began, True),
    }


# --------------------------------------------------------------------------- manners


def _manners(episode: Episode) -> dict[str, float]:
    """Return comfort, time to collision and lane keeping: 1 is good."""
    rough = uncomfortable(episode)
    near = _too_near(episode)
    return {
        "comfort": float(not rough.any()),
        "comfort_steps": float(1.0 - rough.mean()) if len(rough) else 1.0,
        "ttc": float(not near.any()),
        "lane_keeping": float(not _leaves_lane(episode).any()),
        "time_to_collision_min_s": float(np.clip(np.nanmin(episode.time_to_collision, initial=10.0), 0.0, 10.0)),
    }


def _slope(values: Float[np.ndarray, " T"], dt: float) -> Float64[np.ndarray, " T"]:
    """Return the rate of change over 5 samples (a Savitzky-Golay filter, as nuPlan smooths its jerks)."""
    if len(values) == 0:
        return np.zeros(0)
    padded = np.pad(values.astype(np.float64), 2, mode="edge")
    return np.convolve(padded, np.array([2.0, 1.0, 0.0, -1.0, -2.0]) / (10.0 * dt), mode="valid")


def uncomfortable(episode: Episode) -> Bool[np.ndarray, " T"]:
    """Tell at which steps one of nuPlan's six comfort bounds is broken."""
    _, yaw_rate, along, across, _ = episode.motion.astype(np.float64).T
    jerk_along, jerk_across = _slope(along, episode.dt), _slope(across, episode.dt)
    return (
        (along < ACCEL_LONGITUDINAL[0])
        | (along > ACCEL_LONGITUDINAL[1])
        | (np.abs(across) > ACCEL_LATERAL)
        | (np.abs(jerk_along) > JERK_LONGITUDINAL)
        | (np.hypot(jerk_along, jerk_across) > JERK)
        | (np.abs(yaw_rate) > YAW_RATE)
        | (np.abs(_slope(yaw_rate, episode.dt)) > YAW_ACCEL)
    )


def _too_near(episode: Episode) -> Bool[np.ndarray, " T"]:
    """Tell at which steps a moving ego had less than nuPlan's time to a collision."""
    return (episode.time_to_collision < TTC_LEAST) & (episode.motion[:, 0] > STOPPED)


def _leaves_lane(episode: Episode) -> Bool[np.ndarray, " T"]:
    """Tell at which steps the ego has been off its lane's centre for too long, unless told to leave it."""
    told = [r.intent in ("lane_left", "lane_right", "pull_over") for r in episode.instructions]
    excused = np.array([told[i] if 0 <= i < len(told) else False for i in episode.instruction_index], bool)
    with np.errstate(invalid="ignore"):
        off = (np.abs(episode.lane_offset) > LANE_OFFSET) & ~excused
    run = np.zeros(len(off), int)
    for t, value in enumerate(off):
        run[t] = run[t - 1] + 1 if value and t else int(value)
    return run * episode.dt > LANE_OFFSET_S


# --------------------------------------------------------------------------- language


def compliance(episode: Episode) -> dict[str, tuple[int, int]]:
    """Count instructions that came true before their deadline, (k, n): all, at junctions, and by intent.

    What the road makes unfeasible does not count. What was still pending when the drive ended well does
    not either; when it ended badly it is missed.
    """
    counted = {"compliance": [0, 0], "junction_compliance": [0, 0]}
    for record in episode.instructions:
        good = fulfilled(record, episode.ended)
        if good is None:
            continue
        names = ["compliance", f"compliance_{record.intent}"]
        names += ["junction_compliance"] if record.intent in JUNCTION_INTENTS else []
        for name in names:
            tally = counted.setdefault(name, [0, 0])
            tally[0] += good
            tally[1] += 1
    return {name: (k, n) for name, (k, n) in counted.items()}


def fulfilled(record: InstructionRecord, ended: str | None) -> bool | None:
    """Tell whether an instruction came true in a drive that ended so; None where it proves nothing."""
    if record.intent not in INTENTS or record.intent == "null" or record.outcome == "unfeasible":
        return None
    if record.outcome == "pending":
        return None if ended in (*ENDED_WELL, "aborted") else False
    return record.outcome == "fulfilled"


def reason_act_agreement(episode: Episode) -> tuple[Bool[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
    """Tell at which steps the act agrees with the decision given before it, and at which one was given.

    stop, wait: the car stands, brakes or lets go of the throttle. slow: the chunk does not accelerate the
    car. go: it does not brake hard. turn_*, change_*: it steers that way, or the heading (sideways place)
    goes that way within 4 s, since a turn is announced before the wheel moves.
    """
    decision = episode.reason[:, 0]
    said = decision >= 0
    speed = episode.motion[:, 0].astype(np.float64)
    chunk = episode.act.astype(np.float64)
    throttle, brake, steering = chunk[:, :, 1], chunk[:, :, 2], chunk[:, :, 0].mean(1)
    accel = 3.0 * throttle.mean(1) * (1.0 - speed / 33.0) - 8.0 * brake.mean(1) - 0.08 - 0.0004 * speed**2
    turned, shifted = _ahead(episode, seconds=4.0)
    holds = (throttle.mean(1) < 0.15) & ((brake.max(1) > 0.02) | (speed < STOPPED) | (throttle.max(1) <= 0.02))
    left, right = (steering > 0.02) | (turned > 0.17), (steering < -0.02) | (turned < -0.17)
    agrees = {
        "go": brake.mean(1) < 0.3,
        "slow": accel < 0.5,
        "stop": holds,
        "wait": holds,
        "turn_left": left,
        "turn_right": right,
        "change_left": (steering > 0.0) | (shifted > 0.5),
        "change_right": (steering < 0.0) | (shifted < -0.5),
    }
    table = np.stack([agrees[name] for name in DECISIONS])
    return table[np.clip(decision, 0, None), np.arange(len(decision))] & said, said


def _ahead(episode: Episode, seconds: float) -> tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, " T"]]:
    """Return the largest signed heading change and sideways shift (own frame) within some seconds of each step."""
    steps = max(1, round(seconds / episode.dt))
    pose = episode.pose
    later = np.minimum(np.arange(len(pose))[:, None] + np.arange(steps + 1), len(pose) - 1)
    turned = wrap_angle(pose[later, 2] - pose[:, 2, None])
    dx, dy = pose[later, 0] - pose[:, 0, None], pose[later, 1] - pose[:, 1, None]
    shifted = dy * np.cos(pose[:, 2, None]) - dx * np.sin(pose[:, 2, None])

    def largest(values: Float[np.ndarray, "T S"]) -> Float64[np.ndarray, " T"]:
        return np.take_along_axis(values, np.abs(values).argmax(1)[:, None], axis=1)[:, 0]

    return largest(np.asarray(turned)), largest(shifted)


# --------------------------------------------------------------------------- habits

HABITS = ("creeping", "standing_longest_s", "horizon_jump", "edge_hugging", "reason_act_disagreement")
"""What a driver may take to that pleases a reward and nobody else; more is worse."""
CREEP, FREE_S = 3.0, 6.0
"""m/s below which a moving car creeps, where nothing is within so many seconds."""


def habits(episode: Episode) -> dict[str, float]:
    """Return the habits of a drive.

    creeping: share of the moving steps at a walking pace with nothing near. standing_longest_s: the longest stand.
    horizon_jump: how much more the chunk's last step differs from the one before than its first from the second, which
    nobody drives. edge_hugging: mean distance from the lane's centre in metres. reason_act_disagreement: share of
    reasons the act does not follow.
    """
    speed = episode.motion[:, 0]
    stands = np.flatnonzero(np.diff(np.concatenate([[False], speed < STOPPED, [False]]).astype(int)))
    moving = speed >= STOPPED
    creeps = moving & (speed < CREEP) & (episode.time_to_collision > FREE_S)
    jumps = np.abs(np.diff(episode.act.astype(np.float64), axis=1)).sum(-1)
    offset = np.abs(episode.lane_offset[moving & np.isfinite(episode.lane_offset)])
    agrees, said = reason_act_agreement(episode)
    return {
        "creeping": float(creeps.sum() / max(1, moving.sum())),
        "standing_longest_s": float((stands[1::2] - stands[::2]).max(initial=0) * episode.dt),
        "horizon_jump": float((jumps[:, -1] - jumps[:, 0]).mean()) if jumps.size else 0.0,
        "edge_hugging": float(offset.mean()) if len(offset) else 0.0,
        "reason_act_disagreement": float(1.0 - agrees.sum() / said.sum()) if said.any() else 0.0,
    }


# --------------------------------------------------------------------------- reward

ROUGH, NEAR, LEFT_LANE = 0.02, 0.1, 0.02
"""Taken off for every step that is uncomfortable, too near to a collision, too long off its lane."""
FINED = (Event.WRONG_WAY, Event.TIMEOUT, Event.WRONG_BRANCH, Event.OFFROAD)
FINE, TOLD = 0.3, 0.2
"""Taken off when one of these begins; given for a sentence that came true, taken off for one that did not."""


def reward(episode: Episode) -> Float64[np.ndarray, " T"]:
    """Return what every step earned: the change of the driving score, language, manners, failure.

    The first term adds up to driving_score / 100 over the episode, so score and reward cannot diverge.
    """
    value = running_score(episode)
    earned = np.diff(value, prepend=0.0)
    earned -= ROUGH * uncomfortable(episode) + NEAR * _too_near(episode) + LEFT_LANE * _leaves_lane(episode)
    flags = episode.events
    for flag in FINED:
        earned -= FINE * _onsets((flags & int(flag)) != 0)
    for record in episode.instructions:
        good = fulfilled(record, episode.ended)
        if good is not None and len(earned):
            at = record.resolved_step if record.resolved_step is not None else len(earned) - 1
            earned[min(at, len(earned) - 1)] += TOLD if good else -TOLD
    return earned
