"""Reasons, verdicts and events in, English out: what a drive's page, film and last lines say.

Reasons are rendered by `tokens.text`; what happened is told in the past tense and judged by the events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivebyword.core.records import (
    CAUSES,
    DECISIONS,
    RELATIONS,
    Episode,
    Event,
    InstructionRecord,
    Reason,
    VerdictKind,
)
from drivebyword.metrics import ENDED_WELL
from drivebyword.tokens.text import render

_HARM = {
    Event.COLLISION_PERSON: "hit a person",
    Event.COLLISION_VEHICLE: "hit another vehicle",
    Event.COLLISION_STATIC: "hit something at the roadside",
    Event.OFFROAD: "left the road",
    Event.RED_LIGHT: "ran a red light",
    Event.STOP_LINE: "crossed a stop line without stopping",
    Event.WRONG_WAY: "drove on the wrong side",
    Event.TIMEOUT: "ran out of time",
    Event.WRONG_BRANCH: "took another branch than told",
}
_ENDED = {
    "arrived": "arrived",
    "stopped": "stopped where nobody can go on",
    "collision": "crashed",
    "offroad": "left the road",
    "wrong_branch": "took another branch than told",
    "timeout": "ran out of time",
    "crashed": "the software stopped",
    "aborted": "ended early",
}
_DONE = {
    "left": "turned left",
    "right": "turned right",
    "straight": "went straight on",
    "left_second": "turned left at the second junction",
    "right_second": "turned right at the second junction",
    "straight_second": "went straight on at the second junction",
    "stop": "stopped",
    "pull_over": "pulled over",
    "go_on": "drove on",
    "slower": "slowed down",
    "faster": "sped up",
    "lane_left": "changed to the left lane",
    "lane_right": "changed to the right lane",
    "follow": "followed the road",
    "null": "drove on safely, the sentence not understood",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something worth a line: `said`, `why`, `guard`, `good` or `bad`, at a step."""

    step: int
    kind: str
    text: str


def reason_tokens(reason: Reason) -> tuple[str, str, str]:
    """Return the three tokens as words."""
    return DECISIONS[reason.decision], CAUSES[reason.cause], RELATIONS[reason.relation]


def reason_at(episode: Episode, step: int) -> Reason | None:
    """Return the reason of one step, or None where the driver gave none."""
    row = episode.reason[step]
    return None if row[0] < 0 else Reason(int(row[0]), int(row[1]), int(row[2]))


def event_words(events: int) -> list[str]:
    """Return what one step's flags say went wrong, worst first."""
    return [text for flag, text in _HARM.items() if events & flag]


def spoken(episode: Episode) -> list[InstructionRecord]:
    """Return the sentences that were in force for at least one decision."""
    return [episode.instructions[k] for k in np.unique(episode.instruction_index)]


def did(record: InstructionRecord, episode: Episode) -> str:
    """Say what came of one sentence: `turned left`, or why not."""
    if record.outcome == "fulfilled":
        return _DONE.get(record.intent, "did as told")
    if record.outcome == "unfeasible":
        overtaken = any(other.step == record.resolved_step for other in episode.instructions if other is not record)
        return "overtaken by the next sentence" if overtaken else "the road offers no such way"
    if record.outcome == "missed":
        taken = record.branch_taken
        return f"went {taken} instead" if taken and not record.intent.startswith(taken) else "not done in time"
    return "still under way at the end"


def outcome(episode: Episode) -> tuple[str, bool]:
    """Say how a drive ended in a few words, and whether it went well."""
    harm = [text for flag in _HARM if np.any(episode.events & flag) for text in event_words(int(flag))]
    if harm:
        return harm[0], False
    said = spoken(episode)
    missed = [record for record in said if record.outcome == "missed"]
    if missed:
        return did(missed[0], episode), False
    fulfilled = [did(record, episode) for record in said if record.outcome == "fulfilled"]
    if fulfilled:
        return ", ".join(dict.fromkeys(fulfilled)), True
    return _ENDED.get(episode.ended, episode.ended), episode.ended in ENDED_WELL


def moments(episode: Episode) -> list[Moment]:
    """Return the lines of a drive in order: sentences, changes of mind, guard, what happened."""
    found = [Moment(record.step, "said", f"You: {record.sentence or '(nothing)'}") for record in spoken(episode)]
    for record in spoken(episode):
        if record.resolved_step is not None and record.outcome in ("fulfilled", "missed", "unfeasible"):
            kind = "good" if record.outcome == "fulfilled" else "bad"
            text = did(record, episode)
            if not text.startswith("overtaken"):
                found.append(Moment(min(record.resolved_step, len(episode) - 1), kind, text.capitalize()))
    found += _reason_moments(episode) + _guard_moments(episode)
    seen = 0
    for step, flags in enumerate(episode.events):
        fresh = int(flags) & ~seen
        seen |= int(flags)
        found += [Moment(step, "bad", text.capitalize()) for text in event_words(fresh)]
    return sorted(found, key=lambda moment: moment.step)


def _reason_moments(episode: Episode, hold: int = 3) -> list[Moment]:
    """Return changes of reason that lasted `hold` decisions and read differently: a flicker is no moment."""
    found, said = [], ""
    for step in range(len(episode)):
        rows, reason = episode.reason[step : step + hold], reason_at(episode, step)
        if reason is None or (rows != rows[0]).any() or render(reason) == said:
            continue
        said = render(reason)
        found.append(Moment(step, "why", said))
    return found


def _guard_moments(episode: Episode, quiet: int = 10) -> list[Moment]:
    """Return the guard's replacements, one line for each burst."""
    found, last = [], -quiet
    for step in np.flatnonzero(episode.verdict == VerdictKind.REPLACED):
        if step - last >= quiet:
            found.append(Moment(int(step), "guard", f"Guard: {episode.verdict_why[step] or 'act replaced'}"))
        last = int(step)
    return found
