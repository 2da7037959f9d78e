"""Every family of edge cases, one a file. A new one: write the file, name it here (docs/scenarios.md)."""

from drivebyword.world.families.adult_farside_run import AdultFarsideRun
from drivebyword.world.families.child_from_parked_cars import ChildFromParkedCars
from drivebyword.world.families.construction_taper import ConstructionTaper
from drivebyword.world.families.construction_two_way import ConstructionTwoWay
from drivebyword.world.families.cut_in_short_ttc import CutInShortTtc
from drivebyword.world.families.cut_in_with_static_queue import CutInWithStaticQueue
from drivebyword.world.families.cut_out_reveals_stopped import CutOutRevealsStopped
from drivebyword.world.families.cyclist_crossing_flow import CyclistCrossingFlow
from drivebyword.world.families.dense_fog import DenseFog
from drivebyword.world.families.door_opens import DoorOpens
from drivebyword.world.families.emergency_vehicle_behind import EmergencyVehicleBehind
from drivebyword.world.families.flagger_stop_slow import FlaggerStopSlow
from drivebyword.world.families.fully_blocked_road import FullyBlockedRoad
from drivebyword.world.families.lead_hard_brake import LeadHardBrake
from drivebyword.world.families.lead_stopped_hidden_by_bend import LeadStoppedHiddenByBend
from drivebyword.world.families.left_across_oncoming import LeftAcrossOncoming
from drivebyword.world.families.left_hand_traffic_switch import LeftHandTrafficSwitch
from drivebyword.world.families.low_mu_curve import LowMuCurve
from drivebyword.world.families.low_sun import LowSun
from drivebyword.world.families.partial_blocker import PartialBlocker
from drivebyword.world.families.pedestrian_in_turn import PedestrianInTurn
from drivebyword.world.families.police_overrides_green import PoliceOverridesGreen
from drivebyword.world.families.red_light_runner import RedLightRunner
from drivebyword.world.families.signal_dark_or_flashing import SignalDarkOrFlashing
from drivebyword.world.families.slow_lead_moving import SlowLeadMoving
from drivebyword.world.families.two_blockers_cut_out import TwoBlockersCutOut
from drivebyword.world.families.wrong_lane_signal import WrongLaneSignal
from drivebyword.world.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        LeadStoppedHiddenByBend(),
        LeadHardBrake(),
        SlowLeadMoving(),
        CutInShortTtc(),
        CutInWithStaticQueue(),
        CutOutRevealsStopped(),
        TwoBlockersCutOut(),
        PartialBlocker(),
        ChildFromParkedCars(),
        AdultFarsideRun(),
        PedestrianInTurn(),
        CyclistCrossingFlow(),
        DoorOpens(),
        RedLightRunner(),
        LeftAcrossOncoming(),
        SignalDarkOrFlashing(),
        WrongLaneSignal(),
        PoliceOverridesGreen(),
        FlaggerStopSlow(),
        ConstructionTaper(),
        ConstructionTwoWay(),
        FullyBlockedRoad(),
        EmergencyVehicleBehind(),
        LowMuCurve(),
        DenseFog(),
        LeftHandTrafficSwitch(),
        LowSun(),
    )
}
HELD_OUT = tuple(name for name, family in FAMILIES.items() if family.held_out)
"""Families no episode of which may be recorded for training."""
