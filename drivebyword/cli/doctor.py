"""This machine in, one finding a line out: what a drive needs, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mark` is ok or missing."""

    mark: str
    name: str
    text: str
    needed: bool = True


def examine() -> Iterator[Finding]:
    """Yield findings in the order a drive needs them."""
    version = platform.python_version()
    yield _judge(sys.version_info >= (3, 11), "python", version, "needs 3.11 or newer")
    for package in ("torch", "libsumo", "eclipse-sumo", "numba", "gymnasium", "av", "pyarrow"):
        yield _package(package)
    yield _network_builder()
    yield _weights()
    yield _checkpoint()
    yield _accelerator()
    yield _browser()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield _judge(free > 2.0, "disk", f"{free:.0f} GB free here", "a drive needs 0.1 GB, training 2 GB: make room")
    yield Finding("ok", "cores", f"{len(os.sched_getaffinity(0))} usable", needed=False)


def _judge(well: bool, name: str, text: str, cure: str, needed: bool = True) -> Finding:
    return Finding("ok", name, text, needed) if well else Finding("missing", name, f"{text}: {cure}", needed)


def _package(name: str) -> Finding:
    try:
        return Finding("ok", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding("missing", name, "not installed: make setup")


def _network_builder() -> Finding:
    from drivebyword.world.town import sumo_home

    try:
        return Finding("ok", "towns", f"built by {sumo_home() / 'bin' / 'netgenerate'}")
    except (ValueError, OSError, ImportError) as error:
        return Finding("missing", "towns", f"{error}: make setup")


def _weights() -> Finding:
    from drivebyword.model.pretrained import load, weights_folder

    try:
        load(layers=1)
        return Finding("ok", "weights", f"SmolLM2-135M, SHA-256 as expected, in {weights_folder()}")
    except (ValueError, OSError) as error:
        return Finding("missing", "weights", f"{error}")


def _checkpoint() -> Finding:
    from drivebyword.loop.policies import policy_names

    shipped = policy_names()[:-2]
    return _judge(bool(shipped), "policies", ", ".join(shipped) or "none shipped", "make train-tiny", needed=False)


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("ok", "gpu", torch.cuda.get_device_name(0), needed=False)
    return Finding("ok", "gpu", "none; none is needed", needed=False)


def _browser() -> Finding:
    names = ("chromium", "google-chrome", "firefox", "safari")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return _judge(found is not None, "browser", found or "none found here", "open replay.html elsewhere", needed=False)
