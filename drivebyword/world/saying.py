"""What a passenger types: what a caller gave in; a sentence and its meaning, or a way to word intents, out."""

from __future__ import annotations

from typing import Any


def typed_of(instruction: Any) -> tuple[str, str | None] | None:
    """Return (sentence, intent) from what a caller gave."""
    if instruction is None:
        return None
    if isinstance(instruction, str):
        from drivebyword.tokens.grammar import parse_intent

        return instruction, parse_intent(instruction)
    sentence, intent = instruction
    return str(sentence), intent


def wording_of(split: str) -> Any:
    """Return how intents become sentences."""
    from drivebyword.tokens.grammar import SPLITS, sample_wording

    if split not in SPLITS:
        raise ValueError(f"unknown wording split {split!r}: use {' or '.join(SPLITS)}")
    return lambda intent, rng: sample_wording(intent, rng, split)
