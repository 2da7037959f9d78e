"""How exact the engines are: recorded frames in, the share of tokens that are float32's out, and how many drafts held.

PyTorch in float32 decides on every frame of every recording, as in driving. Every other engine decides on the same
frames, from the draft that is PyTorch's answer: what it says of each token given PyTorch's before it (forced), and what
it would drive (free). How far each decision's own draft held is counted beside: it says how many passes driving takes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from drivebyword.core.records import Episode, Observation
from drivebyword.tokens.action import REASON_TOKENS

if TYPE_CHECKING:
    from drivebyword.model.passes import Answer
    from drivebyword.model.streaming import StreamingPolicy

BAR = 0.99
"""Share of act tokens that have to be float32's; an engine below is not offered as a default."""


@dataclass(kw_only=True)
class _Counts:
    """What one engine said, frame by frame."""

    forced: list[Bool[np.ndarray, " A"]] = field(default_factory=list)
    free: list[Bool[np.ndarray, " A"]] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    """Largest difference of a value of the first triple, in its own unit."""
    cpu: list[float] = field(default_factory=list)


def bench_precision(
    policy: str | Path, recordings: str | Path, frames: int, engines: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Compare engines on the first `frames` frames of a dataset; return the report of a bench."""
    from drivebyword.evaluate.report import commit, machine
    from drivebyword.model.streaming import StreamingPolicy

    reference = StreamingPolicy.from_pretrained(policy, threads=1)
    others = {name: StreamingPolicy.from_pretrained(policy, threads=1, engine=name) for name in engines}
    heard = {name: _Ear(driver) for name, driver in others.items()}
    counts = {name: _Counts() for name in engines}
    held: list[int] = []
    passes: list[int] = []
    cpu: list[float] = []
    seen, grammar = 0, reference.policy.config.grammar
    for episode in _episodes(recordings):
        if seen == frames:
            break
        for driver in (reference, *others.values()):
            driver.reset()
        for observation in _observations(episode):
            if seen == frames:
                break
            seen += 1
            draft, passed = reference.memory.draft, copy.copy(reference.memory.passed)
            before = time.process_time()
            reference.decide(observation)
            cpu.append((time.process_time() - before) * 1e3)
            assert reference.trace is not None
            right = reference.trace.tokens
            if draft is not None:
                held.append(int((draft == right).argmin() if (draft != right).any() else grammar.length))
                passes.append(reference.trace.passes)
            for name, driver in others.items():
                counted = counts[name]
                driver.memory.draft = right
                driver.memory.passed = copy.copy(passed)
                before = time.process_time()
                act = driver.decide(observation).act
                counted.cpu.append((time.process_time() - before) * 1e3)
                logits = heard[name].logits
                assert driver.trace is not None and logits is not None
                counted.forced.append(grammar.choose(logits)[0] == right)
                counted.free.append(driver.trace.tokens == right)
                wanted = grammar.decode_one(right)[1]
                counted.off.append(float(np.abs(act.steps[0] - wanted.steps[0]).max()))
            if seen % 100 == 0:
                said = ", ".join(
                    f"{n} {100 * np.mean([f[REASON_TOKENS:] for f in c.free]):.2f} %" for n, c in counts.items()
                )
                say(f"{seen} frames: act tokens equal: {said}")
    if seen < frames:
        raise ValueError(f"{recordings} holds {seen} frames, {frames} are wanted: collect more scenes")
    rows = _rows(counts, np.array(held), np.array(passes), np.array(cpu), frames, grammar.length)
    return {"bench": "precision", "machine": machine(), "commit": commit(), "rows": rows}


class _Ear:
    """Keeps the logits of a driver's last pass over a frame."""

    def __init__(self, driver: StreamingPolicy) -> None:
        self.logits: Float[np.ndarray, "B A V"] | None = None
        self._frame = driver.engine.frame
        driver.engine.frame = self._listen  # type: ignore[method-assign,assignment]

    def _listen(self, *given: Any) -> Answer:
        answer = self._frame(*given)
        self.logits = answer.logits.numpy()
        return answer


def _episodes(recordings: str | Path) -> Iterator[Episode]:
    from drivebyword.data.dataset import Dataset

    dataset = Dataset(recordings)
    for index in range(len(dataset.episodes)):
        yield dataset.read_episode(index)


def _observations(episode: Episode) -> Iterator[Observation]:
    """Yield what was observed, as it was recorded."""
    said = [record.sentence for record in episode.instructions]
    for t in range(len(episode)):
        yield Observation(
            time_s=float(episode.time_s[t]),
            cameras={name: images[t] for name, images in episode.cameras.items()},
            lidar=None if episode.lidar is None else episode.lidar[t],
            radar=None if episode.radar is None else episode.radar[t],
            radar_valid=None if episode.radar_valid is None else episode.radar_valid[t],
            ego=episode.ego_observed[t],
            instruction=said[int(episode.instruction_index[t])],
        )


def _rows(
    counts: dict[str, _Counts],
    held: Int[np.ndarray, " n"],
    passes: Int[np.ndarray, " n"],
    cpu: np.ndarray,
    frames: int,
    length: int,
) -> dict[str, Any]:
    acts = slice(REASON_TOKENS, None)

    def row(value: float, unit: str, floor: float | None = None) -> dict[str, Any]:
        return {"value": round(float(value), 5), "unit": unit, "ratio_to": None, "ratio": None, "floor": floor}

    rows = {
        "frames": row(float(frames), "frames"),
        "draft held whole": row((held >= length - 1).mean(), "of the decisions"),
        "draft tokens accepted": row(held.mean(), f"of {length} tokens"),
        "passes": row(passes.mean(), "a decision"),
        "torch: cpu": row(float(np.median(cpu)), "ms a decision, median"),
    } | {f"passes: {n}": row((passes == n).mean(), "of the decisions") for n in range(1, int(passes.max()) + 1)}
    for name, counted in counts.items():
        forced, free = np.stack(counted.forced), np.stack(counted.free)
        k, n = int(free[:, acts].sum()), free[:, acts].size
        rows[f"{name}: act tokens equal"] = row(k / n, "of the tokens it drives") | {"k": k, "n": n, "bar": BAR}
        rows[f"{name}: act tokens equal, forced"] = row(forced[:, acts].mean(), "of the tokens given float32's before")
        rows[f"{name}: first triple equal"] = row(free[:, REASON_TOKENS : REASON_TOKENS + 3].mean(), "of its tokens")
        rows[f"{name}: reason equal"] = row(free[:, :REASON_TOKENS].mean(), "of its tokens")
        rows[f"{name}: first triple off"] = row(
            float(np.mean(counted.off)), "of full lock or pedal, mean of the largest"
        )
        rows[f"{name}: cpu"] = row(float(np.median(counted.cpu)), "ms a decision, median, with float32's draft")
    return rows
