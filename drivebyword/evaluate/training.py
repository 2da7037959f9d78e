"""How fast a memory is learned: recorded frames in, a bench report out (CPU time to an equal loss, best schedules).

Ours encodes a window of k frames once and trains its k decisions, under autocast in bfloat16 with the fused AdamW, as
the training loop does. The peer is a plain loop around transformers' LlamaModel in float32: behind the same frame
encoder, with the same heads and losses, it encodes the window again for every decision. Its decisions are unrelated
ones, which teach more than neighbours do; how many of each way reach the same loss on held-out scenes is counted with
our own model both times. Minutes are those counts times what a decision costs, measured side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from drivebyword.evaluate.clock import in_turn, middle
from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from torch import Tensor, nn

    from drivebyword.model.policy import Policy, PolicyConfig
    from drivebyword.tokens.stream import Batch
    from drivebyword.train.loss import Targets, Teacher
    from drivebyword.train.table import Frames, Sampler

DECISIONS = 36
"""In a batch, whatever the window."""
STEPS, EVERY, HELD = 200, 20, 96
"""Steps of a run, steps between two looks at the held-out loss, decisions it is the mean of."""
RATE, WARM_UP = 1e-3, 30
FASTER = 6.0
WINDOWS = (1, 3, 5)
"""Frames of a window whose speed is compared; the memory that is learned is the policy's own."""
PEER = "transformers Llama, float32, the window encoded again for every decision"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a run draws its decisions."""

    name: str
    frames: tuple[int, ...]
    """Frames of a window, in equal parts of the run."""
    related: bool = True
    """Train all decisions of a window, or its last alone."""


WINDOWED = Way(name="windows", frames=(0,))  # 0: the policy's own memory
UNRELATED = Way(name="unrelated decisions with a memory", frames=(0,), related=False)
WAYS = (
    Way(name="single frames", frames=(1,)),
    WINDOWED,
    Way(name="single frames, then windows", frames=(1, 0)),
    UNRELATED,
)


class Recorded:
    """Recorded frames and the teacher that makes batches of them."""

    def __init__(self, config: PolicyConfig, learned: Path, held: Path) -> None:
        import torch

        from drivebyword.data.dataset import Dataset
        from drivebyword.train.loss import LossConfig, Teacher
        from drivebyword.train.table import Frames, Sampler, SamplingConfig, build_table

        horizon, sensors = config.grammar.future_steps, config.rig.sensor_names()
        still = SamplingConfig(drop_sensor=0.0, drop_all_but_one_camera=0.0, drop_history=0.0)
        self.config = config
        self.frames, self.held = (
            Frames([build_table(Dataset(d), horizon, still, config.rig, d)]) for d in (learned, held)
        )
        self.teacher = Teacher(LossConfig(), config, torch.device("cpu"))
        plain = LossConfig(null_wordings=0.0, drop_word=0.0, word_noise=0.0, silence=0.0)
        judge = Teacher(plain, config, torch.device("cpu"), self.teacher.wordings)
        self.sampler = Sampler(self.frames, SamplingConfig(), sensors, 0)
        drawn = Sampler(self.held, still, sensors, 1)
        self.exam = [self._pair(judge, drawn, self.held, k, config.stream.window, 24, False) for k in range(HELD // 24)]

    def batch(self, step: int, frames: int, related: bool) -> tuple[Batch, Targets]:
        """Draw a batch: windows whose decisions are all trained, or as many of which the last one is."""
        windows = max(1, DECISIONS // frames) if related else DECISIONS
        return self._pair(self.teacher, self.sampler, self.frames, step, frames, windows, related)

    def _pair(
        self, teacher: Teacher, sampler: Sampler, frames: Frames, step: int, length: int, windows: int, related: bool
    ) -> tuple[Batch, Targets]:
        batch, targets = teacher.batch(frames, sampler.draw(step, windows, length, self.config.stream.stride))
        if not related:
            trained = targets.trained.clone()
            trained[:, :-1] = False
            targets = replace(targets, trained=trained)
        return batch, targets

    def loss(self, policy: Policy) -> float:
        """Return the act loss on held-out scenes, with the policy's whole memory."""
        import torch

        policy.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = [float(self.teacher.losses(policy, pair)["act"]) for pair in self.exam]
        policy.train()
        return sum(found) / len(found)


