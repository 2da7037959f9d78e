"""A run's state to disk and back: weights, average, optimiser and counters, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from drivebyword.data.files import read_json, sha256_file, write_json

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
    out: Path, config: TrainConfig, state: RunState, policy: nn.Module, average: nn.Module, optimizer: torch.optim.AdamW
) -> Path:
    """Write `states/step-N` beside the older ones, then drop all but the newest two."""
    from safetensors.torch import save_file

    folder = out / "states" / f"step-{state.step:08d}"
    temporary = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = _prefixed("policy", policy.state_dict()) | _prefixed("average", average.state_dict())
    names = [name for name, _ in policy.named_parameters()]
    order = _parameter_order(policy, optimizer)
    for name in names:
        moments = optimizer.state.get(order[name], {})
        tensors |= {f"optimizer.{name}.{k}": v.detach().clone() for k, v in moments.items()}
    save_file(tensors, temporary / "state.safetensors")
    write_json(
        temporary / "state.json",
        {
            "state": asdict(state),
            "config": fingerprint(config),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "sha256": sha256_file(temporary / "state.safetensors"),
        },
    )
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    for old in sorted((out / "states").glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)
    return folder


def load_latest(
    out: Path, config: TrainConfig, policy: nn.Module, average: nn.Module, optimizer: torch.optim.AdamW
) -> RunState | None:
    """Restore the newest state that verifies, or return None where there is none.

    Raises ValueError when the folder holds a run of another configuration.
    """
    from safetensors.torch import load_file

    for folder in sorted((out / "states").glob("step-*"), reverse=True):
        try:
            meta = read_json(folder / "state.json")
        except (ValueError, FileNotFoundError):
            continue
        if meta["config"] != fingerprint(config):
            raise ValueError(f"{out} holds a run of another configuration; choose another --out or remove it")
        if sha256_file(folder / "state.safetensors") != meta["sha256"]:
            continue
        if meta["threads"] != torch.get_num_threads():
            print(f"resuming with {torch.get_num_threads()} threads a run of {meta['threads']}: not bit-exact")
        tensors = load_file(folder / "state.safetensors")
        policy.load_state_dict(_of(tensors, "policy"))
        average.load_state_dict(_of(tensors, "average"))
        order = _parameter_order(policy, optimizer)
        moments = _of(tensors, "optimizer")
        for name, parameter in order.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"{name}.step" in moments:
                optimizer.state[parameter] = {k: moments[f"{name}.{k}"].to(parameter.device) for k in keys}
        return RunState(**meta["state"])
    return None


def fingerprint(config: TrainConfig) -> str:
    """Return the SHA-256 of what may not change within a run: all but processes, threads and saving."""
    from drivebyword.train.loop import config_as_json

    plain: dict[str, Any] = config_as_json(config)
    for name in ("processes", "threads", "save_every_s"):
        plain.pop(name)
    # Of practice only what there is: a run without it is the run it was before practice could be said.
    for one in plain["rounds"]:
        if one["practice"] is None:
            del one["practice"]
        if one["reinforce"]["beta"] == one["reinforce"]["kappa"] == 0.0:
            del one["reinforce"]
    if not any("practice" in one for one in plain["rounds"]):
        del plain["curriculum"]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _parameter_order(policy: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, nn.Parameter]:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name: p for name, p in policy.named_parameters() if id(p) in held}


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value.detach().clone() for name, value in tensors.items()}


def _of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + ".")}
