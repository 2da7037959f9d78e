"""Pictures for people: a Snapshot in, a chase view or a bird's-eye view out. Never seen by a policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from drivebyword.core.geometry import box_corners, to_ego
from drivebyword.core.kinematics import CarConfig
from drivebyword.core.records import PEOPLE, AgentKind, Snapshot
from drivebyword.core.rig import CameraConfig, Weather
from drivebyword.world.bodies import CAR_COLOURS, CLOTHES, EGO_COLOUR, EGO_KEY
from drivebyword.world.closeup import CloseUp
from drivebyword.world.ground import Ground
from drivebyword.world.light import light_of
from drivebyword.world.roads import RoadMap
from drivebyword.world.scenery import Scenery
from drivebyword.world.sensors import Lens, Solids, mounted
from drivebyword.world.solids import BLUE, CROWN, CX, CY, ELLIPSOID, FACADE, GREEN, HL, RED, ROOF, SHADER, SHAPE

VIEW_REACH = 260.0
_COLOURS = {
    int(AgentKind.CONE): (250, 96, 24),
    int(AgentKind.BARRIER): (206, 32, 30),
    int(AgentKind.DEBRIS): (150, 116, 76),
    int(AgentKind.ANIMAL): (126, 88, 56),
    int(AgentKind.OFFICER): (196, 236, 40),
    int(AgentKind.FLAGGER): (255, 126, 24),
    int(AgentKind.SIGN): (190, 22, 30),
}
SIGNAL_COLOURS = ((238, 44, 36), (255, 182, 30), (44, 214, 110), (255, 120, 30), (60, 60, 60))


def with_ego(snapshot: Snapshot, car: CarConfig, lights: int = 0) -> Snapshot:
    """Return the snapshot with the ego among the agents, so that pictures show it."""
    x, y, yaw, speed, yaw_rate, _ = (float(v) for v in snapshot.ego)
    ahead = car.length / 2 - car.rear_overhang
    row = [x + ahead * np.cos(yaw), y + ahead * np.sin(yaw), yaw, car.length, car.width, car.height]
    row += [speed * np.cos(yaw), speed * np.sin(yaw), yaw_rate]
    return replace(
        snapshot,
        agents=np.vstack([snapshot.agents, np.array([row], np.float32)]).astype(np.float32),
        agent_kind=np.append(snapshot.agent_kind, int(AgentKind.CAR)),
        agent_lights=np.append(snapshot.agent_lights, lights),
        agent_key=np.append(snapshot.agent_key, EGO_KEY),
    )


class WorldView:
    """Draws a town and what happens in it."""

    def __init__(self, road_map: RoadMap, ground: Ground, scenery: Scenery, car: CarConfig | None = None) -> None:
        self.ground, self.scenery, self.car = ground, scenery, car or CarConfig()
        self.road_map, self.signals = road_map, road_map.signals
        self.solids = Solids(road_map, ground, scenery, capacity=8192)
        self.close_up = CloseUp(road_map, ground, scenery)
        self._lenses: dict[tuple[int, int], Lens] = {}

    def chase(
        self, snapshot: Snapshot, weather: Weather, width: int = 640, height: int = 360, lights: int = 0
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the ego from behind and above.

        Args:
            snapshot: Ground truth.
            weather: Light and air.
            width: Columns.
            height: Rows.
            lights: The ego's own lamps (Lights), which a snapshot does not carry.
        """
        if (width, height) not in self._lenses:
            camera = CameraConfig(name="chase", width=width, height=height, fov_deg=66.0, x=-8.2, z=3.9, pitch=0.20)
            self._lenses[width, height] = Lens(camera, self.ground.pixel, subs=2)
        lens = self._lenses[width, height]
        self.solids.collect(with_ego(snapshot, self.car, lights), weather, VIEW_REACH)
        ego = np.asarray(snapshot.ego, float)
        # The camera trails the heading a little, so that one sees into the turn.
        trail = float(np.clip(-0.35 * ego[4], -0.3, 0.3))
        pivot = np.array(mounted(ego, 1.5, 0.0, 0.0, trail))[[0, 1, 3]]
        pose = np.array(mounted(pivot, lens.camera.x - 1.5, 0.0, lens.camera.z, 0.0))
        # Most of what one sees up close lies ahead of the ego.
        self.solids.patch = self.close_up.around(ego[0] + 12.0 * np.cos(ego[2]), ego[1] + 12.0 * np.sin(ego[2]))
        light = light_of(weather, ego, 1.04 + 0.35 * weather.night, self.scenery.sun_side)
        return self.solids.picture(lens, pose, light, np.uint64(1), (0.0, 0.0), 10)

    def bird_eye(
        self,
        snapshot: Snapshot,
        plan: Float[np.ndarray, "P 2"] | None = None,
        size: int = 360,
        across: float = 90.0,
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the world from above, heading up.

        Args:
            snapshot: Ground truth.
            plan: Points ahead in the ego frame (x forward, y left), drawn as a ribbon.
            size: Rows and columns.
            across: Metres from edge to edge.
        """
        scale = 2 * size / across
        pose = np.asarray(snapshot.ego[:3], float)
        canvas = Image.fromarray(self.ground.picture(pose, 2 * size, across, 1.3 * size))
        draw = ImageDraw.Draw(canvas, "RGBA")

        def pixels(points: np.ndarray) -> list[tuple[float, float]]:
            local = to_ego(np.asarray(points, float), pose)
            return [(size - y * scale, 1.3 * size - x * scale) for x, y in local]

        self._draw_buildings(draw, pixels, pose, across)
        if plan is not None and len(plan) > 1:
            path = [(size - y * scale, 1.3 * size - x * scale) for x, y in np.asarray(plan, float)]
            draw.line(path, fill=(*_ints(EGO_COLOUR), 170), width=max(3, int(1.1 * scale)), joint="curve")
        self._draw_agents(draw, pixels, snapshot)
        self._draw_trees(draw, pixels, pose, across, scale)
        for head, state in zip(self.signals, snapshot.signals):
            if np.hypot(head.x - pose[0], head.y - pose[1]) < across:
                ((u, v),) = pixels(np.array([[head.x, head.y]]))
                r = 0.75 * scale
                draw.ellipse(
                    (u - r, v - r, u + r, v + r), fill=SIGNAL_COLOURS[int(state)], outline=(20, 20, 22), width=3
                )
        return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))

    def whole(self, size: int = 1200) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the whole map from above, north up and `size` pixels along its longer side, with signals and signs."""
        low, high = self.road_map.bounds[:2], self.road_map.bounds[2:]
        across = float((high - low).max()) + 40.0
        middle, scale = (low + high) / 2, 2 * size / across
        pose = np.array([middle[0], middle[1], np.pi / 2])
        canvas = Image.fromarray(self.ground.picture(pose, 2 * size, across, float(size)))
        draw = ImageDraw.Draw(canvas, "RGBA")

        def pixels(points: np.ndarray) -> list[tuple[float, float]]:
            return [(size - y * scale, size - x * scale) for x, y in to_ego(np.asarray(points, float), pose)]

        self._draw_buildings(draw, pixels, pose, across)
        self._draw_trees(draw, pixels, pose, across, scale)
        for mark, colour in ((self.signals, SIGNAL_COLOURS[2]), (self.road_map.signs, SIGNAL_COLOURS[0])):
            for u, v in pixels(np.array([(thing.x, thing.y) for thing in mark]).reshape(-1, 2)):
                draw.ellipse((u - 7, v - 7, u + 7, v + 7), fill=colour, outline=(255, 255, 255), width=2)
        trim = (across - (high - low) - 40.0) * scale / 2
        box = (int(trim[0]), int(trim[1]), 2 * size - int(trim[0]), 2 * size - int(trim[1]))
        canvas = canvas.crop(box)
        return np.asarray(canvas.resize((canvas.width // 2, canvas.height // 2), Image.Resampling.BOX))

    def _draw_buildings(self, draw: ImageDraw.ImageDraw, pixels, pose: np.ndarray, across: float) -> None:  # type: ignore[no-untyped-def]
        s = self.scenery
        near = np.hypot(s.floats[:, CX] - pose[0], s.floats[:, CY] - pose[1]) < across
        for row, code in zip(s.floats[near].astype(float), s.codes[near]):
            if code[SHADER] not in (FACADE, ROOF):
                continue
            x, y, cos, sin, half_l, half_w = row[:6]
            yaw = float(np.arctan2(sin, cos))
            corners = pixels(box_corners(x, y, yaw, 2 * half_l, 2 * half_w))
            tone = 0.82 if code[SHADER] == FACADE else 1.0
            fill = tuple(int(v * tone) for v in (row[RED], row[GREEN], row[BLUE]))
            draw.polygon(corners, fill=fill, outline=tuple(int(v * 0.72) for v in fill), width=2)
            if code[SHADER] == ROOF:
                ridge = box_corners(x, y, yaw, 2 * float(row[11]), 0.3)
                ends = pixels((ridge[[0, 1]] + ridge[[3, 2]]) / 2)
                shade = tuple(int(v * 0.8) for v in fill)
                draw.line(ends, fill=shade, width=3)
                for corner, end in zip(corners, (ends[0], ends[1], ends[1], ends[0])):
                    draw.line([corner, end], fill=shade, width=2)

    def _draw_trees(self, draw: ImageDraw.ImageDraw, pixels, pose: np.ndarray, across: float, scale: float) -> None:  # type: ignore[no-untyped-def]
        s = self.scenery
        near = (np.hypot(s.floats[:, CX] - pose[0], s.floats[:, CY] - pose[1]) < across) & (s.codes[:, SHADER] == CROWN)
        for row, code in zip(s.floats[near].astype(float), s.codes[near]):
            ((u, v),) = pixels(row[None, :2])
            r = float(row[HL]) * scale * (1.0 if code[SHAPE] == ELLIPSOID else 1.15)
            fill = tuple(int(c) for c in (row[RED], row[GREEN], row[BLUE]))
            draw.ellipse((u - r, v - r, u + r, v + r), fill=(*fill, 225))
            light = tuple(min(255, int(c * 1.18)) for c in fill)
            q = r * 0.55
            draw.ellipse((u - q - 0.2 * r, v - q - 0.2 * r, u + q - 0.2 * r, v + q - 0.2 * r), fill=(*light, 160))

    def _draw_agents(self, draw: ImageDraw.ImageDraw, pixels, snapshot: Snapshot) -> None:  # type: ignore[no-untyped-def]
        both = with_ego(snapshot, self.car)
        for row, kind, lamps, key in zip(both.agents.astype(float), both.agent_kind, both.agent_lights, both.agent_key):
            x, y, yaw, length, width = row[:5]
            if np.hypot(x - snapshot.ego[0], y - snapshot.ego[1]) > 120.0:
                continue
            colour = agent_colour(int(kind), int(key))
            if kind in PEOPLE:
                ((u, v), (a, b)) = pixels(np.array([[x, y], [x + 0.55, y]]))
                r = float(np.hypot(a - u, b - v))
                draw.ellipse((u - r, v - r, u + r, v + r), fill=colour, outline=(255, 255, 255), width=2)
                continue
            body = box_corners(x, y, yaw, length, max(width, 0.7))
            draw.polygon(pixels(body + np.array([0.25, 0.2])), fill=(0, 0, 0, 70))
            draw.polygon(pixels(body), fill=colour, outline=(24, 26, 30), width=2 if key != EGO_KEY else 4)
            if kind in (AgentKind.CAR, AgentKind.VAN):
                cabin = box_corners(x - 0.06 * length * np.cos(yaw), y - 0.06 * length * np.sin(yaw), yaw, 0.5 * length,
                                    0.8 * width)  # fmt: skip
                draw.polygon(pixels(cabin), fill=(44, 52, 60))
                roof = box_corners(x - 0.08 * length * np.cos(yaw), y - 0.08 * length * np.sin(yaw), yaw, 0.28 * length,
                                   0.76 * width)  # fmt: skip
                draw.polygon(pixels(roof), fill=colour)
            self._draw_lamps(draw, pixels, row, int(lamps))

    def _draw_lamps(self, draw: ImageDraw.ImageDraw, pixels, row: np.ndarray, lamps: int) -> None:  # type: ignore[no-untyped-def]
        x, y, yaw, length, width = row[:5]
        back = box_corners(x, y, yaw, length, width)
        if lamps & 1:
            draw.line(pixels(back[1:3]), fill=(255, 40, 30), width=7)
        for flag, pair in ((2, (0, 1)), (4, (3, 2))):
            if lamps & flag:
                for u, v in pixels(back[list(pair)]):
                    draw.ellipse((u - 5, v - 5, u + 5, v + 5), fill=(255, 176, 20))


def agent_colour(kind: int, key: int) -> tuple[int, int, int]:
    """Return the colour an agent's body has in every picture."""
    if key == EGO_KEY:
        return _ints(EGO_COLOUR)
    pick = ((key * 2654435761 + 12345) & 0x7FFFFFFF) >> 8
    if kind in _COLOURS:
        return _COLOURS[kind]
    if kind in (AgentKind.BICYCLE, AgentKind.PEDESTRIAN, AgentKind.MOTORBIKE):
        return _ints(CLOTHES[pick % len(CLOTHES)])
    if kind == AgentKind.BUS:
        return 224, 178, 52
    return (214, 212, 204) if kind == AgentKind.TRUCK else _ints(CAR_COLOURS[pick % len(CAR_COLOURS)])


def _ints(colour) -> tuple[int, int, int]:  # type: ignore[no-untyped-def]
    r, g, b = (int(c) for c in colour)
    return r, g, b
