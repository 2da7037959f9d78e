"""One training loop: rounds of driving, relabelling, practising and learning, from nothing to a checkpoint.

While one round's optimiser steps run, the policy as it was at the round's start drives new scenes in other
processes, and the expert labels every state it reaches (DAgger); in some rounds it also practises: it drives the
same scenes several times by lot, and what one rollout earned more than its siblings is credited to what it drew.
The next round learns from all of it, in one batch and one loss:

    imitation + beta * advantage * log-probability of what was drawn + kappa * KL(policy || slow copy)

Nobody waits, and everything is a function of the seed. All lives in one folder, and a killed run, started again,
goes on bit-exactly: batches are a function of (seed, step), driven scenes are parts on disk, and model,
optimiser and average are saved together, atomically.

    drivebyword train tiny --out runs/tiny
"""

from __future__ import annotations

import copy
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from drivebyword.core.rig import RigConfig
from drivebyword.data.files import write_json
from drivebyword.data.foreign import ForeignSet, opened
from drivebyword.model.adapters import AdapterConfig, adapt, learning
from drivebyword.model.checkpoint import from_pretrained
from drivebyword.model.language import adopt
from drivebyword.model.policy import Policy, PolicyConfig
from drivebyword.tokens.stream import Batch
from drivebyword.train.collect import CollectConfig, collect
from drivebyword.train.curriculum import Curriculum, CurriculumConfig, Scene
from drivebyword.train.drives import Crew
from drivebyword.train.log import TrainLog
from drivebyword.train.loss import LossConfig, Targets, Teacher
from drivebyword.train.practice import PracticeConfig, driven_outcomes, experience, outcomes, practise, read_groups
from drivebyword.train.reinforce import Experience, Practice, Practised, ReinforceConfig
from drivebyword.train.rounds import RoundConfig
from drivebyword.train.sharding import Ranks, whole
from drivebyword.train.spent import Spent
from drivebyword.train.state import RunState, load_latest, save_state
from drivebyword.train.table import Frames, FrameTable, Sampler, SamplingConfig, build_table
from drivebyword.train.trackers import require_trackers
from drivebyword.train.validate import validate
from drivebyword.train.weights import blend, groups_of, save_average, take_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A complete run."""

    name: str
    rig: RigConfig
    policy: PolicyConfig
    rounds: tuple[RoundConfig, ...]
    start: Path | None = None
    """Checkpoint whose weights the run begins with; None: drawn by the seed."""
    keep: float = 0.0
    """Share of the start's weights in the finished checkpoint."""
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
    curriculum: CurriculumConfig = CurriculumConfig()
    """Where to practise."""
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
            take_weights(self.policy, config.start)
        if config.adapters is not None:
            self.policy = adapt(self.policy, config.adapters).to(self.device)
        self.average = copy.deepcopy(self.policy)
        self.ranks.shard(self.policy)
        self.ranks.shard(self.average)
        self.optimizer = torch.optim.AdamW(
            groups_of(self.policy, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98), fused=True
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
        self.experience: list[Experience] = []
        self.curriculum = Curriculum(config.curriculum)
        self.spent = Spent()
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
            if (plan.rollouts or plan.practice) and self.ranks.agree(not (driver / "manifest.json").exists()):
                self._save_policy(driver, self._memory(number))
                if self.ranks.first:
                    at = {"decisions": self.state.decisions, "minutes": self.state.seconds / 60}
                    write_json(driver / "at.json", at)
            with ThreadPoolExecutor(1) as aside:
                driving = aside.submit(self._roll_out, number, plan) if self.ranks.first else None
                if not finished:
                    self._learn(number, plan, first_step)
                    self._save()
                if driving is not None:
                    driving.result()
            if plan.practice is not None:
                self.ranks.wait()
                if not self.ranks.first:
                    self._earned(number, plan.practice)
            if plan.rollouts:
                self._fetch(self._rollouts(number, plan))
                self._judged(number, plan)
            self.state.curriculum = self.curriculum.state()
            self._account(number, plan, finished)
            first_step += plan.steps
        final = self.out / "checkpoint"
        self._save_policy(final, self._memory(len(self.config.rounds)))
        if self.config.keep and self.config.start is not None and self.ranks.first:
            blend(final, self.config.start, self.config.keep)
        self.log.close()
        return final

    def _account(self, number: int, plan: RoundConfig, finished: bool) -> None:
        """Say where a practising round's time went."""
        if plan.practice is not None and not finished and self.ranks.first:
            table = self.spent.write(self.out / f"round-{number}" / "spent.json")
            shown = ", ".join(f"{name} {value:.0f}" for name, value in table.items() if value >= 1.0)
            self.log.note(f"round {number}, CPU-seconds: {shown}")
        self.spent = Spent()

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
        driver = self.out / f"round-{number}" / "driver"
        if plan.practice is not None:
            self._practise(number, driver, plan.practice)
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

    def _practise(self, number: int, driver: Path, practice: PracticeConfig) -> None:
        """Drive the round's groups and keep what they earned."""
        processes, workers = max(1, self.config.processes - 1), self.config.workers
        folder, scenes = self._practised(number, practice)
        crew = Crew(out=folder, rig=self.config.rig, checkpoint=driver, processes=processes, workers=workers)
        done = practise(crew, scenes, practice, self.config.policy.grammar)
        self.log.drove(done, "rollouts of practice")
        self.spent.drivers(done.cpu)
        self._earned(number, practice)

    def _practised(self, number: int, practice: PracticeConfig) -> tuple[Path, list[Scene]]:
        """Return where a round's groups are, and their scenes."""
        scenes = self.curriculum.plan(practice.scenes, self.config.seed, number)
        return self.out / f"round-{number}" / "practice", scenes

    def _earned(self, number: int, practice: PracticeConfig) -> None:
        """Read what a round's groups earned; what failed decides where to practise next."""
        grammar, wordings = self.config.policy.grammar, self.teacher.wordings
        folder, scenes = self._practised(number, practice)
        with self.spent.on("reading episodes"):
            groups = read_groups(folder, scenes, practice.rollouts)
            self.curriculum.learn(outcomes(groups, practice.rollouts))
            order = self._add(folder, self.config.recent)
            self.experience.append(experience(groups, order, self.tables[-1], practice, grammar, wordings, number))

    def _judged(self, number: int, plan: RoundConfig) -> None:
        """Let the curriculum learn from rollouts in which nobody helped."""
        if plan.rescue is None and any(one.practice for one in self.config.rounds):
            self.curriculum.learn(driven_outcomes(self._rollouts(number, plan).out))

    def _collect(self, config: CollectConfig) -> None:
        """Drive what is not on disk yet and add the frames to the tables."""
        done = collect(config, self.config.rig, self.show and config.checkpoint is None)
        if done.scenes or done.failed:
            self.log.drove(done, "scenes")
            self.spent.drivers(done.cpu)
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

    def _add(self, folder: Path, weight: float = 1.0) -> list[tuple[str, int, str]]:
        """Add a data set's frames to the tables; return its episodes in their order."""
        layout = self.config.layout if folder in self.config.data else None
        recorded = opened(folder, layout, self.config.rig)
        horizon = self.config.policy.grammar.future_steps
        table = build_table(recorded, horizon, self.config.sampling, self.config.rig, self.out)
        table.weight *= weight
        self.tables.append(table)
        return [] if isinstance(recorded, ForeignSet) else [(e.scenario, e.seed, e.driver) for e in recorded.episodes]

    # ------------------------------------------------------------------ learning

    def _learn(self, number: int, plan: RoundConfig, first_step: int) -> None:
        """Take the round's steps from wherever the run stands, on the frames driven before the round."""
        frames = Frames(list(self.tables))
        self.teacher.read(frames)
        practice = self._fresh(number, plan.reinforce)
        sampler = Sampler(frames, self.config.sampling, self.config.rig.sensor_names(), self.config.seed)
        self.policy.train()
        for step in range(self.state.step, first_step + plan.steps):
            started = time.monotonic()
            rate = learning_rate(self.config, step)
            with self.spent.on("gathering batches"):
                draw = sampler.draw(step, plan.batch, plan.frames, self.config.policy.stream.stride)
                batch = self.teacher.batch(frames, draw)
                rows = self._rows(practice, plan, step) if practice is not None else None
            with self.spent.on("optimiser"):
                losses, norm = self._step(batch, rows, rate)
                self._follow(step)
            self.state.step = step + 1
            self.state.decisions += plan.batch * plan.frames
            self.state.seconds += time.monotonic() - started
            self.log.step(self.state, self.config.steps, losses, rate, norm)
            if self.ranks.agree(time.monotonic() - self.saved_at > self.config.save_every_s):
                with self.spent.on("saving"):
                    self._save()
        self.log.progress.rest()

    def _fresh(self, number: int, config: ReinforceConfig) -> Practice | None:
        """Return the practice of the last rounds, or None where nothing is to be learned from it."""
        recent = [one for one in list(self.experience) if number - config.fresh <= one.round < number]
        if not config.active or not recent:
            return None
        drivers = [from_pretrained(self.out / f"round-{one.round}" / "driver").to(self.device).eval() for one in recent]
        stream, wordings = self.config.policy.stream, self.teacher.wordings
        practice = Practice(recent, drivers, wordings, stream, self.config.seed, self.device)
        return practice if practice else None

    def _rows(self, practice: Practice, plan: RoundConfig, step: int) -> Practised:
        """Draw the step's rows of own driving."""
        return practice.draw(step, max(1, round(plan.batch * plan.reinforce.share)), plan.frames, plan.reinforce)

    def _step(
        self, batch: tuple[Batch, Targets], practised: Practised | None, rate: float
    ) -> tuple[dict[str, float], float]:
        """Take one optimiser step; return losses and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = len(batch[1].intent)
        batch = (self.ranks.share(batch[0], rows), self.ranks.share(batch[1], rows))
        practised = None if practised is None else practised.shared(self.ranks)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.half):
            losses = self.teacher.losses(self.policy, batch, practised)
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
        save_average(self.average, self.config.policy, self.config.adapters, window, folder, self.ranks)
