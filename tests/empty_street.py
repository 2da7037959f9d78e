"""One straight street with nothing beside it, and what may be put on it: for tests of what sensors see."""

import numpy as np

from drivebyword.core.records import AgentKind, Snapshot
from drivebyword.core.rig import Weather
from drivebyword.world.roads import Junction, Lane, Link, RoadMap, SignalHead
from drivebyword.world.scenery import Scenery

DAY, NIGHT, FOG = Weather(), Weather(night=1.0), Weather(fog_visibility=30.0)
SIZES = {AgentKind.CAR: (4.4, 1.8, 1.5), AgentKind.PEDESTRIAN: (0.4, 0.5, 1.75), AgentKind.TRUCK: (8.5, 2.4, 3.2)}


def street() -> RoadMap:
    """One straight street east, a lane each way, with a signal 40 m ahead of x = 0."""
    lanes = [
        Lane(id="out_0", edge="out", index=0, kind="sidewalk", width=2.0, speed_limit=1.4,
             line=np.array([[-60.0, -4.25], [40.0, -4.25]])),
        Lane(id="out_1", edge="out", index=1, kind="drive", width=3.25, speed_limit=13.9,
             line=np.array([[-60.0, -1.625], [40.0, -1.625]])),
        Lane(id="back_0", edge="back", index=0, kind="drive", width=3.25, speed_limit=13.9,
             line=np.array([[40.0, 1.625], [-60.0, 1.625]])),
    ]  # fmt: skip
    outline = np.array([[40.0, -6.0], [56.0, -6.0], [56.0, 6.0], [40.0, 6.0]])
    return RoadMap(
        id="00c0ffee00c0ffee",
        net_file="",
        lanes={lane.id: lane for lane in lanes},
        links=(Link(from_lane="out_1", to_lane="back_0", direction="turn", path=np.array([[40.0, -1.6], [40.0, 1.6]]),
                    via=(), tls="t", tls_index=0),),
        junctions=(Junction(id="j", kind="traffic_light", center=np.array([48.0, 0.0]), outline=outline),),
        signals=(SignalHead(x=40.0, y=-1.6, z=4.7, yaw=np.pi, lane="out_1", tls="t", tls_index=0),),
        stop_lines={"out_1": np.array([[40.0, 0.0], [40.0, -3.25]])},
        crossings=(),
        bounds=np.array([-60.0, -8.0, 56.0, 8.0]),
    )  # fmt: skip


def empty_scenery() -> Scenery:
    return Scenery(
        floats=np.zeros((0, 18), np.float32),
        codes=np.zeros((0, 4), np.int32),
        solid_rows=np.zeros((0, 5)),
        paved=np.zeros((0, 5)),
    )


def scene(*agents, signal=0, speed=0.0) -> Snapshot:
    """Agents are (x, y, yaw, kind, vx, lights) in front of an ego at the origin looking along x."""
    rows = [(x, y, yaw, *SIZES[kind], vx, 0.0, 0.0) for x, y, yaw, kind, vx, _ in agents]
    return Snapshot(
        time_s=0.0,
        ego=np.array([0.0, -1.6, 0.0, speed, 0.0, 0.0]),
        agents=np.array(rows, np.float32).reshape(-1, 9),
        agent_kind=np.array([int(a[3]) for a in agents], int),
        agent_lights=np.array([a[5] for a in agents], int),
        agent_key=np.arange(len(agents)) + 5,
        signals=np.array([signal]),
    )
