"""Reasons and acts as tokens of one small vocabulary, and back.

In: a reason (decision, cause, relation) and an act (F steps of steering, throttle, brake). Out: 3 + 3 F tokens
in that order. Which tokens are legal depends on the position alone, so what `choose` answers is always well formed.

Each value has its own bins, spread by a power law: fine near zero, where a car spends its time, with zero
itself exact. Round trip with the default grammar: steering is off by at most 0.026 at full lock and 0.0021
near zero, throttle and brake by at most 0.043.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from drivebyword.core.records import CAUSES, DECISIONS, RELATIONS, Act, Reason

UNKNOWN = -1
"""Token of a reason that was not given: never an answer, and no target."""
REASON_TOKENS = 3
DRIVEN_TOKENS = REASON_TOKENS + 3
"""Tokens of a decision that move the car: the reason and the first triple."""


@dataclass(frozen=True, kw_only=True)
class ActionGrammar:
    """Sizes of the vocabulary. Token ids: decisions, causes, relations, steering, throttle, brake, begin."""

    future_steps: int = 4
    steering_bins: int = 63
    pedal_bins: int = 16
    steering_power: float = 1.6
    pedal_power: float = 1.3

    def __post_init__(self) -> None:
        if self.steering_bins % 2 == 0 or self.steering_bins < 3 or self.pedal_bins < 2 or self.future_steps < 1:
            raise ValueError(
                "steering_bins must be odd and >= 3 (zero in the middle), pedal_bins >= 2, future_steps >= 1"
            )

    @property
    def length(self) -> int:
        """Tokens of one decision: 3 + 3 F."""
        return REASON_TOKENS + 3 * self.future_steps

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First token id of each of the six kinds, then of `begin`."""
        sizes = (len(DECISIONS), len(CAUSES), len(RELATIONS), self.steering_bins, self.pedal_bins, self.pedal_bins)
        return tuple(int(n) for n in np.concatenate([[0], np.cumsum(sizes)]))

    @property
    def begin(self) -> int:
        """The token that asks for the first one; never an answer."""
        return self.starts[6]

    @property
    def vocabulary(self) -> int:
        """Number of token ids, `begin` included."""
        return self.begin + 1

    @cached_property
    def kinds(self) -> Int[np.ndarray, " A"]:
        """Kind 0..5 of each position."""
        return np.array([0, 1, 2] + [3, 4, 5] * self.future_steps)

    @cached_property
    def ranges(self) -> Int[np.ndarray, "A 2"]:
        """First legal id and one past the last, for each position."""
        starts = np.array(self.starts)
        return np.stack([starts[self.kinds], starts[self.kinds + 1]], axis=1)

    @cached_property
    def legal(self) -> Bool[np.ndarray, "A V"]:
        """Which tokens may stand at each position."""
        ids = np.arange(self.vocabulary)
        return (ids >= self.ranges[:, :1]) & (ids < self.ranges[:, 1:])

    @cached_property
    def steering_values(self) -> Float[np.ndarray, " bins"]:
        """Steering of each bin, -1 to 1."""
        half = self.steering_bins // 2
        unit = np.arange(-half, half + 1) / half
        return np.sign(unit) * np.abs(unit) ** self.steering_power

    @cached_property
    def pedal_values(self) -> Float[np.ndarray, " bins"]:
        """Throttle or brake of each bin, 0 to 1."""
        return (np.arange(self.pedal_bins) / (self.pedal_bins - 1)) ** self.pedal_power

    def encode(self, reason: Int[np.ndarray, "*N 3"], steps: Float[np.ndarray, "*N F 3"]) -> Int[np.ndarray, "*N A"]:
        """Return the tokens of reasons and acts; a reason of -1 becomes UNKNOWN, values are clipped to range.

        Raises:
            ValueError: If an act is not finite or has another number of steps than the grammar.
        """
        if steps.shape[-2] != self.future_steps:
            raise ValueError(f"act has {steps.shape[-2]} steps, the grammar {self.future_steps}")
        if not np.isfinite(steps).all():
            raise ValueError("act holds a value that is not finite")
        named = np.where(reason < 0, UNKNOWN, reason + np.array(self.starts[:3]))
        steering = self.starts[3] + _nearest(self.steering_values, steps[..., 0])
        throttle = self.starts[4] + _nearest(self.pedal_values, steps[..., 1])
        brake = self.starts[5] + _nearest(self.pedal_values, steps[..., 2])
        triples = np.stack([steering, throttle, brake], axis=-1).reshape(*steps.shape[:-2], -1)
        return np.concatenate([named, triples], axis=-1).astype(np.int64)

    def decode(self, tokens: Int[np.ndarray, "*N A"]) -> tuple[Int[np.ndarray, "*N 3"], Float[np.ndarray, "*N F 3"]]:
        """Return reasons and acts of tokens.

        Raises:
            ValueError: If a token is illegal at its position.
        """
        low, high = self.ranges[:, 0], self.ranges[:, 1]
        if not ((tokens >= low) & (tokens < high)).all():
            raise ValueError("a token is illegal at its position: mask the logits with ActionGrammar.legal first")
        index = tokens - low
        triples = index[..., REASON_TOKENS:].reshape(*tokens.shape[:-1], self.future_steps, 3)
        pedals = self.pedal_values[triples[..., 1:]]
        steering = self.steering_values[triples[..., :1]]
        return index[..., :REASON_TOKENS], np.concatenate([steering, pedals], axis=-1)

    def decode_one(self, tokens: Int[np.ndarray, " A"]) -> tuple[Reason, Act]:
        """Return one decision's reason and act."""
        reason, steps = self.decode(tokens)
        return Reason(*(int(i) for i in reason)), Act(steps)

    def choose(self, logits: Float[np.ndarray, "*N A V"]) -> Int[np.ndarray, "*N A"]:
        """Return the legal token that is driven at each position; a logit that is NaN counts as least likely.

        Of a reason the likeliest token; of an act, whose bins are ordered, the median of the distribution: the value
        with the least expected error. The likeliest bin would not brake where braking is sure and only how hard
        is not.
        """
        ranked = np.where(np.isnan(logits), -np.inf, logits)
        chosen = np.empty(logits.shape[:-1], np.int64)
        for position, (low, high) in enumerate(self.ranges):
            here = ranked[..., position, low:high].astype(np.float64)
            if position < REASON_TOKENS:
                chosen[..., position] = low + here.argmax(-1)
                continue
            top = here.max(-1, keepdims=True)
            share = np.exp(here - np.where(np.isfinite(top), top, 0.0)).cumsum(-1)
            chosen[..., position] = low + (share >= 0.5 * share[..., -1:]).argmax(-1)
        return chosen

    def draw(
        self, logits: Float[np.ndarray, "*N A V"], lots: Float[np.ndarray, "*N A"], temperature: float
    ) -> Int[np.ndarray, "*N A"]:
        """Return the legal token at which each position's distribution passes its lot, a number in [0, 1)."""
        shares = np.exp(self.log_shares(logits, temperature)).cumsum(-1)
        # Rounding leaves the last sum a hair beside 1; what is illegal has no share, so it is never passed at.
        return (shares > lots[..., None] * shares[..., -1:]).argmax(-1).astype(np.int64)

    def log_shares(self, logits: Float[np.ndarray, "*N A V"], temperature: float) -> Float[np.ndarray, "*N A V"]:
        """Return the log-probability of every token at its position; illegal ones and NaN have -inf."""
        ranked = np.where(np.isnan(logits) | ~self.legal, -np.inf, logits).astype(np.float64) / temperature
        ranked -= ranked.max(-1, keepdims=True)
        return ranked - np.log(np.exp(ranked).sum(-1, keepdims=True))

    def log_prob(
        self, logits: Float[np.ndarray, "*N A V"], tokens: Int[np.ndarray, "*N A"], temperature: float
    ) -> Float[np.ndarray, "*N"]:
        """Return the log-probability of the tokens that move the car: the reason and the first triple."""
        driven = (..., slice(0, DRIVEN_TOKENS))
        shares = self.log_shares(logits, temperature)[..., :DRIVEN_TOKENS, :]
        return np.take_along_axis(shares, tokens[driven][..., None], -1)[..., 0].sum(-1)

    def shifted(self, tokens: Int[np.ndarray, "*N A"]) -> Int[np.ndarray, "*N A"]:
        """Return the draft of the next decision: the same reason, the chunk one step on, its last step twice."""
        act = tokens[..., REASON_TOKENS:]
        return np.concatenate([tokens[..., :REASON_TOKENS], act[..., 3:], act[..., -3:]], axis=-1)


def _nearest(values: Float[np.ndarray, " bins"], wanted: Float[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
    """Return the index of the nearest value."""
    middles = (values[1:] + values[:-1]) / 2
    return np.searchsorted(middles, wanted).astype(np.int64)
