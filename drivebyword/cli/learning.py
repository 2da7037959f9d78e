"""`drivebyword collect`, `train` and `iterate`: scenes driven and kept, checkpoints made and made better."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from drivebyword.cli.judging import command


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Drive scenes with the expert (or a checkpoint it relabels) and keep them as a LeRobot dataset."""

    out: Path = Path("out/collect")
    """Folder of the dataset; a killed run goes on where it was."""
    scenario: str = "town-mixed"
    """Scenario to drive in."""
    seeds: str = "0:200"
    """Scene seeds A:B, B excluded; test seeds are refused."""
    checkpoint: Path | None = None
    """Who drives: a checkpoint, or the expert without one."""
    processes: int = 2
    """Cores to use."""
    workers: str | None = None
    """ray://HOST:10001 to drive on a Ray cluster (ray://auto: the one this machine belongs to)."""

    def run(self) -> int:
        """Collect and count."""
        from drivebyword.train.collect import CollectConfig, collect
        from drivebyword.world.rigs import tiny
        from drivebyword.world.scenario import find_scenario

        find_scenario(self.scenario)  # Before any worker starts.
        seeds = _seed_range(self.seeds)
        done = collect(
            CollectConfig(
                out=self.out,
                scenario=self.scenario,
                seeds=seeds,
                checkpoint=self.checkpoint,
                processes=self.processes,
                workers=self.workers,
            ),
            tiny(),
        )
        for line in done.failed:
            print(f"failed: {line}", file=sys.stderr)
        print(
            f"{done.scenes} scenes, {done.frames} frames, {len(done.failed)} failed, {done.seconds:.0f} s: {self.out}"
        )
        return 1 if done.failed else 0


@dataclass(frozen=True, kw_only=True)
class Train:
    """Make a checkpoint: rounds of driving, relabelling and learning, from nothing or from what is there."""

    preset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PRESET")] = "tiny"
    """Name of a preset."""
    out: Path = Path("out/train/tiny")
    """Folder of the run; a killed run goes on where it was, bit by bit."""
    start: Path | None = None
    """Checkpoint to begin with; from nothing without one."""
    decoder_weights: str | None = None
    """Language model the decoder begins with: smollm2, a Hugging Face folder, a .gguf file or a hub id."""
    rank: int | None = None
    """The decoder stays as it is, with adapters of this rank beside its matrices; without, everything learns."""
    data: tuple[Path, ...] = ()
    """Recorded data sets to learn from, besides what the run drives itself."""
    layout: str | None = None
    """What the fields of sets made elsewhere mean: l2d, or a JSON file."""
    processes: int = 2
    """Cores to use."""
    workers: str | None = None
    """ray://HOST:10001 to drive on a Ray cluster (ray://auto: the one this machine belongs to)."""
    threads: int = 1
    """CPU threads of the optimiser; the policy drives on the other cores meanwhile."""
    seed: int | None = None
    """Seed of weights, scenes and batches; the preset's own without it."""
    validate: int = 0
    """Validation scenes that each round's policy drives alone; their success is shown with its interval."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Who is told how it goes, besides log.jsonl: tensorboard, trackio, wandb."""

    def run(self) -> int:
        """Train."""
        from dataclasses import replace

        from drivebyword.data.layout import find_layout
        from drivebyword.model.adapters import AdapterConfig
        from drivebyword.presets import preset
        from drivebyword.train.loop import train

        chosen = preset(self.preset)
        if self.layout is not None:
            find_layout(self.layout)  # Before any scene is driven.
        config = replace(
            chosen,
            start=self.start,
            decoder_weights=self.decoder_weights or chosen.decoder_weights,
            adapters=chosen.adapters if self.rank is None else AdapterConfig(rank=self.rank),
            data=self.data,
            layout=self.layout,
            processes=self.processes,
            workers=self.workers,
            threads=self.threads,
            seed=chosen.seed if self.seed is None else self.seed,
            validate=self.validate,
            trackers=self.trackers,
        )
        print(f"checkpoint: {train(config, self.out)}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Iterate:
    """From the failing scenes of a report to a better checkpoint: variants, practice, judging, a verdict."""

    report: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="REPORT")]
    """report.json of `evaluate` on validation seeds."""
    checkpoint: str = "tiny"
    """What is to become better: `tiny` (shipped) or the folder of a checkpoint."""
    preset: str = "tiny-cycle"
    """How it is trained."""
    data: tuple[Path, ...] = ()
    """Recorded data sets it goes on imitating."""
    row: str = "policy"
    """Whose failures count."""
    failing: int = 20
    """At most so many failing scenes are worked on."""
    fresh: int = 40
    """Other validation scenes of the same scenarios to be judged on, before and after."""
    town: int = 40
    """Scenes of `town` in which nothing may get worse."""
    guard: bool = False
    """Judge with the guard."""
    processes: int = 2
    """Cores to use."""
    out: Path = Path("out/iterate")
    """Folder of the cycle; a killed one goes on where it was."""

    def run(self) -> int:
        """Go round once; 1 if the new checkpoint is not accepted."""
        from dataclasses import replace

        from drivebyword.evaluate.iterate import IterateConfig, iterate
        from drivebyword.loop.policies import checkpoint_folder
        from drivebyword.presets import preset

        config = IterateConfig(
            report=self.report,
            checkpoint=checkpoint_folder(self.checkpoint),
            row=self.row,
            failing=self.failing,
            fresh=self.fresh,
            town=self.town,
            guarded=self.guard,
            processes=self.processes,
        )
        run = replace(preset(self.preset), data=self.data, processes=self.processes)
        found = iterate(config, run, self.out, command())
        print(f"{'accepted' if found['accepted'] else 'not accepted'}: {found['why']}")
        spent = ", ".join(f"{name} {value:.1f}" for name, value in found["minutes"].items())
        print(f"iteration cycle: {found['iteration_cycle_minutes']:.1f} minutes ({spent})")
        print(f"human labels: {found['human_labels']}")
        print(f"checkpoint: {self.out / found['checkpoint']}")
        return 0 if found["accepted"] else 1


def _seed_range(text: str) -> tuple[int, int]:
    """Read `A:B`."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal()):
        raise ValueError(f"--seeds {text!r} is no range; write it as --seeds 0:200")
    return int(first), int(last)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Say what our decoder takes of a pretrained language model: a Hugging Face folder, a .gguf file or a hub id."""

    source: Annotated[str, tyro.conf.Positional]
    """Where the weights are."""

    def run(self) -> int:
        """Open, take and report."""
        from drivebyword.model.language import take
        from drivebyword.model.weights import open_weights

        file = open_weights(self.source)
        found = file.architecture
        model, report = take(file)
        tokens = "no tokenizer" if model.tokenizer is None else f"{model.tokenizer.get_vocab_size():,} tokens"
        print(f"{found.kind}: {found.decoder.layers} layers, width {found.decoder.width}, {tokens}")
        print("\n".join(report.lines()))
        return 0
