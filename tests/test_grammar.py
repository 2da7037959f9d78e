"""Claims about the sentences the grammar makes."""

from collections import Counter

import numpy as np
import pytest

from drivebyword.core.records import INTENTS
from drivebyword.tokens import phrases
from drivebyword.tokens.grammar import all_wordings, compose, parse_intent, sample_wording


def test_there_are_three_thousand_training_wordings_balanced_over_intents():
    wordings = all_wordings("train")
    counts = Counter(intent for _, intent in wordings)
    assert len({sentence for sentence, _ in wordings}) == len(wordings) >= 3000
    assert set(counts) == set(INTENTS) and len(set(counts.values())) == 1


def test_a_quarter_of_verbs_and_frames_is_held_out_for_every_intent():
    for intent, words in phrases.PHRASES.items():
        assert not set(words.verbs) & set(words.held_verbs), intent
        assert not set(words.frames) & set(words.held_frames), intent
        assert len(words.held_verbs) >= 0.25 * (len(words.verbs) + len(words.held_verbs)), intent
        assert len(words.held_frames) >= 0.25 * (len(words.frames) + len(words.held_frames)), intent


def test_no_test_sentence_is_a_training_sentence():
    bare = [{sentence.lower().strip(" .!?") for sentence, _ in all_wordings(split)} for split in ("train", "test")]
    assert not (bare[0] - {""}) & (bare[1] - {""})


def test_no_training_sentence_holds_a_held_out_verb():
    for intent, words in phrases.PHRASES.items():
        held = [verb.lstrip("~") for verb in words.held_verbs]
        for sentence, meaning in all_wordings("train"):
            if meaning == intent:
                assert not any(f" {verb} " in f" {sentence.lower().strip('.!')} " for verb in held), sentence


def test_one_sentence_never_means_two_things():
    meanings: dict[str, set[str]] = {}
    for split in ("train", "test"):
        for sentence, intent in all_wordings(split):
            meanings.setdefault(sentence.lower().strip(" .!"), set()).add(intent)
    assert not {sentence: m for sentence, m in meanings.items() if len(m) > 1}


def test_every_listed_sentence_is_judged_by_its_own_intent():
    for split in ("train", "test"):
        for sentence, intent in all_wordings(split):
            assert parse_intent(sentence) == intent, sentence


@pytest.mark.parametrize(
    ("sentence", "intent"),
    [
        ("turn left at the next intersection", "left"),
        ("Left at the next crossing, thanks.", "left"),
        ("at the next junction hang a left", "left"),
        ("Not this one, the one after, go left", "left_second"),
        ("take the second street on your left", "left_second"),
        ("pull over", "pull_over"),
        ("Could you change to the right lane, please", "lane_right"),
        ("Stop!", "stop"),
        ("carry on", "go_on"),
        ("You know, my sister always goes left here.", "null"),
        ("Okay, could you please turn right at the lights, thanks", "right"),
    ],
)
def test_sentences_people_type_are_understood_by_the_judge(sentence, intent):
    assert parse_intent(sentence) == intent


def test_what_the_grammar_cannot_make_has_no_intent():
    assert parse_intent("explain the theory of relativity to the dog") is None


def test_composed_sentences_never_leave_the_grammar_unless_misspelt():
    rng = np.random.default_rng(3)
    for intent in INTENTS:
        for _ in range(60):
            assert parse_intent(compose(intent, rng, "test")) in (intent, None)


def test_the_same_generator_state_gives_the_same_sentence():
    pick = [sample_wording("left", np.random.default_rng(5), "test") for _ in range(2)]
    assert pick[0] == pick[1]


def test_an_unknown_intent_is_named():
    with pytest.raises(ValueError, match="unknown intent 'fly'"):
        sample_wording("fly", np.random.default_rng(0))
