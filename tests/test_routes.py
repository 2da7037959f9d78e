"""Claims about counting experts: every token of a pass is counted once, under its sensor."""

import dataclasses

import numpy as np
import pytest
from small_policy import ScriptedReader, make_policy, observe

from drivebyword.evaluate.routes import _apart, _rows
from drivebyword.model.experts import MixtureOfExperts
from drivebyword.model.policy import Policy
from drivebyword.model.reader import ReaderConfig
from drivebyword.model.routes import Routes
from drivebyword.model.streaming import StreamingPolicy


def test_every_token_is_counted_once_under_its_kind():
    policy, observations = make_policy(), [observe(i) for i in range(6)]
    driver = StreamingPolicy(policy, ScriptedReader(ReaderConfig()))
    with Routes(policy) as routes:
        passes = 0
        for seen in observations:
            driver.decide(seen)
            passes += driver.trace.passes
    counts, layout = routes.taken(), policy.layout
    top = policy.config.decoder.experts_per_token
    mixtures = [part for part in policy.modules() if isinstance(part, MixtureOfExperts)]
    assert len(counts) == len(mixtures)
    of = {kind: number for number, kind in enumerate(routes.kinds)}
    middle, last = counts[0].sum(1), counts[-1].sum(1)
    # A pass that is repeated begins behind the first wrong token.
    acts = middle[of["reason and act"]]
    assert acts == last[of["reason and act"]]
    assert top * len(observations) * layout.act <= acts <= top * passes * layout.act
    frames = {"wide": 0, "tele": 1}
    for name, index in frames.items():
        assert middle[of[name]] == top * len(observations) * policy.frame.counts[index] and last[of[name]] == 0
    assert last[of["ego"]] == top * len(observations)
    assert middle[of["instruction"]] == top * layout.instruction
    assert not routes.taken().any()
    driver.decide(observations[0])
    assert not routes.taken().any()  # nobody listens any more


def test_use_is_told_by_family_side_and_sensor():
    even, odd = np.array([[[6, 2], [4, 4]]]), np.array([[[0, 8], [4, 4]]])
    use = {"right": {"town": even}, "left": {"town": odd}}
    rows = _rows(use, even + odd, ["lidar", "ego"])
    assert rows["mixture 0: lidar"]["shares"] == [0.375, 0.625] and rows["mixture 0: ego"]["value"] == 0.5
    assert rows["town"]["value"] == 0.0
    assert rows["left-hand traffic"]["value"] == pytest.approx(0.1875)
    assert _apart(even, even) == 0.0


def test_a_policy_without_experts_is_refused():
    config = make_policy().config
    plain = Policy(dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, experts=0)))
    with pytest.raises(ValueError, match="no experts"):
        Routes(plain)
