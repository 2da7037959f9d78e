"""What a passenger types: what a caller gave in; a sentence and its meaning, or a way to word intents, out."""

from __future__ import annotations

from typing import Any

from drivebyword.core.records import INTENTS

SENTENCE_BYTES = 512
"""The longest sentence, in UTF-8."""


def typed_of(instruction: Any) -> tuple[str, str | None] | None:
    """Return (sentence, intent) from what a caller gave."""
    if instruction is None:
        return None
    if isinstance(instruction, str):
        from drivebyword.tokens.grammar import parse_intent

        return require_sentence(instruction), parse_intent(instruction)
    known = isinstance(instruction, tuple) and len(instruction) == 2 and isinstance(instruction[0], str)
    if not known or not (instruction[1] is None or instruction[1] in INTENTS):
        raise ValueError(
            f"the instruction must be a sentence, or (sentence, intent) with an intent of {', '.join(INTENTS)}, "
            f"got {instruction!r}"
        )
    return require_sentence(instruction[0]), instruction[1]


def require_sentence(sentence: str) -> str:
    """Return a sentence short enough to be observed. Raises ValueError."""
    if not isinstance(sentence, str) or len(sentence.encode(errors="replace")) > SENTENCE_BYTES:
        raise ValueError(f"a sentence must be text of at most {SENTENCE_BYTES} bytes, got {str(sentence)[:40]!r}")
    return sentence


def wording_of(split: str) -> Any:
    """Return how intents become sentences."""
    from drivebyword.tokens.grammar import SPLITS, sample_wording

    if split not in SPLITS:
        raise ValueError(f"unknown wording split {split!r}: use {' or '.join(SPLITS)}")
    return lambda intent, rng: sample_wording(intent, rng, split)
