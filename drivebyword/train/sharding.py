"""One policy on many processes: what torchrun started in; shards of it, shares of a batch and whole numbers out.

Every process holds a part of each parameter and of the optimiser's state (FSDP2) and computes its rows of each batch.
Terms are weighed so that the mean over processes is the loss of the whole batch: the same run, whatever their number.
One process drives and writes; the others wait and read the same folder.

    torchrun --nproc-per-node 2 --no-python drivebyword train tiny --out runs/tiny
"""

from __future__ import annotations

import os
import warnings
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from drivebyword.model.experts import MixtureOfExperts

if TYPE_CHECKING:
    from drivebyword.model.policy import Policy

Record = TypeVar("Record")
PATIENCE = timedelta(hours=12)
"""How long processes wait for the one that drives."""


class Ranks:
    """The processes of a run; one, unless torchrun (or accelerate) started more."""

    def __init__(self) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.count == 1:
            return
        if self.device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        if not torch.distributed.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, timeout=PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this process drives and writes."""
        return self.rank == 0

    def shard(self, policy: Policy) -> None:
        """Leave this process its part of every parameter; blocks are gathered one at a time as they are needed."""
        if self.count == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # Blocks return views of keys and values; nobody writes into them.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        mesh = init_device_mesh(self.device.type, (self.count,))
        for block in policy.decoder.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(policy, mesh=mesh)
        for module in policy.modules():
            if isinstance(module, MixtureOfExperts):
                module.everywhere = self.total

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over processes."""
        if self.count == 1:
            return value
        whole = value.detach().clone()
        torch.distributed.all_reduce(whole)
        return whole

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over processes."""
        return value if self.count == 1 else self.total(value.float()) / self.count

    def agree(self, value: bool) -> bool:
        """Return what the first process thinks: clocks and folders may differ."""
        if self.count == 1:
            return value
        thought = torch.tensor([value], dtype=torch.int32, device=self.device)
        torch.distributed.broadcast(thought, 0)
        return bool(thought.item())

    def wait(self) -> None:
        """Wait until every process is here."""
        self.agree(True)

    def own(self, rows: int) -> slice:
        """Return which of a batch's rows are this process's.

        Raises:
            ValueError: They cannot be divided.
        """
        if rows % self.count:
            raise ValueError(f"a batch of {rows} windows cannot be divided among {self.count} processes")
        size = rows // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def share(self, record: Record, rows: int) -> Record:
        """Return this process's rows of a record of tensors with `rows` rows each. Raises as `own` does."""
        if self.count == 1:
            return record
        own = self.own(rows)
        parts: dict[str, Any] = {}
        for item in fields(record):  # type: ignore[arg-type]
            value = getattr(record, item.name)
            parts[item.name] = {k: v[own] for k, v in value.items()} if isinstance(value, dict) else value[own]
        return replace(record, **parts)  # type: ignore[type-var]

    def losses(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Return the losses of the whole batch."""
        whole = self.mean(torch.stack([value.detach().float() for value in losses.values()]))
        return dict(zip(losses, whole.tolist(), strict=True))


def whole(value: Tensor) -> Tensor:
    """Return a tensor of which processes hold parts; every process must ask."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_copy(policy: Policy, like: Policy) -> Policy:
    """Fill `like`, a policy nobody divided, with a policy's weights; every process must ask."""
    own = policy.state_dict()
    like.load_state_dict({name: whole(value).detach().cpu() for name, value in own.items()})
    return like


def save_tensors(folder: Path, tensors: dict[str, Tensor], count: int) -> None:
    """Write tensors as safetensors: one file, or one for each of several processes, each its parts."""
    if count == 1:
        from safetensors.torch import save_file

        save_file({name: value.detach().clone() for name, value in tensors.items()}, folder / "state.safetensors")
        return
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    checkpoint.save(dict(tensors), storage_writer=writer)


def tensor_names(folder: Path) -> set[str]:
    """Return the names of the tensors in a folder."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    return set(HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata)


def load_tensors(folder: Path, tensors: dict[str, Tensor], count: int) -> None:
    """Fill tensors, or this process's parts of them, with what any number of processes wrote."""
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        checkpoint.load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=count == 1)
