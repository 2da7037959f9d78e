"""Sentences for intents: what passengers type in training and in tests, and what a typed sentence means.

In: an intent and a random generator. Out: a sentence. The split decides which words may occur: a training
sentence holds no held-out verb or frame, a test sentence holds at least one, so the two never meet.
`parse_intent` goes the other way for judging alone: the policy reads the sentence through its language
model and never sees what is computed here.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from drivebyword.core.records import INTENTS
from drivebyword.tokens import phrases
from drivebyword.tokens.phrases import PHRASES, Phrases

SPLITS = ("train", "test")
TRAIN_PER_INTENT = 600
TEST_PER_INTENT = 100
_TYPO_SHARE = 0.07
_SHORTHAND_SHARE = 0.04


def sample_wording(intent: str, rng: np.random.Generator, split: str = "train") -> str:
    """Return one of the split's sentences for an intent, each equally likely."""
    sentences = wordings_of(intent, split)
    return sentences[int(rng.integers(len(sentences)))]


@lru_cache(maxsize=2 * len(INTENTS))
def wordings_of(intent: str, split: str) -> tuple[str, ...]:
    """Return all sentences of one intent in a split: distinct, always the same, in a fixed order."""
    _check(intent, split)
    rng = np.random.default_rng([INTENTS.index(intent), SPLITS.index(split)])
    wanted = TRAIN_PER_INTENT if split == "train" else TEST_PER_INTENT
    found: dict[str, None] = {}
    if intent == "null":
        listed = phrases.NULL_SENTENCES if split == "train" else phrases.HELD_NULL_SENTENCES
        found.update(dict.fromkeys(listed))
    while len(found) < wanted:
        found[compose(intent, rng, split)] = None
    return tuple(found)


def all_wordings(split: str) -> list[tuple[str, str]]:
    """Return every (sentence, intent) of a split, the same number for each intent."""
    return [(sentence, intent) for intent in INTENTS for sentence in wordings_of(intent, split)]


def compose(intent: str, rng: np.random.Generator, split: str = "train") -> str:
    """Compose one new sentence: verb, frame, noun, politeness, spelling."""
    _check(intent, split)
    sentence, imperative = _core(PHRASES[intent], rng, held=split == "test")
    sentence = _polite(sentence, imperative, rng, held=split == "test", chatter=intent == "null")
    return _spell(sentence, rng)


def parse_intent(sentence: str) -> str | None:
    """Return the intent of a sentence the grammar can make, or None. For judging typed sentences only."""
    exact = _spelled_table().get(sentence)
    if exact is not None:
        return exact
    core = _normal(sentence)
    table = _core_table()
    while core not in table:
        shorter = _without_politeness(core)
        if shorter == core:
            return None
        core = shorter
    return table[core]


# --------------------------------------------------------------------------- composing


def _check(intent: str, split: str) -> None:
    if intent not in INTENTS:
        raise ValueError(f"unknown intent {intent!r}: use one of {', '.join(INTENTS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: use train or test")


def _core(words: Phrases, rng: np.random.Generator, held: bool) -> tuple[str, bool]:
    """Return a bare sentence and whether it starts with an imperative."""
    verbs, frames = words.verbs, words.frames
    if held:
        # One third new verb in a known frame, one third the other way round, one third both new.
        kind = int(rng.integers(3))
        verbs = words.held_verbs if kind != 1 else words.verbs
        frames = words.held_frames if kind != 0 else tuple(f for f in words.frames if "{verb}" in f)
    verb, frame = _pick(verbs, rng), _pick(frames, rng)
    noun = ""
    if words.nouns:
        noun = _pick(words.nouns + words.held_nouns if held else words.nouns, rng)
    imperative = not frame.startswith("~") and not (frame.startswith("{verb}") and verb.startswith("~"))
    return frame.format(verb=verb.lstrip("~"), noun=noun).lstrip("~"), imperative


