"""A large policy on a small machine: a preset in, a bench report out (a real training step, a decision, memory).

Frozen in bfloat16 with adapters beside it, as one GPU or one workstation would adapt it. The weights are random and so
is what it sees; the step is whole: forward, backward, AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from drivebyword.model.policy import Policy, PolicyConfig

SPARE = 1.5e9
"""Bytes for activations, libraries and the reader, besides the weights."""


def free_bytes() -> int:
    """Return the memory that is free to take. Raises ValueError where the system does not say."""
    info = Path("/proc/meminfo")
    if not info.exists():
        raise ValueError("cannot tell how much memory is free: no /proc/meminfo")
    lines = dict(line.split(":", 1) for line in info.read_text(encoding="ascii").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def bench_large(name: str, config: PolicyConfig, steps: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Build, take `steps` steps and a decision. Raises ValueError where memory is short."""
    import resource

    import torch

    from drivebyword.model.lean import adapted, lean_bytes, lean_policy

    if steps < 1:
        raise ValueError(f"--steps is at least 1, got {steps}")
    needed, free = lean_bytes(config) + SPARE, free_bytes()
    if free < needed:
        raise ValueError(f"{name} needs about {needed / 1e9:.1f} GB of free memory; there are {free / 1e9:.1f}")
    torch.manual_seed(0)
    say(f"{name}: building, about {needed / 1e9:.1f} GB")
    policy = lean_policy(config)
    total = policy.parameters_by_use()["total"]
    say(f"{name}: {total / 1e6:,.0f} million parameters; deciding")
    decision, passes = _decide(policy)
    say(f"{name}: decided in {passes} passes, {decision:.1f} CPU-seconds; learning")
    adapted(policy)
    losses, seconds = _learn(policy, steps, say)
    learned = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    values = {
        "parameters": (total / 1e6, "million"),
        "learning": (learned / 1e6, "million, in adapters of rank 16 and heads"),
        "decision": (decision, "CPU-seconds"),
        "passes of the decision": (passes, "passes, nothing to draft from"),
        "training step": (sorted(seconds)[len(seconds) // 2], "CPU-seconds, one frame"),
        "loss before": (losses[0], "nats a token"),
        "loss after": (losses[-1], "nats a token"),
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "GB at most"),
    }
    rows = {f"{name}: {row}": {"value": round(float(v), 4), "unit": unit} for row, (v, unit) in values.items()}
    return {"bench": "train", "preset": name, "machine": machine(), "commit": commit(), "rows": rows}


def _decide(policy: Policy) -> tuple[float, int]:
    """Return the CPU seconds and passes of a first decision, the reader left out."""
    from drivebyword.evaluate.latency import SENTENCES, random_observation
    from drivebyword.model.reader import Reader
    from drivebyword.model.streaming import StreamingPolicy

    reader = Reader(policy.config.reader)
    reader.read(SENTENCES[0])
    driver = StreamingPolicy(policy, reader, half=True)
    before = time.process_time()
    driver.decide(random_observation(policy.config.rig, 0, SENTENCES[0]))
    assert driver.trace is not None
    return time.process_time() - before, driver.trace.passes


def _learn(policy: Policy, steps: int, say: Callable[[str], None]) -> tuple[list[float], list[float]]:
    """Return the loss before every step and after the last, and the CPU seconds of each."""
    import torch
    from torch.nn import functional

    from drivebyword.model.adapters import learning

    batch = _example(policy)
    optimizer = torch.optim.AdamW(learning(policy), lr=1e-3, fused=True)
    policy.train()

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = policy(batch).logits
        return functional.cross_entropy(logits.flatten(0, 2), batch.tokens.flatten())

    losses, seconds = [], []
    for step in range(steps):
        before = time.process_time()
        found = loss()
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        optimizer.step()
        seconds.append(time.process_time() - before)
        losses.append(float(found.detach()))
        say(f"step {step + 1}: loss {losses[-1]:.3f}, {seconds[-1]:.1f} CPU-seconds")
    with torch.no_grad():
        losses.append(float(loss()))
    return losses, seconds


def _example(policy: Policy) -> Any:
    """Return one decision to learn from: what was seen is random, the act is a fixed legal one."""
    import torch

    from drivebyword.evaluate.latency import SENTENCES, random_observation
    from drivebyword.tokens.stream import Batch

    c, seen = policy.config, random_observation(policy.config.rig, 1, SENTENCES[0])

    def one(value: Any) -> Any:
        return None if value is None else torch.as_tensor(value)[None, None]

    words = 6
    return Batch(
        cameras={name: one(image) for name, image in seen.cameras.items()},
        lidar=one(seen.lidar),
        radar=one(seen.radar),
        radar_valid=one(seen.radar_valid),
        ego=one(seen.ego),
        passed=torch.zeros(1, 1),
        present=torch.ones(1, 1, len(c.rig.sensor_names()), dtype=torch.bool),
        words=torch.randn(1, words, c.word_width),
        word_mask=torch.ones(1, words, dtype=torch.bool),
        tokens=torch.as_tensor(c.grammar.ranges[:, 0])[None, None].long(),
        history_valid=torch.ones(1, 1, dtype=torch.bool),
    )
