"""Words for people: a reason as an English sentence, and what can be read as a sentence at all.

In: a `Reason`, or what somebody typed. Out: English by template, or why the typed text is not read.
"""

from __future__ import annotations

import unicodedata

from drivebyword.core.records import CAUSES, DECISIONS, RELATIONS, Reason

MAX_CHARACTERS = 200
_MIN_LATIN_SHARE = 0.8

_DECISION_TEXT = {
    "go": "I drive on",
    "slow": "I slow down",
    "stop": "I brake to a stop",
    "wait": "I wait",
    "turn_left": "I turn left",
    "turn_right": "I turn right",
    "change_left": "I change to the left lane",
    "change_right": "I change to the right lane",
}
_CAUSE_TEXT = {
    "clear": "the way is clear",
    "lead_vehicle": "there is a vehicle",
    "pedestrian": "there is a person",
    "red_light": "the light is not green",
    "crossing_traffic": "there is crossing traffic",
    "curve": "the road bends",
    "obstacle": "something is in the way",
}
_RELATION_TEXT = {
    "ahead": "ahead",
    "here": "here",
    "left": "on the left",
    "right": "on the right",
    "junction_ahead": "at the junction ahead",
    "in_junction": "in the junction",
}


def render(reason: Reason) -> str:
    """Return a reason in English, such as `I slow down: there is a person ahead`."""
    decision = _DECISION_TEXT[DECISIONS[reason.decision]]
    if CAUSES[reason.cause] == "instruction":
        return f"{decision} {_RELATION_TEXT[RELATIONS[reason.relation]]}, as you asked."
    cause = _CAUSE_TEXT[CAUSES[reason.cause]]
    return f"{decision}: {cause} {_RELATION_TEXT[RELATIONS[reason.relation]]}."


def unreadable(sentence: str) -> str | None:
    """Return why a text cannot be a sentence for the reader, or None if it can."""
    text = sentence.strip()
    if not text:
        return "nothing was typed"
    if len(text) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS} characters"
    letters = [c for c in text if unicodedata.category(c).startswith("L") or unicodedata.category(c).startswith("M")]
    if not letters:
        return "no words in it"
    latin = sum(unicodedata.name(c, "").startswith("LATIN") for c in letters)
    if latin < _MIN_LATIN_SHARE * len(letters):
        return "not in Latin letters: type English"
    return None
