"""Independent PPO on the lane-keeping task: stable-baselines3 and gymnasium in, a report of three drivers out.

Nothing of our model is used: this is what somebody with a library of their own writes. It trains on training seeds,
then drives PPO, random actions and constant speed (8 m/s, straight on) through the same validation seeds.

    pip install -e '.[rl]' && python examples/ppo_lane_keeping.py --out out/lane-keeping
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import drivebyword.world  # noqa: F401 - registers the task
from drivebyword.core.seeds import VALIDATION_SEEDS
from drivebyword.data.files import write_json
from drivebyword.evaluate.intervals import bootstrap_mean
from drivebyword.evaluate.report import commit, machine

TASK = "drivebyword.world:drivebyword/LaneKeeping-v0"
"""With the module to import, so that worker processes find it too."""
Act = Callable[[np.ndarray], np.ndarray]


class Deadline(BaseCallback):
    """Stops learning when the time is up, and says how it goes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.begun, self.seconds, self.told = time.monotonic(), seconds, 0.0

    def _on_step(self) -> bool:
        spent = time.monotonic() - self.begun
        if spent - self.told > 20.0 and self.model.ep_info_buffer:
            self.told = spent
            mean = np.mean([episode["r"] for episode in self.model.ep_info_buffer])
            print(f"{spent:5.0f} s  {self.num_timesteps:7d} steps  mean return {mean:7.1f}", flush=True)
        return spent < self.seconds


def make() -> gymnasium.Env[np.ndarray, np.ndarray]:
    """Return the task, its returns counted."""
    return Monitor(gymnasium.make(TASK))


def learn(steps: int, minutes: float, processes: int, seed: int) -> tuple[PPO, int, float]:
    """Train; return the model, the steps taken and the seconds it took."""
    torch.set_num_threads(1)
    deadline = Deadline(60.0 * minutes)
    # SUMO holds one world a process; one alone needs no process of its own.
    worlds = SubprocVecEnv([make] * processes, start_method="spawn") if processes > 1 else DummyVecEnv([make])
    worlds.seed(seed)
    model = PPO(
        "MlpPolicy", worlds, n_steps=2048 // processes, batch_size=256, n_epochs=10, learning_rate=5e-4, gamma=0.98,
        gae_lambda=0.95, policy_kwargs={"log_std_init": -1.0}, seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(steps, callback=deadline)
    worlds.close()
    return model, model.num_timesteps, time.monotonic() - deadline.begun


def constant_speed(observation: np.ndarray) -> np.ndarray:
    """Hold 8 m/s and never steer."""
    return np.array([0.0, np.clip(0.4 * (8.0 - 15.0 * observation[0]), -1.0, 1.0)])


def returns(act: Act, seeds: range) -> np.ndarray:
    """Drive every scene; return each episode's return and whether it kept its lane to the end."""
    env, rows = gymnasium.make(TASK), []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total, over, left = 0.0, False, False
        while not over:
            observation, reward, left, timeout, _ = env.step(act(observation))
            total, over = total + float(reward), left or timeout
        rows.append((total, float(not left)))
    env.close()
    return np.array(rows)


def judge(name: str, act: Act, seeds: range) -> dict[str, dict[str, Any]]:
    """Return one driver's rows of the report: means with their 95 % bootstrap intervals."""
    values, rows = returns(act, seeds), {}
    for k, (row, unit) in enumerate(((name, "return an episode"), (f"{name}: kept its lane", "share of episodes"))):
        found = bootstrap_mean(values[:, k])
        rows[row] = {"value": found.mean, "low": found.low, "high": found.high, "n": found.n, "unit": unit}
        print(f"{row}: {found.mean:.2f} [{found.low:.2f}, {found.high:.2f}], n {found.n}", flush=True)
    return rows


def main() -> int:
    """Train, judge, write; 1 if PPO's interval is not above both controls'."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--minutes", type=float, default=18.0, help="longest time to learn")
    parser.add_argument("--episodes", type=int, default=40, help="validation scenes to judge by")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/lane-keeping"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    begun_at = commit()
    model, steps, seconds = learn(asked.steps, asked.minutes, asked.processes, asked.seed)
    seeds = range(VALIDATION_SEEDS.start, VALIDATION_SEEDS.start + asked.episodes)
    rng = np.random.default_rng(asked.seed)
    drivers: dict[str, Act] = {
        "ppo": lambda seen: model.predict(seen, deterministic=True)[0],
        "random": lambda seen: rng.uniform(-1.0, 1.0, 2),
        "constant-speed": constant_speed,
    }
    rows = {row: cell for name, act in drivers.items() for row, cell in judge(name, act, seeds).items()}
    rows["ppo"]["floor"] = max(rows[name]["high"] for name in ("random", "constant-speed"))
    learned = rows["ppo"]["low"] > rows["ppo"]["floor"]
    rows["learning"] = {"value": round(seconds, 1), "unit": f"s of the clock for {steps} steps", "ceiling": 1200}
    report = {
        "bench": "lane-keeping", "command": "python " + " ".join(sys.argv), "commit": begun_at, "machine": machine(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"), "library": "stable-baselines3 PPO",
        "seed": asked.seed, "seeds": [seeds.start, seeds.stop], "rows": rows,
    }  # fmt: skip
    model.save(asked.out / "ppo")
    print(f"{steps} steps in {seconds:.0f} s; report: {write_json(asked.out / 'report.json', report)}")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
