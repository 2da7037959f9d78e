"""`drivebyword evaluate`, `compare` and `bench`: closed-loop scores, paired differences, speeds."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from drivebyword.evaluate.rows import DriverFactory, Row


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Drive a policy and its control rows through a suite, closed-loop, and report rates with intervals."""

    suite: str = "town"
    """Name of a suite."""
    seeds: str = "300"
    """The first N test seeds, or A:B with B excluded."""
    policy: str = "tiny"
    """`tiny` (shipped), `expert`, `constant`, or the folder of a checkpoint."""
    random_reader: str | None = None
    """Checkpoint of the policy behind a language model with random weights; adds the rows random-reader*."""
    rows: Annotated[str | None, tyro.conf.arg(metavar="ROW,ROW")] = None
    """Rows to judge, e.g. policy,guarded,expert; all of them without it."""
    gate: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="[ROW.]METRIC=BOUND")] = ()
    """METRIC=BOUND or ROW.METRIC=BOUND that the interval must pass, else exit code 1; may be given again."""
    processes: int = 2
    """Cores to use: each network has twelve worlds around it."""
    out: Path = Path("out/evaluate")
    """Folder for report.json and report.html; a killed run goes on where it was."""

    def run(self) -> int:
        """Judge, then print the table."""
        from drivebyword.evaluate.rows import choose_rows, standard_rows

        control = None if self.random_reader is None else _factory(self.random_reader)
        rows = standard_rows(_factory(self.policy), control)
        if self.rows is not None:
            rows = choose_rows(rows, [name.strip() for name in self.rows.split(",")])
        return _judge(rows, self.suite, self.seeds, self.out, self.processes, self.gate)


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Drive two policies through the same scenes and report the paired difference."""

    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="POLICY")]
    """`tiny`, `expert`, `constant`, or the folder of a checkpoint."""
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="POLICY")]
    """What to compare it with."""
    suite: str = "town"
    """Name of a suite."""
    seeds: str = "100"
    """The first N test seeds, or A:B with B excluded."""
    guard: bool = False
    """Let the guard check every act of both."""
    processes: int = 2
    """Cores to use: each network has twelve worlds around it."""
    out: Path = Path("out/compare")
    """Folder for report.json and report.html; a killed run goes on where it was."""

    def run(self) -> int:
        """Judge both, then print the differences."""
        from drivebyword.data.files import read_json
        from drivebyword.evaluate.rows import Row

        if self.first == self.second:
            raise ValueError(f"both policies are {self.first!r}: name two different ones")
        rows = {name: Row(driver=_factory(name), guarded=self.guard) for name in (self.first, self.second)}
        code = _judge(rows, self.suite, self.seeds, self.out, self.processes, ())
        for found in read_json(self.out / "report.json")["comparisons"]:
            print(
                f"{found['metric']}: {found['a']} minus {found['b']} = {found['difference']:+.3f} "
                f"[{found['low']:+.3f}, {found['high']:+.3f}], p = {found['p_value']:.3g}, n = {found['n']}"
            )
        return code


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Compare a training run's policy before and after its practice: every score, the worst families, alarms."""

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a finished `train` run in which the policy practised."""
    suite: str = "town-mixed"
    """Name of a suite."""
    seeds: str = "1000000:1000040"
    """Scenes A:B, B excluded."""
    guard: bool = False
    """Let the guard check every act of both."""
    processes: int = 2
    """Cores to use."""
    out: Path | None = None
    """Folder for audit.json and audit.html; `audit` in the run's folder without it. A killed one goes on."""

    def run(self) -> int:
        """Judge both on the same scenes; 1 if there is an alarm."""
        from drivebyword.evaluate.audit import before_and_after, write_audit
        from drivebyword.evaluate.suites import parse_seeds, suite
        from drivebyword.world.rigs import tiny

        out = self.out or self.run_folder / "audit"
        found = before_and_after(
            self.run_folder, suite(self.suite), parse_seeds(self.seeds), out, rig=tiny(), guarded=self.guard,
            processes=self.processes, command=command(),
        )  # fmt: skip
        page = write_audit(found, out)
        for name in ("success", "driving_score", "collision_at_fault"):
            m = found["measures"][name]
            print(f"{name}: {m['before']:.3f} -> {m['after']:.3f}, {m['difference']:+.3f} "
                  f"[{m['low']:+.3f}, {m['high']:+.3f}]")  # fmt: skip
        for alarm in found["alarms"]:
            print(f"alarm: {alarm['alarm']} ({alarm['measure']} {alarm['by']:+.3f})", file=sys.stderr)
        print(f"audit: {page}")
        return 1 if found["alarms"] else 0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure this machine and the world's manners.

    world: frames per CPU-second. latency: milliseconds a decision. size: parameters, operations and floors of every
    preset. mixtures: our mixture of experts against transformers' and against dense. train: a memory learned from
    --data, against a plain loop that encodes the window again for every decision; with --preset a step and a decision
    of a large policy in little memory. smolvla: a decision at SmolVLA's shape. routes: which experts are asked, by
    family, side of the road and sensor. parallel: two worlds against one, memory, reset. fuzz: 100,000 actions and
    1,000 configurations of nonsense. soak: half an hour of scenes, what leaks. repeats: the same scenes in three
    processes, byte by byte. faults: worlds killed and stopped while a policy trains. precision: each engine's tokens
    against float32's.
    """

    what: tyro.conf.Positional[
        Literal[
            "world", "latency", "size", "mixtures", "train", "smolvla", "routes", "parallel", "fuzz", "soak", "repeats",
            "faults", "precision",
        ]
    ]  # fmt: skip
    """What to measure."""
    share: float = 1.0
    """How much of the whole to run, e.g. 0.01; world and size always run whole."""
    policy: str = "tiny"
    """latency, routes: whose decisions; faults: the preset that trains."""
    engine: str = "torch"
    """latency: what computes: torch, onnx, openvino, openvino-bf16, fused, fused-bf16 or fused-int8."""
    peers: bool = False
    """latency: a model of 25 million parameters beside transformers', instead of a policy."""
    acceptance: Path | None = None
    """latency --peers: a report of `bench precision`, for how many passes a draft takes where a policy drives."""
    recordings: Path = Path("out/collect")
    """precision: a dataset whose frames the engines decide on."""
    data: tuple[Path, ...] = ()
    """train: recorded scenes to learn from, and others to judge with."""
    preset: str | None = None
    """train: a preset to take --steps of, frozen in bfloat16 with adapters beside it."""
    steps: int = 1
    """train: steps of that preset."""
    out: Path = Path("out/bench")
    """Folder for the report."""

    def run(self) -> int:
        """Measure, write and print."""
        from drivebyword.data.files import write_json

        if not 0.0 < self.share <= 10.0:
            raise ValueError(f"--share {self.share:g} is outside (0, 10]")
        report = {"command": command(), **self._measure()}
        path = write_json(self.out / f"{self.what}.json", report)
        met = True
        for name, row in report["rows"].items():
            floor, ceiling = row.get("floor"), row.get("ceiling")
            met = met and (floor is None or row["value"] >= floor) and (ceiling is None or row["value"] <= ceiling)
            bounds = [
                f"{word} {bound:g}" for word, bound in (("floor", floor), ("at most", ceiling)) if bound is not None
            ]
            shown = f"{row['value']:,.0f}" if row["value"] >= 1e4 else f"{row['value']:.4g}"
            print(f"{name}: {shown} {row['unit']}" + (f" ({bounds[0]})" if bounds else ""))
        print(f"report: {path}")
        return 0 if met else 1

    def _measure(self) -> dict[str, Any]:
        match self.what:
            case "world":
                from drivebyword.evaluate.bench import bench_world

                return bench_world()
            case "precision":
                from drivebyword.evaluate.precision import bench_precision
                from drivebyword.loop.policies import checkpoint_folder
                from drivebyword.model.engines import ENGINES

                folder, frames = checkpoint_folder(self.policy), round(2000 * self.share)
                return bench_precision(folder, self.recordings, frames, ENGINES[1:], _say)
            case "latency" if self.peers:
                from drivebyword.evaluate.peers import bench_peers

                return bench_peers(max(2, round(10 * self.share)), self.acceptance)
            case "latency":
                from drivebyword.evaluate.latency import bench_latency
                from drivebyword.loop.policies import checkpoint_folder

                decisions = max(20, round(3000 * self.share))
                return bench_latency(checkpoint_folder(self.policy), decisions, self.engine)
            case "size":
                from drivebyword.evaluate.size import bench_size
                from drivebyword.presets import SIZED, preset

                return bench_size({name: preset(name).policy for name in SIZED})
            case "mixtures":
                from drivebyword.evaluate.mixtures import bench_mixtures

                return bench_mixtures(self.share, _say)
            case "train":
                from drivebyword.evaluate.training import bench_train
                from drivebyword.presets import preset

                if self.preset is not None:
                    from drivebyword.evaluate.large import bench_large

                    return bench_large(self.preset, preset(self.preset).policy, self.steps, _say)
                return bench_train(preset("tiny").policy, self.data, self.share, self.out, _say)
            case "smolvla":
                from drivebyword.evaluate.smolvla import bench_smolvla

                return bench_smolvla(self.share, _say)
            case "routes":
                from drivebyword.evaluate.routes import bench_routes
                from drivebyword.loop.policies import checkpoint_folder

                return bench_routes(checkpoint_folder(self.policy), self.share, _say)
            case "parallel":
                from drivebyword.evaluate.parallel import bench_parallel

                return bench_parallel(self.share)
            case "fuzz":
                from drivebyword.evaluate.fuzz import bench_fuzz

                return bench_fuzz(self.share)
            case "soak":
                from drivebyword.evaluate.soak import bench_soak

                return bench_soak(self.share, _say)
            case "repeats":
                from drivebyword.evaluate.repeats import bench_repeats

                return bench_repeats(self.share)
            case "faults":
                from drivebyword.evaluate.faults import bench_faults
                from drivebyword.presets import preset

                return bench_faults(preset(self.policy), self.share)


