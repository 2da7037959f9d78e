"""What the fields of a driving set made elsewhere mean to us: a name or a JSON file in, a `Layout` out.

Nothing is guessed: every field, element, unit and sign is written down, and what is not is an error that names it.
"""

from __future__ import annotations

import difflib
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import radians
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from drivebyword.data.files import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One number of a field, and what it is multiplied by to be in our unit and sign."""

    field: str
    index: str | int | None = None
    """Which element, by its name in `info.json` or its number; None: the field is one number."""
    factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A camera of theirs that stands in for one of ours."""

    field: str
    fov_deg: float | None = None
    """Horizontal field of view of a pinhole; then our camera sees of theirs what it would see itself, and black where
    theirs does not look. None: unknown, and theirs is shown whole."""
    yaw_deg: float = 0.0
    """Where it looks, positive to the left."""
    pitch_deg: float = 0.0
    """Positive looks down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """The turn signal: which values mean left and right."""

    field: str
    index: str | int | None = None
    left: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything is in a set."""

    cameras: dict[str, View]
    """Our camera's name -> theirs; those our rig has not are left out, those missing here are absent sensors."""
    speed: Channel
    """To m/s."""
    heading: Channel | None = None
    """To radians, positive to the left; this or `yaw_rate`."""
    yaw_rate: Channel | None = None
    """To rad/s, positive to the left."""
    acceleration: Channel | None = None
    """To m/s2; None: the change of speed."""
    steering: Channel
    """To [-1, 1], positive to the left."""
    throttle: Channel
    """To [0, 1]."""
    brake: Channel
    """To [0, 1]."""
    turn_signal: Indicator | None = None
    """Says which way the driver means to go; None: not recorded."""
    sentence: str = "task_index"
    """Field of the instruction: strings, or `task_index`, LeRobot's own table of tasks."""

    def __post_init__(self) -> None:
        """Refuse what says too little or too much."""
        if (self.heading is None) == (self.yaw_rate is None):
            raise ValueError("field heading or yaw_rate must be given, and one of them only")
        if not self.cameras:
            raise ValueError("field cameras is empty: name at least one")


def l2d() -> Layout:
    """Return yaak-ai's L2D: speed in km/h, heading in degrees clockwise from north, signal 1 left and 2 right.

    Units and codes are those its makers' own code reads (github.com/yaak-ai/rmind, rbyte). The cameras' fields of view
    are not published: views are shown whole.
    """
    state, pedals = "observation.state.vehicle", "action.continuous"
    front, side = (View(field=f"observation.images.{name}") for name in ("front_left", "left_forward"))
    others = {
        "front_right": "right_forward", "rear_left": "left_backward", "rear_right": "right_backward", "rear": "rear",
    }  # fmt: skip
    return Layout(
        cameras={
            "wide": front, "front": front, "front_wide": front, "front_left": side,
            **{ours: View(field=f"observation.images.{theirs}") for ours, theirs in others.items()},
        },
        speed=Channel(field=state, index="speed", factor=1 / 3.6),
        heading=Channel(field=state, index="heading", factor=-radians(1.0)),
        acceleration=Channel(field=state, index="acceleration_x"),
        steering=Channel(field=pedals, index="steering_angle_normalized"),
        throttle=Channel(field=pedals, index="gas_pedal_normalized"),
        brake=Channel(field=pedals, index="brake_pedal_normalized"),
        turn_signal=Indicator(field="action.discrete", index="turn_signal", left=1, right=2),
        sentence="task.instructions",
    )  # fmt: skip


LAYOUTS = {"l2d": l2d}


def find_layout(name: str) -> Layout:
    """Return a layout by its name or from its JSON file. Raises ValueError in one line."""
    if name in LAYOUTS:
        return LAYOUTS[name]()
    path = Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, LAYOUTS, 1) or list(LAYOUTS)
        raise ValueError(f"no layout {name!r}: give {' or '.join(near)}, or a JSON file that says what the fields mean")
    try:
        built = _built(Layout, read_json(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    assert isinstance(built, Layout)
    return built


def _built(kind: Any, value: Any, where: str = "the file") -> Any:
    """Return JSON as what a field is declared to be. Raises ValueError that names the field."""
    options = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    for option in options:
        if is_dataclass(option) and isinstance(value, dict):
            return _built_record(option, value, where)
        if get_origin(option) is dict and isinstance(value, dict):
            _, inner = get_args(option)
            return {name: _built(inner, one, f"{where}.{name}") for name, one in value.items()}
        if option is NoneType and value is None:
            return None
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and not is_dataclass(option) and type(value) is option:
            return value
    wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise ValueError(f"field {where} must be {wanted}, got {value!r}")


def _built_record(kind: Any, value: dict[str, Any], where: str) -> Any:
    within = "" if where == "the file" else f"{where}."
    hints, given = get_type_hints(kind), {item.name: item for item in fields(kind) if item.init}
    for name in value:
        if name not in given:
            near = difflib.get_close_matches(name, given, 1) or sorted(given)
            raise ValueError(f"field {within}{name} is unknown; nearest: {', '.join(near)}")
    for name, item in given.items():
        if name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"field {within}{name} is missing")
    return kind(**{name: _built(hints[name], one, f"{within}{name}") for name, one in value.items()})
