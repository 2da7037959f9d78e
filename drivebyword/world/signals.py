"""Traffic lights behind one class: a town's heads in, their colours out; and orders for scenes that need one held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from drivebyword.core.records import SignalState
from drivebyword.world.graph import LaneMatch, RoadGraph
from drivebyword.world.roads import RoadMap


def _signal_table() -> np.ndarray:
    """Return SignalState by SUMO's state letter."""
    table = np.full(256, int(SignalState.DARK), np.int64)
    letters = {"r": SignalState.RED, "s": SignalState.RED, "y": SignalState.AMBER, "Y": SignalState.AMBER}
    letters |= {"g": SignalState.GREEN, "G": SignalState.GREEN, "u": SignalState.RED_AMBER}
    for letter, state in letters.items():
        table[ord(letter)] = int(state)
    return table


_SIGNALS = _signal_table()


def colour_of(letter: str) -> SignalState:
    """Return the colour that SUMO's letter stands for."""
    return SignalState(int(_SIGNALS[ord(letter)]))


class Signals:
    """The signals of one simulation."""

    def __init__(self, sumo: Any, road_map: RoadMap, dt: float) -> None:
        self.sumo, self.dt = sumo, dt
        # Every head's place in the signals' states strung together.
        self._tls = sorted({head.tls for head in road_map.signals})
        starts, length = {}, 0
        for name in self._tls:
            starts[name] = length
            length += len(self._state(name))
        self._heads = np.array([starts[head.tls] + head.tls_index for head in road_map.signals], np.int64)

    def _state(self, tls: str) -> str:
        return str(self.sumo.trafficlight.getRedYellowGreenState(tls))

    def read(self) -> Int[np.ndarray, " S"]:
        """Return the state of every head of RoadMap.signals."""
        if not len(self._heads):
            return np.zeros(0, np.int64)
        letters = np.frombuffer("".join([self._state(name) for name in self._tls]).encode(), np.uint8)
        return _SIGNALS[letters[self._heads]]

    def link_state(self, tls: str, index: int) -> SignalState:
        """Return one link's colour."""
        return colour_of(self._state(tls)[index])

    def shift(self, seed: int) -> None:
        """Start every signal somewhere in its cycle: netconvert starts them all together."""
        rng, lights = np.random.default_rng([seed, 17]), self.sumo.trafficlight
        for name in self._tls:
            logic = lights.getAllProgramLogics(name)[0]
            durations = np.array([phase.duration for phase in logic.phases])
            at = rng.random() * durations.sum()
            ends = np.cumsum(durations)
            phase = min(int(np.searchsorted(ends, at, side="right")), len(durations) - 1)
            lights.setPhase(name, phase)
            lights.setPhaseDuration(name, max(self.dt, float(ends[phase] - at)))

    def stops(self, graph: RoadGraph, match: LaneMatch | None, route: Sequence[str]) -> bool:
        """Tell whether the link that leads from a place on to the route's next edge shows red."""
        if match is None or match.internal or match.wrong_way:
            return False
        links = [link for link in graph.links_from(match.lane) if link.tls is not None]
        lanes = graph.road_map.lanes
        taken = [k for k in links if len(route) > 1 and lanes[k.to_lane].edge == route[1]] or links
        states = [self.link_state(k.tls, k.tls_index) for k in taken if k.tls is not None and k.tls_index is not None]
        return bool(states) and all(state in (SignalState.RED, SignalState.RED_AMBER) for state in states)

    # ------------------------------------------------------------------ orders

    def hold(self, graph: RoadGraph, lane: str, edge: str, green: bool) -> None:
        """Hold the signal at the end of a lane: green to who goes on to an edge, or red to them and green beside."""
        lanes = graph.road_map.lanes
        mine = [k for k in graph.links_from(lane) if lanes[k.to_lane].edge == edge and k.tls is not None]
        if not mine or mine[0].tls is None or mine[0].tls_index is None:
            return
        if green:
            self._hold_green(mine[0].tls, mine[0].tls_index)
            return
        others = [other.id for other in graph.lanes_of(lanes[lane].edge) if other.id != lane]
        beside = {k.tls_index for other in others for k in graph.links_from(other)}
        state = "".join("G" if k in beside else "r" for k in range(len(self._state(mine[0].tls))))
        self.sumo.trafficlight.setRedYellowGreenState(mine[0].tls, state)

    def _hold_green(self, tls: str, index: int) -> None:
        """Stop a signal in a phase in which one of its links may go, with right of way where there is such a phase."""
        lights = self.sumo.trafficlight
        program = lights.getAllProgramLogics(tls)[0]
        lights.setProgram(tls, program.programID)
        for letters in ("G", "Gg"):
            for number, phase in enumerate(program.phases):
                if phase.state[index] in letters:
                    lights.setPhase(tls, number)
                    lights.setPhaseDuration(tls, 1e6)
                    return
        raise ValueError(f"signal {tls} never shows link {index} green")

    def switch_off(self, graph: RoadGraph, lane: str) -> None:
        """Let the signals at the end of a lane go dark: SUMO's vehicles then yield as at a junction without."""
        for tls in sorted({link.tls for link in graph.links_from(lane) if link.tls is not None}):
            self.sumo.trafficlight.setRedYellowGreenState(tls, "o" * len(self._state(tls)))
