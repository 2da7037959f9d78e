"""The simulated world. Importing it registers its environments with gymnasium."""

import gymnasium

LANE_KEEPING_STEPS = 300
"""A minute."""

gymnasium.register("drivebyword/Town-v0", entry_point="drivebyword.world.env:DrivingEnv")
gymnasium.register(
    "drivebyword/LaneKeeping-v0",
    entry_point="drivebyword.world.lanekeeping:LaneKeeping",
    max_episode_steps=LANE_KEEPING_STEPS,
)
