"""One training loop: rounds of driving, relabelling and learning, from nothing to a checkpoint.

While one round's optimiser steps run, the policy as it was at the round's start drives new scenes in other
processes, and the expert labels every state it reaches (DAgger); the next round learns from them. Nobody
waits, and everything is a function of the seed. All lives in one folder, and a killed run, started again,
goes on bit-exactly: batches are a function of (seed, step), driven scenes are parts on disk, and model,
optimiser and average are saved together, atomically.

    drivebyword train tiny --out runs/tiny
"""

from __future__ import annotations

import copy
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drivebyword.core.rig import RigConfig
from drivebyword.data.dataset import Dataset, is_ours
from drivebyword.data.files import write_json
from drivebyword.data.foreign import ForeignSet
from drivebyword.data.layout import find_layout
from drivebyword.loop.rollout import DisturbanceConfig, RescueConfig
from drivebyword.model.adapters import AdapterConfig, adapt, folded, learning
from drivebyword.model.checkpoint import from_pretrained, save_pretrained
from drivebyword.model.language import adopt
from drivebyword.model.policy import Policy, PolicyConfig
from drivebyword.tokens.stream import Batch
from drivebyword.train.collect import CollectConfig, collect
from drivebyword.train.log import TrainLog
from drivebyword.train.loss import LossConfig, Targets, Teacher
from drivebyword.train.sharding import Ranks, whole, whole_copy
from drivebyword.train.state import RunState, load_latest, save_state
from drivebyword.train.table import Frames, FrameTable, Sampler, SamplingConfig, build_table
from drivebyword.train.trackers import require_trackers
from drivebyword.train.validate import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundConfig:
    """One round: scenes to drive and steps to take."""

    demonstrations: int = 0
    """Scenes the expert drives before the round's first step."""
    scenario: str | None = None
    """What the round's scenes are; None: the run's."""
    disturbance: DisturbanceConfig = DisturbanceConfig()
    """What pushes the car about in the round's scenes, whoever drives."""
    rollouts: int = 0
    """Scenes the policy drives during the round's steps; the expert relabels them for the next round."""
    rescue: RescueConfig | None = None
    """When the expert takes over in the rollouts."""
    guarded: bool = False
    """Drive the rollouts guarded: a guard stops the car in places where no demonstration ever stood."""
    steps: int = 500
    frames: int = 1
    """Frames in a training window."""
    batch: int = 32
    """Windows in a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A complete run."""

    name: str
    rig: RigConfig
    policy: PolicyConfig
    rounds: tuple[RoundConfig, ...]
    start: Path | None = None
    """Checkpoint whose weights the run begins with; None: drawn by the seed."""
    decoder_weights: str | None = None
    """Language model the decoder begins with: `smollm2`, or what `model.weights.open_weights` opens; None: none."""
    adapters: AdapterConfig | None = None
    """Which parts of the policy stay as they are, with adapters beside them; None: everything learns."""
    data: tuple[Path, ...] = ()
    """Recorded data sets to learn from, besides what the run drives itself."""
    layout: str | None = None
    """What the fields of those made elsewhere mean: `l2d` or a JSON file (`data.layout`); None: all are ours."""
    scenario: str = "town-mixed"
    sampling: SamplingConfig = SamplingConfig()
    loss: LossConfig = LossConfig()
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 150
    cooldown: float = 0.3
    """Last share of all steps over which the learning rate falls to a twentieth."""
    average: float = 0.998
    """Decay of the running average of the weights that drives and is shipped."""
    clip: float = 30.0
    recent: float = 1.5
    """How much more often a frame of the policy's own driving is drawn than a demonstration's."""
    save_every_s: float = 180.0
    trackers: tuple[str, ...] = ("tensorboard",)
    """Who is told how it goes, besides `log.jsonl`: tensorboard, trackio, wandb."""
    validate: int = 0
    """Validation scenes that each round's policy drives alone, beside its rollouts; 0: none."""
    processes: int = 2
    """Processes that drive; one core fewer while the optimiser also works."""
    workers: str | None = None
    """Who drives: `ray://HOST:PORT` for a Ray cluster, None for processes on this machine."""
    threads: int = 1
    seed: int = 0
    half: bool = True
    """Multiply in bfloat16; else in float32, to compare runs to the last digit."""

    @property
    def steps(self) -> int:
        """All optimiser steps."""
        return sum(r.steps for r in self.rounds)