def _say(line: str) -> None:
    print(line, flush=True)


def command() -> str:
    """Return the command line as a report tells it: a path from where it was run, not from one machine's root."""
    words = [os.path.relpath(word) if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return "drivebyword " + " ".join(map(shlex.quote, words))


def _factory(name: str) -> DriverFactory:
    """Return what makes the policy of that name in every worker."""
    from drivebyword.evaluate.rows import constant_speed, expert
    from drivebyword.loop.batching import Checkpoint
    from drivebyword.loop.policies import checkpoint_folder

    privileged = {"expert": expert, "constant": constant_speed}
    return privileged[name] if name in privileged else Checkpoint(checkpoint_folder(name))


def _judge(rows: dict[str, Row], suite_name: str, seeds: str, out: Path, processes: int, gates: tuple[str, ...]) -> int:
    """Judge, print the table and the gates that were not met."""
    from drivebyword.evaluate.judge import evaluate
    from drivebyword.evaluate.report import check_gates, render_table
    from drivebyword.evaluate.suites import parse_seeds, suite
    from drivebyword.world.rigs import tiny

    report: dict[str, Any] = evaluate(
        rows, suite(suite_name), parse_seeds(seeds), out, rig=tiny(), processes=processes, command=command()
    )
    print(render_table(report))
    missed = check_gates(report, list(gates))
    for line in missed:
        print(f"gate not met: {line}", file=sys.stderr)
    print(f"report: {out / 'report.html'}")
    return 1 if missed else 0
