"""Names of experiment trackers in, accelerate's trackers out: TensorBoard, trackio (on this disk) and wandb."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

TRACKERS = ("tensorboard", "trackio", "wandb")
PROJECT = "drivebyword"


def require_trackers(names: tuple[str, ...]) -> None:
    """Raise ValueError in one line for a tracker nobody knows or that is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"no tracker {name!r}: choose from {', '.join(TRACKERS)}")
        if find_spec(name) is None:
            raise ValueError(f"tracker {name} is not installed: pip install 'drivebyword[trackers]'")


def open_trackers(names: tuple[str, ...], out: Path, step: int) -> list[Any]:
    """Return trackers that go on from a step of the run in `out`; `log(values, step)` and `finish()` them."""
    import torch
    from accelerate.state import PartialState
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    require_trackers(names)
    # Accelerate asks it who the first of several processes is.
    PartialState(cpu=not torch.cuda.is_available())
    opened: list[Any] = []
    for name in names:
        match name:
            case "tensorboard":
                opened.append(TensorBoardTracker("tensorboard", logging_dir=out, purge_step=step))
            case "trackio":
                opened.append(TrackioTracker(PROJECT, name=out.name, resume="allow"))
            case "wandb":
                opened.append(WandBTracker(PROJECT, name=out.name, dir=str(out), resume="allow"))
    for tracker in opened:
        tracker.start()
    return opened
