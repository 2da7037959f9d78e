"""The world in a mirror: a scene, a snapshot, a rig or a sentence in, its exact mirror image out.

The mirror stands on the map's x axis: y, headings and turns change sign, left and right change places, and so does
the side of the road. Maps, grounds, scenery and actors mirror themselves (`mirrored`); what was drawn is carried over,
not drawn anew. In an image even the sun, the writing on the road and the places at which sensors sample are mirrored,
so that a camera sees its original's picture flipped. Applying a mirror twice gives the original back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from drivebyword.core.records import HAZARD, AgentKind, Lights, Snapshot, other_side
from drivebyword.core.rig import RigConfig
from drivebyword.tokens.grammar import parse_intent
from drivebyword.world.roads import TownConfig
from drivebyword.world.scenario import Scene

_EGO = np.array([1.0, -1.0, -1.0, 1.0, -1.0, -1.0])
_AGENT = np.array([1, -1, -1, 1, 1, 1, 1, -1, -1], np.float32)
_SIDES = re.compile(r"\b(?:all right|right (?:now|here|away)|left|right)(?=wards\b|\b)", re.IGNORECASE)
_OPENER = re.compile(r"right(?: then)?,", re.IGNORECASE)


def mirror(scene: Scene) -> Scene:
    """Return a scene's mirror image: its map, its agents and what is asked for. ValueError for a map from outside."""
    if not isinstance(scene.town, TownConfig):
        raise ValueError("a map from outside has no mirror image: import it with --left-hand, or mirror a town")
    town = replace(scene.town, left_hand=not scene.town.left_hand)
    script = tuple(other_side(intent) for intent in scene.script)
    weather = replace(scene.weather, sun_azimuth=-scene.weather.sun_azimuth)
    return replace(scene, town=town, script=script, weather=weather, image=not scene.image)


def mirror_snapshot(snapshot: Snapshot) -> Snapshot:
    """Return the same moment in the mirror image: ego, agents and their indicators. Signals keep their order."""
    return replace(
        snapshot,
        ego=np.asarray(snapshot.ego, float) * _EGO,
        agents=np.asarray(snapshot.agents, np.float32) * _AGENT,
        agent_lights=mirror_lights(np.asarray(snapshot.agent_lights), np.asarray(snapshot.agent_kind)),
    )


def mirror_lights(lights: Int[np.ndarray, " M"], kinds: Int[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
    """Change left and right indicators over, and mark bodies as mirror images (or no longer)."""
    left, right = (lights & Lights.LEFT) > 0, (lights & Lights.RIGHT) > 0
    swapped = lights & ~int(HAZARD) | left * int(Lights.RIGHT) | right * int(Lights.LEFT)
    return np.where(kinds == AgentKind.SIGN, lights, swapped) ^ int(Lights.MIRRORED)


def mirror_rig(rig: RigConfig) -> RigConfig:
    """Return the rig with every camera mounted on the other side."""
    return replace(rig, cameras=tuple(replace(camera, y=-camera.y, yaw=-camera.yaw) for camera in rig.cameras))


def mirror_picture(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return what a camera of the mirrored rig sees in the mirror image."""
    return picture[:, ::-1]


def mirror_lidar(ranges: Float32[np.ndarray, "beams columns 2"]) -> Float32[np.ndarray, "beams columns 2"]:
    """Return what the LiDAR measures in the mirror image."""
    return ranges[:, ::-1]


def mirror_radar(detections: Float32[np.ndarray, "detections 4"]) -> Float32[np.ndarray, "detections 4"]:
    """Return what the radar measures in the mirror image: azimuths change sign."""
    return detections * np.array([1, -1, 1, 1], np.float32)


def mirror_sentence(sentence: str) -> str:
    """Return the sentence that asks for the mirrored thing: left and right change places, `all right` stays.

    Where neither word occurs, a slip of the finger in one of them is looked for, and the other one written out.
    """
    intent = parse_intent(sentence)
    if intent is not None and other_side(intent) == intent:
        return sentence
    opener = _OPENER.match(sentence)
    begin = opener.end() if opener else 0
    told = [match for match in _SIDES.finditer(sentence, begin) if match[0].lower() != "all right"]
    # `on the right now` is a side, but `turn left right now` has another.
    sides = [match for match in told if " " not in match[0]] or told
    if not sides:
        slips = [match for match in re.compile("[A-Za-z]+").finditer(sentence, begin) if _meant(match[0].lower())]
        sides = slips[-1:] or ([opener] if opener else [])
    for match in reversed(sides):
        word = match[0].split(" ")[0].rstrip(",")
        other = "right" if (_meant(word.lower()) or word.lower()) == "left" else "left"
        other = other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
        sentence = sentence[: match.start()] + other + sentence[match.start() + len(word) :]
    return sentence


def _meant(word: str) -> str | None:
    """Return left or right for a word that begins as one of them, or as one slipped: a letter lost, two swapped."""
    for side in ("left", "right"):
        inner = range(1, len(side) - 1)
        lost = [side[:k] + side[k + 1 :] for k in inner]
        changed = [side[:k] + side[k + 1] + side[k] + side[k + 2 :] for k in inner]
        if word.startswith(side) or word.removesuffix("wards") in (*lost, *changed):
            return side
    return None


def mirrored_wording(wording: Callable[[str, Any], str]) -> Callable[[str, Any], str]:
    """Return a way to word intents: as the mirrored intent would be worded, mirrored."""

    def word(intent: str, rng: Any) -> str:
        sentence = wording(other_side(intent), rng)
        return mirror_sentence(sentence) if other_side(intent) != intent else sentence

    return word
