"""A run's state to disk and back: weights, average, optimiser and counters, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from drivebyword.data.files import read_json, sha256_file, write_json
from drivebyword.train.sharding import Ranks, load_tensors, save_tensors, tensor_names

if TYPE_CHECKING:
    from drivebyword.train.loop import TrainConfig

KEEP = 2


@dataclass(slots=True, kw_only=True)
class RunState:
    """How far a run is."""

    step: int
    decisions: int
    """Training decisions seen."""
    seconds: float
    """Time spent driving and learning, all sessions of the run together."""
    curriculum: dict[str, Any] = field(default_factory=dict)
    """How each family went in practice so far."""


def save_state(
    out: Path,
    config: TrainConfig,
    state: RunState,
    policy: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.AdamW,
    ranks: Ranks,
) -> Path:
    """Write `states/step-N` beside the older ones, then drop all but the newest two."""
    folder = out / "states" / f"step-{state.step:08d}"
    temporary = folder.with_name(f".writing-{folder.name}")
    if ranks.first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    ranks.wait()
    tensors = _prefixed("policy", policy.state_dict()) | _prefixed("average", average.state_dict())
    for name, parameter in _parameter_order(policy, optimizer).items():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{name}.{k}": v for k, v in moments.items()}
    save_tensors(temporary, tensors, ranks.count)
    ranks.wait()
    if ranks.first:
        meta = {
            "state": asdict(state),
            "config": fingerprint(config),
            "threads": torch.get_num_threads(),
            "processes": ranks.count,
            "torch": torch.__version__,
            "sha256": {file.name: sha256_file(file) for file in sorted(temporary.glob("*.safetensors"))},
        }
        write_json(temporary / "state.json", meta)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        for old in sorted((out / "states").glob("step-*"))[:-KEEP]:
            shutil.rmtree(old)
    ranks.wait()
    return folder


def load_latest(
    out: Path,
    config: TrainConfig,
    policy: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.AdamW,
    ranks: Ranks,
) -> RunState | None:
    """Restore the newest state that verifies, or return None where there is none; by any number of processes.

    Raises ValueError when the folder holds a run of another configuration.
    """
    for folder in sorted((out / "states").glob("step-*"), reverse=True):
        try:
            meta = read_json(folder / "state.json")
        except (ValueError, FileNotFoundError):
            continue
        if meta["config"] != fingerprint(config):
            raise ValueError(f"{out} holds a run of another configuration; choose another --out or remove it")
        # States of one process were one file without a name once; a run under way goes on.
        digests = meta["sha256"] if "processes" in meta else {"state.safetensors": meta["sha256"]}
        if any(not (folder / f).exists() or sha256_file(folder / f) != digest for f, digest in digests.items()):
            continue
        pairs = (("threads", meta["threads"], torch.get_num_threads()),
                 ("processes", meta.get("processes", 1), ranks.count))  # fmt: skip
        for what, was, now in pairs:
            if was != now and ranks.first:
                print(f"resuming with {now} {what} a run of {was}: not bit-exact")
        tensors = _prefixed("policy", policy.state_dict()) | _prefixed("average", average.state_dict())
        known = tensor_names(folder)
        for name, parameter in _parameter_order(policy, optimizer).items():
            if f"optimizer.{name}.step" in known:
                moments = {k: torch.zeros_like(parameter) for k in ("exp_avg", "exp_avg_sq")}
                moments["step"] = torch.zeros((), device=parameter.device)
                optimizer.state[parameter] = moments
                tensors |= {f"optimizer.{name}.{k}": v for k, v in moments.items()}
        load_tensors(folder, tensors, ranks.count)
        return RunState(**meta["state"])
    return None


def fingerprint(config: TrainConfig) -> str:
    """Return the SHA-256 of what may not change within a run: all but who drives, threads, saving and watching."""
    plain: dict[str, Any] = config_as_json(config)
    for name in ("processes", "workers", "threads", "save_every_s", "trackers", "validate"):
        plain.pop(name)
    # Of practice only what there is: a run without it is the run it was before practice could be said.
    for one in plain["rounds"]:
        if one["practice"] is None:
            del one["practice"]
        if one["reinforce"]["beta"] == one["reinforce"]["kappa"] == 0.0:
            del one["reinforce"]
    if not any("practice" in one for one in plain["rounds"]):
        del plain["curriculum"]
    # What is as it always was is not said: a run under way goes on.
    for name, usual in (("layout", None), ("half", True), ("keep", 0.0)):
        if plain[name] == usual:
            del plain[name]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


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


def _parameter_order(policy: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, nn.Parameter]:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name: p for name, p in policy.named_parameters() if id(p) in held}


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value.detach() for name, value in tensors.items()}