def _polite(sentence: str, imperative: bool, rng: np.random.Generator, held: bool, chatter: bool) -> str:
    """Put manners around a sentence; never in front of what is not an imperative."""
    prefixes = phrases.PREFIXES + (phrases.HELD_PREFIXES if held else ())
    openers = phrases.OPENERS + (phrases.HELD_OPENERS if held else ())
    suffixes = phrases.SUFFIXES + (phrases.HELD_SUFFIXES if held else ())
    draw = rng.random()
    if chatter:
        return f"{_pick(openers, rng)} {sentence}" if draw < 0.3 else sentence
    if draw < 0.3 and imperative:
        sentence = f"{_pick(prefixes, rng)} {sentence}"
    elif draw < 0.45:
        sentence = f"{_pick(openers, rng)} {sentence}"
    elif draw < 0.7:
        sentence = f"{sentence}{_pick(suffixes, rng)}"
    return sentence


def _spell(sentence: str, rng: np.random.Generator) -> str:
    """Vary capitals and the full stop; now and then shorthand or a slip of the finger."""
    draw = rng.random()
    if draw < _SHORTHAND_SHARE:
        return " ".join(phrases.SHORTHAND.get(word, word) for word in sentence.split(" "))
    if draw < _SHORTHAND_SHARE + _TYPO_SHARE:
        return _slip(sentence, rng)
    style = rng.random()
    if style < 0.5:
        sentence = sentence[:1].upper() + sentence[1:]
        sentence = re.sub(r"\bi\b", "I", sentence)
        ending = _pick((".", ".", "!", ""), rng)
        return sentence if sentence.endswith("?") else sentence + ending
    return sentence.upper() if style > 0.98 else sentence


def _slip(sentence: str, rng: np.random.Generator) -> str:
    """Drop one letter or swap two neighbours inside a word of at least four letters."""
    places = list(re.finditer(r"[a-z]{4,}", sentence))
    if not places:
        return sentence
    place = places[int(rng.integers(len(places)))]
    at = int(rng.integers(place.start() + 1, place.end() - 1))
    if rng.random() < 0.5:
        return sentence[:at] + sentence[at + 1 :]
    return sentence[:at] + sentence[at + 1] + sentence[at] + sentence[at + 2 :]


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


# --------------------------------------------------------------------------- judging


def _normal(sentence: str) -> str:
    """Lower the case, drop punctuation and spare blanks."""
    return " ".join(re.sub(r"[^\w' ]+", " ", sentence.lower()).split())


@lru_cache(maxsize=1)
def _spelled_table() -> dict[str, str]:
    return {sentence: intent for split in SPLITS for sentence, intent in all_wordings(split)}


@lru_cache(maxsize=1)
def _core_table() -> dict[str, str]:
    """Return every bare sentence of both splits, normalised, with its intent."""
    table: dict[str, str] = {}
    for intent, words in PHRASES.items():
        for frame in words.frames + words.held_frames:
            for verb in words.verbs + words.held_verbs:
                for noun in (words.nouns + words.held_nouns) or ("",):
                    table[_normal(frame.format(verb=verb, noun=noun))] = intent
    for sentence in phrases.NULL_SENTENCES + phrases.HELD_NULL_SENTENCES:
        table[_normal(sentence)] = "null"
    return table


@lru_cache(maxsize=1)
def _manners() -> tuple[re.Pattern[str], re.Pattern[str]]:
    before = phrases.PREFIXES + phrases.HELD_PREFIXES + phrases.OPENERS + phrases.HELD_OPENERS
    after = phrases.SUFFIXES + phrases.HELD_SUFFIXES
    first = "|".join(sorted((re.escape(_normal(p)) for p in before), key=len, reverse=True))
    last = "|".join(sorted((re.escape(_normal(s)) for s in after), key=len, reverse=True))
    return re.compile(rf"^(?:{first}) (?=\S)"), re.compile(rf"(?<=\S) (?:{last})$")


def _without_politeness(core: str) -> str:
    before, after = _manners()
    return after.sub("", before.sub("", core, count=1), count=1)
