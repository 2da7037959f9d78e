"""Which experts drive what: a checkpoint in, the use of its experts by family, side of the road and sensor out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drivebyword.core.seeds import VALIDATION_SEEDS
from drivebyword.evaluate.report import commit, machine

SECONDS = 30.0
"""Of every scene."""


def bench_routes(folder: str | Path, share: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Drive a scene of every family on both sides of the road and count which experts are asked."""
    from drivebyword.loop.driver import driver_in
    from drivebyword.model.routes import Routes
    from drivebyword.model.streaming import StreamingPolicy
    from drivebyword.world.env import DrivingEnv
    from drivebyword.world.families import FAMILIES
    from drivebyword.world.scenario import find_scenario

    policy = StreamingPolicy.from_pretrained(folder, threads=1, first_step_only=True)
    names = ["town", *(name for name, family in FAMILIES.items() if not family.held_out)]
    names = names[: max(1, round(share * len(names)))]
    use: dict[str, dict[str, np.ndarray]] = {"right": {}, "left": {}}
    env = DrivingEnv(rig=policy.policy.config.rig)
    with Routes(policy.policy) as routes:
        for number, name in enumerate(names):
            for side in use:
                scenario = replace(find_scenario(name), left_hand=side == "left")
                env.reset(seed=VALIDATION_SEEDS.start + number, options={"scenario": scenario})
                driver = driver_in(env, policy, guarded=True)
                driver.reset()
                for _ in range(round(SECONDS / env.dt)):
                    actuation, _, _ = driver.drive(env.observation())
                    *_, info = env.step(actuation.as_array())
                    if info["ended"]:
                        break
                use[side][name] = routes.taken()
            say(f"{name}: counted on both sides")
    env.close()
    whole = sum(counts for side in use.values() for counts in side.values())
    return {
        "bench": "routes", "machine": machine(), "commit": commit(), "checkpoint": str(folder),
        "kinds": routes.kinds, "rows": _rows(use, np.asarray(whole), routes.kinds),
        "use": {side: {name: counts.tolist() for name, counts in families.items()} for side, families in use.items()},
    }  # fmt: skip


def _rows(use: dict[str, dict[str, np.ndarray]], whole: np.ndarray, kinds: list[str]) -> dict[str, Any]:
    """Return shares of experts overall and by sensor, and how far each family and side is from the whole."""
    rows: dict[str, Any] = {}
    for layer, counts in enumerate(whole):
        rows[f"mixture {layer}: all"] = _row(counts.sum(0))
        rows |= {f"mixture {layer}: {kind}": _row(counts[k]) for k, kind in enumerate(kinds) if counts[k].sum()}
    for side, families in use.items():
        together = np.sum(list(families.values()), axis=0)
        rows[f"{side}-hand traffic"] = {"value": _apart(together, whole), "unit": "of choices unlike the whole"}
    for name in use["right"]:
        both = use["right"][name] + use["left"][name]
        rows[name] = {"value": _apart(both, whole), "unit": "of choices unlike the whole"}
    return rows


def _row(counts: np.ndarray) -> dict[str, Any]:
    shares = counts / max(counts.sum(), 1)
    return {"value": round(float(shares.max()), 3), "unit": "largest share", "shares": np.round(shares, 3).tolist()}


def _apart(some: np.ndarray, whole: np.ndarray) -> float:
    """Return the share of choices that would have to change, the mean over mixtures (total variation)."""
    a, b = (counts.sum(1) / np.maximum(counts.sum((1, 2)), 1)[:, None] for counts in (some, whole))
    return round(float(0.5 * np.abs(a - b).sum(1).mean()), 4)
