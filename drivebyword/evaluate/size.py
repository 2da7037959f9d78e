"""What each preset costs: configurations in, a bench report out (parameters, tokens, operations, bytes, floors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivebyword.evaluate.report import commit, machine

if TYPE_CHECKING:
    from drivebyword.model.policy import PolicyConfig


def bench_size(policies: Mapping[str, PolicyConfig]) -> dict[str, Any]:
    """Count policies, by the names of their presets."""
    from drivebyword.model.sizes import sizes_of

    rows: dict[str, Any] = {}
    for name, config in policies.items():
        rows |= {f"{name}: {row}": value for row, value in _rows(sizes_of(config)).items()}
    return {"bench": "size", "machine": machine(), "commit": commit(), "rows": rows}


def _rows(sizes: Any) -> dict[str, Any]:
    from drivebyword.model.sizes import DEVICES

    def row(value: float | int, unit: str) -> dict[str, Any]:
        return {"value": value, "unit": unit, "ratio_to": None, "ratio": None}

    rows = {
        "parameters": row(sizes.total / 1e6, "million"),
        "active": row(sizes.active / 1e6, "million a token"),
        "decoder": row(sizes.by_part["decoder"] / 1e6, "million"),
        "encoders": row(sizes.by_part["frame"] / 1e6, "million"),
        "frame": row(sizes.frame, "tokens"),
        "act": row(sizes.act, "tokens a decision"),
        "window": row(sizes.kept, "tokens kept"),
        "streaming decision": row(sizes.streaming.operations / 1e9, "G operations"),
        "whole window": row(sizes.whole.operations / 1e9, "G operations"),
        "weights read": row(sizes.streaming.weights * 2 / 1e6, "MB a decision, 16 bits"),
        "cache": row(sizes.cache_bytes / 1e6, "MB, 16 bits"),
        "memory to drive": row((sizes.total * 2 + sizes.cache_bytes) / 1e6, "MB, 16 bits"),
        "memory to train": row(sizes.training_bytes / 1e6, "MB, AdamW, one window"),
        "memory to adapt": row(sizes.adapter_bytes / 1e6, "MB, rank 16, one window"),
    }
    for device in DEVICES:
        for bits in (16, 8):
            one = sizes.streaming.floor(device, bits)
            plain = one + (sizes.act - 1) * sizes.step.floor(device, bits)
            rows[f"{device.name}, {bits} bits"] = row(one * 1e3, "ms a decision at least")
            rows[f"{device.name}, {bits} bits, token by token"] = row(plain * 1e3, "ms a decision at least")
    return rows