def bench_train(
    config: PolicyConfig, data: Sequence[Path], share: float, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Learn in all ways, then time both loops; what is done is kept in `out`, and a killed run goes on from there.

    Args:
        config: The policy's shape and memory.
        data: A data set to learn from, and one of other scenes.
        share: Of 200 steps a run.
        out: Folder for what is done.
        say: Told of every look at the held-out loss.

    Raises:
        ValueError: If there are not two data sets.
    """
    import torch

    if len(data) != 2:
        raise ValueError("--data takes two recorded data sets: scenes to learn from, and others to judge with")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recorded = Recorded(config, *data)
        curves = {way.name: learned(recorded, way, share, out, say) for way in WAYS}
        costs = {frames: cost(recorded, frames, out, say) for frames in WINDOWS}
    finally:
        torch.set_num_threads(threads)
    rows = _costs_rows(costs) | _curve_rows(config.stream.window, curves, costs)
    return {
        "bench": "train", "machine": machine(), "commit": commit(), "frames": len(recorded.frames),
        "held_frames": len(recorded.held), "curves": curves, "rows": rows,
    }  # fmt: skip


# --------------------------------------------------------------------------- learning


def learned(
    recorded: Recorded, way: Way, share: float, out: Path, say: Callable[[str], None]
) -> list[dict[str, float]]:
    """Learn one way; return decisions, CPU seconds and held-out act loss every so many steps. Kept in `out`."""
    import torch

    from drivebyword.data.files import read_json, write_json
    from drivebyword.model.policy import Policy

    steps = max(2 * EVERY, round(STEPS * share / EVERY) * EVERY)
    kept = out / "train" / f"{way.name.replace(' ', '-').replace(',', '')}-{steps}.json"
    if kept.exists():
        return [{name: float(value) for name, value in point.items()} for point in read_json(kept)["curve"]]
    torch.manual_seed(0)
    policy = Policy(recorded.config).train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    found, seconds, decisions = list[dict[str, float]](), 0.0, 0.0
    for step in range(steps):
        frames = way.frames[step * len(way.frames) // steps] or recorded.config.stream.window
        before = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP)
        pair = recorded.batch(step, frames, way.related)
        _learn(policy, optimizer, recorded.teacher, pair, half=True)
        seconds += time.process_time() - before
        decisions += max(1, DECISIONS // frames) * frames if way.related else DECISIONS
        if (step + 1) % EVERY == 0:
            loss = recorded.loss(policy)
            found.append({"decisions": decisions, "seconds": round(seconds, 2), "act": round(loss, 4)})
            say(f"{way.name}: {decisions:.0f} decisions, {seconds:.0f} CPU-seconds, held-out act loss {loss:.3f}")
    write_json(kept, {"curve": found})
    return found


def _learn(policy: nn.Module, optimizer: Any, teacher: Teacher, pair: tuple[Batch, Targets], *, half: bool) -> None:
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses = teacher.losses(cast("Policy", policy), pair)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 30.0)
    optimizer.step()


# --------------------------------------------------------------------------- what a decision costs


def plain_policy(config: PolicyConfig) -> nn.Module:
    """Return the peer: our frame encoder and heads around transformers' LlamaModel; answers for the last frame alone.

    Where ours has experts, the peer has as much dense feed-forward as a token passes through: it computes no more.
    """
    import torch
    from torch import nn

    from drivebyword.model.policy import Output, Policy

    try:
        from transformers import LlamaConfig, LlamaModel
    except ImportError:
        raise ValueError("this bench compares with transformers: pip install transformers") from None
    c = config.decoder
    mixed = c.expert_hidden * c.experts_per_token + c.shared_hidden
    mixtures = max(0, c.layers - c.moe_from) if c.experts else 0
    feed = (c.hidden * (c.layers - mixtures) + mixed * mixtures) // c.layers

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = Policy(config)
            self.policy.decoder = nn.Identity()  # type: ignore[assignment]
            self.llama = LlamaModel(
                LlamaConfig(
                    vocab_size=8, hidden_size=c.width, intermediate_size=feed, num_hidden_layers=c.layers,
                    num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.head_width,
                    bos_token_id=None, eos_token_id=None, pad_token_id=None,
                )
            )  # fmt: skip

        def forward(self, batch: Batch) -> Output:
            policy = self.policy
            told = policy.read(batch.words, batch.word_mask)
            tokens, _ = policy.see(batch, told.words)
            acts = policy.act_states(batch.tokens[:, -1:])
            x = torch.cat([told.tokens, tokens.flatten(1, 2), acts.flatten(1, 2)], dim=1)
            asked = 1 + acts.shape[2]
            y = self.llama(inputs_embeds=x, use_cache=False).last_hidden_state[:, None, -asked:]
            before = batch.tokens.shape[1] - 1

            def last(value: Tensor) -> Tensor:
                """Put zeros, which nobody trains, before the last frame's answer."""
                return torch.cat([value.new_zeros(len(value), before, *value.shape[2:]), value], dim=1)

            plan, speed = policy.plan(y[:, :, 0])
            seen = policy.affordances(y[:, :, 0])
            return Output(
                last(policy.answer(y[:, :, 1:])), last(plan), last(speed), last(seen), policy.intent(told.tokens)
            )

    return Plain()


def cost(recorded: Recorded, frames: int, out: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Return CPU ms a decision of both loops with windows of so many frames. Kept in `out`."""
    import torch

    from drivebyword.data.files import read_json, write_json
    from drivebyword.model.policy import Policy

    kept = out / "train" / f"cost-{frames}.json"
    if kept.exists():
        return {str(name): float(ms) for name, ms in read_json(kept).items()}
    config = replace(recorded.config, stream=replace(recorded.config.stream, window=frames))
    runs: dict[str, Callable[[], object]] = {}
    for name, policy, related in (("ours", Policy(config), True), (PEER, plain_policy(config), frames == 1)):
        policy.train()
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4, fused=True if name == "ours" else None)
        runs[name] = _one_step(recorded, policy, optimizer, frames, related, half=name == "ours")
    spent = in_turn(runs, 3)
    decisions = {"ours": DECISIONS // frames * frames, PEER: DECISIONS}
    found = {name: round(middle(values) / decisions[name], 3) for name, values in spent.items()}
    say(f"{frames} frames: " + ", ".join(f"{name} {ms:.1f} ms a decision" for name, ms in found.items()))
    write_json(kept, found)
    return found


def _one_step(
    recorded: Recorded, policy: nn.Module, optimizer: Any, frames: int, related: bool, *, half: bool
) -> Callable[[], None]:
    steps = iter(range(10_000))

    def step() -> None:
        _learn(policy, optimizer, recorded.teacher, recorded.batch(next(steps), frames, related), half=half)

    return step


# --------------------------------------------------------------------------- the report


def _costs_rows(costs: dict[int, dict[str, float]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for frames, cost in costs.items():
        for name, ms in cost.items():
            rows[f"{frames} frames: {name}"] = {"value": round(1e3 / ms, 2), "unit": "decisions per CPU-second"}
        value = round(cost[PEER] / cost["ours"], 2)
        rows[f"{frames} frames: speed"] = {"value": value, "unit": "times", "ratio_to": PEER, "ratio": value}
    return rows


def _curve_rows(
    memory: int, curves: dict[str, list[dict[str, float]]], costs: dict[int, dict[str, float]]
) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, curve in curves.items():
        last = curve[-1]
        rows[f"{name}: held-out act loss"] = {
            "value": last["act"], "unit": f"after {last['decisions']:.0f} decisions, {last['seconds']:.0f} CPU-seconds"
        }  # fmt: skip
        rows[f"{name}: at equal CPU time"] = {
            "value": round(_at_seconds(curve, min(c[-1]["seconds"] for c in curves.values())), 4), "unit": "act loss"
        }  # fmt: skip
    if WINDOWED.name not in curves or UNRELATED.name not in curves:
        return rows
    target = max(min(point["act"] for point in curves[name]) for name in (WINDOWED.name, UNRELATED.name))
    ours, theirs = (_decisions_to(curves[name], target) for name in (WINDOWED.name, UNRELATED.name))
    minutes = {"ours": ours * costs[memory]["ours"] / 6e4, PEER: theirs * costs[memory][PEER] / 6e4}
    rows["the equal act loss"] = {"value": target, "unit": "on held-out scenes"}
    for name, count in (("ours", ours), (PEER, theirs)):
        rows[f"decisions to it: {name}"] = {"value": round(count), "unit": "decisions"}
        rows[f"minutes to it: {name}"] = {"value": round(minutes[name], 3), "unit": "CPU minutes"}
    value = round(minutes[PEER] / minutes["ours"], 2)
    rows["minutes to equal loss"] = {
        "value": value, "unit": "times fewer", "ratio_to": PEER, "ratio": value, "floor": FASTER
    }  # fmt: skip
    return rows


def _decisions_to(curve: list[dict[str, float]], target: float) -> float:
    """Return the decisions at which a curve first reaches a loss, between two looks in proportion."""
    before = curve[0]
    for point in curve:
        if point["act"] <= target:
            fall = before["act"] - point["act"]
            part = 1.0 if fall <= 0 else (before["act"] - target) / fall
            return before["decisions"] + part * (point["decisions"] - before["decisions"])
        before = point
    raise AssertionError("the target is one of the losses that were reached")


def _at_seconds(curve: list[dict[str, float]], seconds: float) -> float:
    """Return the last loss seen by then."""
    return [point["act"] for point in curve if point["seconds"] <= seconds or point is curve[0]][-1]
