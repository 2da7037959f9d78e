"""Shared by tests: a small drive written by hand, so that pages and films are tested without a simulator."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def _lane(id_, edge, index, kind, line, width=3.2):
    from drivebyword.world.roads import Lane

    line = np.array(line, float)
    return Lane(id=id_, edge=edge, index=index, kind=kind, width=width, speed_limit=13.9, line=line)


def crossroads():
    """Return a map of one signalled crossroads, one lane each way, at the origin."""
    from drivebyword.world.roads import Junction, RoadMap, SignalHead

    lanes, stop_lines, signals, crossings = {}, {}, [], []
    for k, name in enumerate(("east", "north", "west", "south")):
        angle = k * np.pi / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        put = lambda points, turn=turn: np.array(points, float) @ turn.T
        arrive, leave = f"{name}_in", f"{name}_out"
        lanes[f"{arrive}_0"] = _lane(f"{arrive}_0", arrive, 0, "drive", put([[120, 1.6], [10, 1.6]]))
        lanes[f"{leave}_0"] = _lane(f"{leave}_0", leave, 0, "drive", put([[10, -1.6], [120, -1.6]]))
        for side in (-4.4, 4.4):
            lanes[f"{name}_walk{side}"] = _lane(
                f"{name}_walk{side}", f"{name}_walk{side}", 0, "sidewalk", put([[10, side], [120, side]]), 2.0
            )
        stop_lines[f"{arrive}_0"] = put([[10, 0], [10, 3.2]])
        crossings.append(put([[6, -3.2], [9, -3.2], [9, 3.2], [6, 3.2]]))
        spot = put([[-10, 4]])[0]
        signals.append(
            SignalHead(x=spot[0], y=spot[1], z=5.0, yaw=angle, lane=f"{arrive}_0", tls="center", tls_index=k)
        )
    outline = np.array([[10, -3.2], [10, 3.2], [3.2, 10], [-3.2, 10], [-10, 3.2], [-10, -3.2], [-3.2, -10], [3.2, -10]])
    return RoadMap(
        id="0123456789abcdef",
        net_file="",
        lanes=lanes,
        links=(),
        junctions=(Junction(id="center", kind="traffic_light", center=np.zeros(2), outline=outline.astype(float)),),
        signals=tuple(signals),
        stop_lines=stop_lines,
        crossings=tuple(crossings),
        bounds=np.array([-120.0, -120.0, 120.0, 120.0]),
    )


def left_turn(steps=60, dt=0.2):
    """Return an episode that comes from the south, waits at red, turns left and is told to pull over."""
    from drivebyword.core.records import Episode, InstructionRecord, Snapshot
    from drivebyword.core.rig import Weather
    from drivebyword.world.rigs import tiny

    rig, rng = tiny(), np.random.default_rng(5)
    speed = np.concatenate([np.full(14, 7.0), np.linspace(7, 0, 10), np.zeros(6), np.linspace(0, 6, 10)])
    speed = np.concatenate([speed, np.full(steps - len(speed), 6.0)]).astype(np.float32)
    pose, at = np.zeros((steps, 3)), np.array([1.6, -38.0, np.pi / 2])
    for k in range(steps):
        pose[k] = at
        rate = speed[k] / 9.5 if at[1] > -7.0 and at[2] < np.pi else 0.0
        at = at + np.array([np.cos(at[2]) * speed[k], np.sin(at[2]) * speed[k], rate]) * dt
    motion = np.zeros((steps, 5), np.float32)
    motion[:, 0], motion[:, 1] = speed, np.gradient(pose[:, 2]) / dt
    snapshots = []
    for k in range(steps):
        agents = np.array(
            [
                [1.6 - 3.2, 60 - 5.0 * k * dt, -np.pi / 2, 4.6, 1.8, 1.5, 0, -5.0, 0],
                [-8 + k * 0.25, 7.5, 0, 0.6, 0.6, 1.75, 1.2, 0, 0],
            ],
            np.float32,
        )
        snapshots.append(
            Snapshot(
                time_s=k * dt,
                ego=np.array([*pose[k], speed[k], motion[k, 1], 0.0]),
                agents=agents,
                agent_kind=np.array([0, 5]),
                agent_lights=np.array([1, 0]),
                agent_key=np.array([11, 12]),
                signals=np.array([0, 0, 0, 0 if k < 30 else 2]),
            )
        )
    reason = np.tile(np.array([0, 0, 0]), (steps, 1))
    reason[14:30], reason[30:50], reason[50:] = (2, 4, 4), (4, 1, 5), (1, 1, 0)
    act = np.zeros((steps, 4, 3), np.float32)
    act[30:50, :, 0], act[14:24, :, 2], act[30:40, :, 1] = 0.6, 0.45, 0.5
    verdict = np.zeros(steps, int)
    verdict[18:21] = 2
    actuation = act[:, 0].copy()
    actuation[18:21] = (0.0, 0.0, 0.9)
    events = np.zeros(steps, int)
    events[-1] = 512
    sky = np.linspace(200, 90, 64)[:, None, None]
    cameras = {
        c.name: np.stack(
            [
                np.uint8(np.broadcast_to(np.roll(sky, k, 0) + rng.integers(0, 20, (1, 1, 3)), (64, c.width, 3)))
                for k in range(steps)
            ]
        )
        for c in rig.cameras
    }
    none = np.full(steps, np.nan, np.float32)
    return Episode(
        scenario="town",
        seed=2_000_007,
        driver="tiny",
        dt=dt,
        map_id="0123456789abcdef",
        weather=Weather(),
        rig="tiny",
        instructions=[
            InstructionRecord(
                step=0,
                sentence="turn left at the next intersection",
                intent="left",
                deadline_s=60.0,
                outcome="fulfilled",
                resolved_step=49,
                branches=3,
                branch_taken="left",
            ),
            InstructionRecord(
                step=50, sentence="pull over </script> when you can", intent="pull_over", deadline_s=20.0
            ),
        ],
        time_s=np.arange(steps) * dt,
        pose=pose,
        motion=motion,
        instruction_index=(np.arange(steps) >= 50).astype(int),
        act=act,
        reason=reason,
        actuation=actuation,
        disturbed=np.zeros(steps, bool),
        verdict=verdict,
        verdict_why=["vehicle ahead: 1.1 s to impact" if v else "" for v in verdict],
        expert_act=np.zeros((steps, 3), np.float32),
        expert_reason=reason,
        expert_plan=np.zeros((steps, 8, 2), np.float32),
        expert_speed=speed,
        affordances=np.zeros((steps, 10), np.float32),
        events=events,
        route_completion=np.linspace(0, 1, steps, dtype=np.float32),
        lane_offset=none,
        time_to_collision=np.full(steps, np.inf, np.float32),
        ended="arrived",
        ego_observed=np.zeros((steps, 7), np.float32),
        cameras=cameras,
        lidar=np.float32(rng.uniform(2, 60, (steps, 16, 128, 2))),
        radar=np.float32(rng.uniform((4, -0.8, -6, 0), (60, 0.8, 6, 20), (steps, 12, 4))),
        radar_valid=rng.random((steps, 12)) < 0.5,
        snapshots=snapshots,
    )


@pytest.fixture(scope="session")
def hand_drive():
    """An episode, its map and its rig."""
    from drivebyword.world.rigs import tiny

    return SimpleNamespace(episode=left_turn(), road_map=crossroads(), rig=tiny())


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Return roads, ground and scenery of one empty street."""
    from empty_street import empty_scenery, street

    from drivebyword.world.ground import Ground

    road_map, scenery = street(), empty_scenery()
    return road_map, Ground.build(road_map, scenery, tmp_path_factory.mktemp("ground")), scenery


@pytest.fixture(scope="module")
def sensors(town):
    """Return the tiny rig on the empty street."""
    from drivebyword.world.rigs import tiny
    from drivebyword.world.sensors import Sensors

    return Sensors(tiny(), *town)