def train(config: TrainConfig, out: Path, show_progress: bool = True) -> Path:
    """Run or resume the whole schedule in `out`; return the folder of the finished checkpoint."""
    return _Run(config, out, show_progress).run()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Warm up, hold, and fall to a twentieth over the last share of the steps."""
    rise = min(1.0, (step + 1) / config.warmup)
    left = (config.steps - step) / max(1, int(config.steps * config.cooldown))
    fall = 1.0 if left >= 1 else 0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * max(left, 0.0)))
    return config.learning_rate * rise * fall


class _Run:
    """The state of one run: network, average, optimiser, data driven so far."""

    def __init__(self, config: TrainConfig, out: Path, show: bool) -> None:
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.config, self.out, self.show = config, out, show
        require_trackers(config.trackers)
        self.ranks = Ranks()
        self.device = self.ranks.device
        out.mkdir(parents=True, exist_ok=True)
        self.policy = Policy(config.policy).to(self.device)
        taken = adopt(self.policy.decoder, config.decoder_weights).lines() if config.decoder_weights else []
        if config.start is not None:
            _take_weights(self.policy, config.start)
        if config.adapters is not None:
            self.policy = adapt(self.policy, config.adapters).to(self.device)
        self.average = copy.deepcopy(self.policy)
        self.ranks.shard(self.policy)
        self.ranks.shard(self.average)
        self.optimizer = torch.optim.AdamW(
            _groups(self.policy, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98), fused=True
        )
        self.teacher = Teacher(config.loss, config.policy, self.device)
        self.teacher.mean = self.ranks.mean
        self.state = RunState(step=0, decisions=0, seconds=0.0)
        restored = load_latest(out, config, self.policy, self.average, self.optimizer, self.ranks)
        if restored is not None:
            self.state = restored
        # Every process logs the same numbers; those of the others are kept apart.
        own = out if self.ranks.first else out / "ranks" / str(self.ranks.rank)
        trackers = config.trackers if self.ranks.first else ()
        self.log = TrainLog(own, self.state.step, config.steps, show and self.ranks.first, trackers)
        if restored is None:
            for line in taken:
                self.log.note(f"decoder, from {config.decoder_weights}: {line}")
        self.tables: list[FrameTable] = []
        self.saved_at = time.monotonic()

    def run(self) -> Path:
        """Go through the rounds; those already finished only reload what they drove."""
        if not self.config.data and not self.config.rounds[0].demonstrations:
            raise ValueError(f"preset {self.config.name} drives nothing before it learns; name recordings with --data")
        for folder in self.config.data:
            self._add(folder)
        first_step = 0
        for number, plan in enumerate(self.config.rounds):
            if plan.demonstrations:
                if self.ranks.first:
                    self._collect(self._demonstrations(number, plan))
                self._fetch(self._demonstrations(number, plan))
            finished = self.state.step >= first_step + plan.steps
            driver = self.out / f"round-{number}" / "driver"
            if plan.rollouts and self.ranks.agree(not (driver / "manifest.json").exists()):
                self._save_policy(driver, self._memory(number))
                if self.ranks.first:
                    at = {"decisions": self.state.decisions, "minutes": self.state.seconds / 60}
                    write_json(driver / "at.json", at)
            with ThreadPoolExecutor(1) as aside:
                driving = aside.submit(self._roll_out, number, plan if self.ranks.first else replace(plan, rollouts=0))
                if not finished:
                    self._learn(plan, first_step)
                    self._save()
                driving.result()
            if plan.rollouts:
                self._fetch(self._rollouts(number, plan))
            first_step += plan.steps
        final = self.out / "checkpoint"
        self._save_policy(final, self._memory(len(self.config.rounds)))
        self.log.close()
        return final

    # ------------------------------------------------------------------ driving

    def _demonstrations(self, number: int, plan: RoundConfig) -> CollectConfig:
        base = number * 10_000 + self.config.seed * 100_000
        return CollectConfig(
            out=self.out / f"round-{number}" / "demonstrations",
            seeds=(base, base + plan.demonstrations),
            disturbance=plan.disturbance,
            scenario=plan.scenario or self.config.scenario,
            processes=self.config.processes,
            workers=self.config.workers,
            finalize=False,
        )

    def _roll_out(self, number: int, plan: RoundConfig) -> None:
        """Let the policy of the round's start drive; runs beside the optimiser."""
        if not plan.rollouts:
            return
        config = self._rollouts(number, plan)
        self._collect(config)
        if self.config.validate and config.checkpoint is not None:
            scenes, processes = self.config.validate, config.processes
            rate = validate(config.checkpoint, self.config.rig, self.config.scenario, scenes, processes)
            self.log.validated(config.checkpoint, rate)

    def _rollouts(self, number: int, plan: RoundConfig) -> CollectConfig:
        base = number * 10_000 + self.config.seed * 100_000 + 5_000
        return CollectConfig(
            out=self.out / f"round-{number}" / "rollouts",
            seeds=(base, base + plan.rollouts),
            checkpoint=self.out / f"round-{number}" / "driver",
            rescue=plan.rescue,
            guarded=plan.guarded,
            disturbance=plan.disturbance,
            scenario=plan.scenario or self.config.scenario,
            processes=max(1, self.config.processes - 1),
            workers=self.config.workers,
            finalize=False,
        )

    def _collect(self, config: CollectConfig) -> None:
        """Drive what is not on disk yet and add the frames to the tables."""
        done = collect(config, self.config.rig, self.show and config.checkpoint is None)
        if done.scenes or done.failed:
            self.log.note(
                f"drove {done.scenes} scenes, {done.frames} frames in {done.seconds:.0f} s: {done.ended}"
                + (f"; failed: {done.failed[:3]}" if done.failed else "")
            )
            if config.checkpoint is None:
                self.state.seconds += done.seconds
            else:
                self.log.point(config.checkpoint, done, config.rescue is not None)
        self._add(config.out, 1.0 if config.checkpoint is None else self.config.recent)

    def _fetch(self, config: CollectConfig) -> None:
        """Add what the first process has driven to the other processes' tables."""
        self.ranks.wait()
        if not self.ranks.first:
            self._add(config.out, 1.0 if config.checkpoint is None else self.config.recent)

    def _add(self, folder: Path, weight: float = 1.0) -> None:
        """Add a data set's frames to the tables."""
        layout = self.config.layout
        if layout is not None and folder in self.config.data and not is_ours(folder):
            recorded: Dataset | ForeignSet = ForeignSet(folder, find_layout(layout), self.config.rig)
        else:
            recorded = Dataset(folder)
        horizon = self.config.policy.grammar.future_steps
        table = build_table(recorded, horizon, self.config.sampling, self.config.rig, self.out)
        table.weight *= weight
        self.tables.append(table)

    # ------------------------------------------------------------------ learning

    def _learn(self, plan: RoundConfig, first_step: int) -> None:
        """Take the round's steps from wherever the run stands, on the frames driven before the round."""
        frames = Frames(list(self.tables))
        self.teacher.read(frames)
        sampler = Sampler(frames, self.config.sampling, self.config.rig.sensor_names(), self.config.seed)
        self.policy.train()
        for step in range(self.state.step, first_step + plan.steps):
            started = time.monotonic()
            draw = sampler.draw(step, plan.batch, plan.frames, self.config.policy.stream.stride)
            rate = learning_rate(self.config, step)
            losses, norm = self._step(self.teacher.batch(frames, draw), rate)
            self._follow(step)
            self.state.step = step + 1
            self.state.decisions += plan.batch * plan.frames
            self.state.seconds += time.monotonic() - started
            self.log.step(self.state, self.config.steps, losses, rate, norm)
            if self.ranks.agree(time.monotonic() - self.saved_at > self.config.save_every_s):
                self._save()
        self.log.progress.rest()

    def _step(self, batch: tuple[Batch, Targets], rate: float) -> tuple[dict[str, float], float]:
        """Take one optimiser step; return losses and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = len(batch[1].intent)
        batch = (self.ranks.share(batch[0], rows), self.ranks.share(batch[1], rows))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.half):
            losses = self.teacher.losses(self.policy, batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = whole(torch.nn.utils.clip_grad_norm_(learning(self.policy), self.config.clip))
        if not torch.isfinite(norm):
            raise RuntimeError("the gradient is not finite; start the run again to go on from its last state")
        self.optimizer.step()
        return self.ranks.losses(losses), float(norm)

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the average towards the weights, faster at first."""
        keep = min(self.config.average, (1 + step) / (10 + step))
        for slow, fast in zip(self.average.parameters(), self.policy.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
        for kept, fresh in zip(self.average.buffers(), self.policy.buffers(), strict=True):
            kept.copy_(fresh)

    def _save(self) -> None:
        save_state(self.out, self.config, self.state, self.policy, self.average, self.optimizer, self.ranks)
        self.saved_at = time.monotonic()

    def _memory(self, number: int) -> int:
        """Return the longest window trained before a round: a policy does not look at what it never learned."""
        return max([plan.frames for plan in self.config.rounds[:number]], default=1)

    def _save_policy(self, folder: Path, window: int) -> None:
        """Save the average as a policy that remembers `window` frames."""
        stream = replace(self.config.policy.stream, window=window)
        policy = Policy(replace(self.config.policy, stream=stream))
        wanted = policy.state_dict()
        held = folded(self._whole_average()).state_dict()
        cut = {name: held[name][tuple(slice(n) for n in value.shape)] for name, value in wanted.items()}
        policy.load_state_dict(cut)
        if self.ranks.first:
            save_pretrained(policy, folder)
        self.ranks.wait()

    def _whole_average(self) -> Policy:
        """Return the average in one piece."""
        if self.ranks.count == 1:
            return self.average
        like = Policy(self.config.policy)
        return whole_copy(self.average, adapt(like, self.config.adapters) if self.config.adapters is not None else like)


def _take_weights(policy: Policy, folder: Path) -> None:
    """Begin with a checkpoint's weights. Raises ValueError where its architecture is another."""
    given = from_pretrained(folder)
    # It may read words another way, and remember fewer frames: what it lacks of a longer memory starts as drawn.
    if replace(given.config, stream=policy.config.stream, reader=policy.config.reader) != policy.config:
        raise ValueError(f"{folder} is of another architecture than the run's policy; choose its preset, or no --start")
    own = policy.state_dict()
    for name, value in given.state_dict().items():
        own[name][tuple(slice(n) for n in value.shape)] = value
    policy.load_state_dict(own)


def _groups(policy: Policy, decay: float) -> list[dict[str, Any]]:
    """Decay matrices, not gains, biases and embeddings of one row."""
    matrices = [p for p in learning(policy) if p.ndim >= 2]
    others = [p for p in learning(policy) if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def config_as_json(config: TrainConfig) -> dict[str, Any]:
    """Return the whole configuration as plain values."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.floating, np.integer)):
        return value.item()
    return str(value) if isinstance(value, Path) else value
