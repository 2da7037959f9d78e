"""Claims about driving step by step."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from small_policy import SMALL, ScriptedReader, make_policy, observe

from drivebyword.model.policy import Policy
from drivebyword.model.reader import ReaderConfig
from drivebyword.model.streaming import StreamingPolicy
from drivebyword.tokens.stream import Batch


def join(frames: list[Batch], **changes) -> Batch:
    """Return single frames as one sequence."""
    one = frames[0]

    def cat(name):
        return torch.cat([getattr(f, name) for f in frames], dim=1)

    return Batch(
        cameras={n: torch.cat([f.cameras[n] for f in frames], dim=1) for n in one.cameras},
        **{n: cat(n) for n in ("lidar", "radar", "radar_valid", "ego", "passed", "present", "history_valid")},
        **changes,
    )


def long_pass(stream: StreamingPolicy, observations, tokens, passed):
    """Return the logits of one long masked forward pass over consecutive decisions."""
    states = stream.reader.read(observations[0].instruction).states
    batch = join(
        [stream.frame_batch(o, n) for o, n in zip(observations, passed, strict=True)],
        words=states[None].float(),
        word_mask=torch.ones(1, len(states), dtype=torch.bool),
        tokens=torch.from_numpy(np.stack(tokens))[None],
    )
    with torch.inference_mode():
        return stream.policy(batch, stride=stream.policy.config.stream.stride).logits[0].numpy()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return make_policy()


@pytest.fixture
def stream(policy):
    return StreamingPolicy(policy, ScriptedReader(ReaderConfig()))


def test_fifty_streamed_frames_equal_one_long_masked_pass(stream):
    observations = [observe(i) for i in range(50)]
    tokens, logits, passed = [], [], []
    for k, one in enumerate(observations):
        # Weights nobody trained see no junctions: drive past some.
        stream.memory.passed.see(1.0 if k in (7, 30) else 0.0)
        stream.decide(one)
        tokens.append(stream.trace.tokens)
        logits.append(stream.trace.logits)
        passed.append(stream.trace.passed)
    assert sorted(set(passed)) == [0, 1, 2]
    whole = long_pass(stream, observations, tokens, passed)
    np.testing.assert_array_equal(SMALL.grammar.choose(whole), np.stack(tokens))
    legal = SMALL.grammar.legal
    assert np.abs(whole[:, legal] - np.stack(logits)[:, legal]).max() < 1e-4


@torch.inference_mode()
def test_the_drafts_tokens_are_those_of_plain_decoding(stream, policy):
    passes = []
    for step in range(12):
        one = observe(step // 3)  # repeats let drafts hold now and then
        ring = copy.deepcopy(stream.memory.ring)
        stream.decide(one)
        ring = ring or copy.deepcopy(stream.memory.ring)
        if step == 0:
            ring.frames, ring.before[:, policy.layout.instruction :] = 0, False
        passes.append(stream.trace.passes)
        plain = torch.from_numpy(SMALL.grammar.ranges[:, 0].copy())[None]
        room, words = ring.room(), stream.memory.instruction.words
        seen = stream.frame_batch(one, stream.trace.passed)
        key = stream.engine.frame(seen, words, room, plain).key
        for position in range(SMALL.grammar.length):
            logits = stream.engine.act(plain, room, key, position).numpy()
            whole = np.full((1, SMALL.grammar.length, logits.shape[-1]), -np.inf)
            whole[:, position:] = logits
            plain[0, position] = SMALL.grammar.choose(whole)[0, position]
        plain = plain[0].numpy()
        np.testing.assert_array_equal(plain, stream.trace.tokens)
    assert max(passes) <= SMALL.grammar.length


def test_a_new_sentence_encodes_the_window_once_more_and_nothing_older_matters(stream):
    back = SMALL.stream.stride * (SMALL.stream.window - 1)
    first = [observe(i) for i in range(9)]
    passed = []
    for one in first:
        stream.decide(one)
        passed.append(stream.trace.passed)
    after = [observe(i, "now go right please") for i in range(9, 14)]
    tokens = []
    for one in after:
        stream.decide(one)
        tokens.append(stream.trace.tokens)
        passed.append(stream.trace.passed)
    window = [dataclasses.replace(o, instruction="now go right please") for o in first[-back:]]
    whole = long_pass(stream, window + after, [tokens[0]] * back + tokens, passed[-back - 5 :])[back:]
    np.testing.assert_array_equal(SMALL.grammar.choose(whole), np.stack(tokens))


def test_reset_forgets(stream):
    stream.decide(observe(0))
    first = stream.trace.logits
    stream.decide(observe(1))
    stream.reset()
    stream.decide(observe(0))
    np.testing.assert_array_equal(first, stream.trace.logits)


def test_a_missing_sensor_is_masked_like_an_unused_one(policy, stream):
    whole = observe(0)
    gone = dataclasses.replace(whole, cameras={"wide": whole.cameras["wide"]}, radar=None, radar_valid=None)
    stream.decide(gone)
    fewer = StreamingPolicy(policy, stream.reader, sensors=("wide", "lidar"))
    fewer.decide(whole)
    np.testing.assert_array_equal(stream.trace.logits, fewer.trace.logits)


def test_values_that_are_not_finite_hide_the_sensor_and_never_reach_the_act(stream):
    bad = observe(0)
    lidar = bad.lidar.copy()
    lidar[0, 0] = np.nan
    decision = stream.decide(dataclasses.replace(bad, lidar=lidar, ego=np.full(7, np.nan, np.float32)))
    assert np.isfinite(decision.act.steps).all()


@pytest.mark.parametrize("text", ["", "x" * 10_000, "前方路口请左转"])
def test_what_cannot_be_read_drives_the_null_instruction_and_says_so(stream, text):
    decision = stream.decide(observe(0, text))
    assert not decision.understood and stream.why_not
    assert np.isfinite(decision.act.steps).all()


def test_a_foreign_image_shape_and_an_unknown_sensor_are_named(stream, policy):
    small = dataclasses.replace(observe(0), cameras={"wide": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(ValueError, match="camera 'wide' has shape"):
        stream.decide(small)
    with pytest.raises(ValueError, match="no sensor 'sonar'"):
        StreamingPolicy(policy, stream.reader, sensors=("sonar",))


def test_a_window_of_one_frame_streams_too():
    config = dataclasses.replace(SMALL, stream=dataclasses.replace(SMALL.stream, window=1))
    torch.manual_seed(0)
    single = StreamingPolicy(Policy(config), ScriptedReader(ReaderConfig()))
    single.decide(observe(0))
    first = single.trace.logits
    single.decide(observe(1))
    single.decide(observe(0))
    np.testing.assert_allclose(single.trace.logits, first, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_many_drivers_in_one_batch_decide_as_each_would_alone(half):
    """Ragged starts, sentences of different lengths and blind drivers included: not a bit differs."""
    together = StreamingPolicy(make_policy(), ScriptedReader(ReaderConfig()), half=half)
    alone = StreamingPolicy(make_policy(), ScriptedReader(ReaderConfig()), half=half)
    said = ["turn left here", "go", "", "please stop somewhere on the right, as soon as you safely can"]
    memories, lonely = [], []
    for step in range(14):
        if step % 3 == 0 and len(memories) < len(said):
            memories.append(together.remember())
            lonely.append(alone.remember())
        seen = [observe(step, said[k], seed=k) for k in range(len(memories))]
        seen[-1] = dataclasses.replace(seen[-1], lidar=None)
        acts = [d.act.steps for d in together.decide_all(memories, seen)]
        for k, (memory, one) in enumerate(zip(lonely, seen, strict=True)):
            (decision,) = alone.decide_all([memory], [one])
            np.testing.assert_array_equal(decision.act.steps, acts[k])
            legal = SMALL.grammar.legal
            off = np.abs(memory.trace.logits[legal] - memories[k].trace.logits[legal]).max()
            assert off <= (2e-2 if half else 1e-5), off
