"""Families of edge cases: they happen, their twins lack nothing else, and they are the same every time."""

import dataclasses
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from drivebyword.core.records import Event, Snapshot
from drivebyword.metrics import HARM
from drivebyword.train.collect import CollectConfig, collect
from drivebyword.world import careful
from drivebyword.world.cast import CAR, Actor, Beat, Cast, Cue, after, arrives
from drivebyword.world.env import DrivingEnv
from drivebyword.world.families import FAMILIES, HELD_OUT
from drivebyword.world.mirror import mirror_sentence, mirror_snapshot
from drivebyword.world.rigs import tiny
from drivebyword.world.scenario import SCENARIOS, Scenario

STRAIGHT = np.array([[0.0, 0.0], [400.0, 0.0]])


@pytest.fixture(scope="module")
def env():
    env = DrivingEnv(render_sensors=False)
    yield env
    env.close()


def play(env: DrivingEnv, scenario: str | Scenario, seed: int, steps: int = 600) -> tuple[int, dict]:
    """Let the expert drive a scene; return every event and the last info."""
    _, info = env.reset(seed=seed, options={"scenario": scenario})
    events = 0
    for _ in range(steps):
        if info["ended"] is not None:
            break
        *_, info = env.step(env.expert().act[0])
        events |= info["events"]
    return events, info


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_event_happens_and_the_expert_comes_through(env, name):
    events, info = play(env, name, 3)
    edge = info["edge"]
    assert edge["family"] == name and not edge["twin"]
    assert edge["began_s"] is not None, "the ego never met the event"
    if edge["preventable"]:
        assert not events & int(HARM), f"{Event(events)!s}"
    if env.edge.critical_s is not None:
        assert edge["visible_s"] is not None and edge["visible_s"] <= edge["critical_s"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_twin_differs_in_nothing_but_the_edge_element(env, name):
    _, info = env.reset(seed=11, options={"scenario": name})
    scene, edge, left_hand = Snapshot(**info["snapshot"]), set(env.edge_keys), env.road_map.left_hand
    sentence = env.mission.sentence
    _, info = env.reset(seed=11, options={"scenario": f"{name}/twin"})
    twin = Snapshot(**info["snapshot"])
    if env.road_map.left_hand != left_hand:  # the edge element is the side of the road itself
        scene, sentence = mirror_snapshot(scene), mirror_sentence(sentence)
    kept = [k for k, key in enumerate(scene.agent_key) if key not in edge or key in twin.agent_key]
    assert np.array_equal(scene.agents[kept], twin.agents)
    assert np.array_equal(scene.agent_kind[kept], twin.agent_kind)
    assert np.array_equal(scene.ego, twin.ego) and sentence == env.mission.sentence
    assert info["edge"]["twin"] and info["edge"]["began_s"] is None


@pytest.mark.parametrize("name", ["cut_in_short_ttc", "left_across_oncoming"])
def test_the_same_seed_is_the_same_scene(env, name):
    def agents() -> list[np.ndarray]:
        env.reset(seed=5, options={"scenario": name})
        found = []
        for _ in range(30):
            *_, info = env.step(np.array([0.0, 0.3, 0.0]))
            found.append(info["snapshot"]["agents"])
            if info["ended"]:
                break
        return found

    one, other = agents(), agents()
    assert len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_every_family_names_its_source_and_has_a_scenario_and_a_twin():
    for name, family in FAMILIES.items():
        assert family.source and family.__doc__
        assert SCENARIOS[name].family is family and SCENARIOS[f"{name}/twin"].twin
        assert dataclasses.is_dataclass(family)


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_held_out_family_is_never_recorded_for_training(name, tmp_path):
    for scenario in (name, f"{name}/twin"):
        with pytest.raises(ValueError, match="held out"):
            collect(CollectConfig(out=tmp_path, scenario=scenario, seeds=(0, 1)), tiny(), show_progress=False)


# Speeds in km/h and the gap in metres, as integrated independently (facts/safety.md, 2.6).
@pytest.mark.parametrize(("ego", "other", "gap"), [(60, 30, 16.5), (60, 0, 42.3), (100, 60, 24.1), (130, 80, 32.7)])
def test_the_careful_driver_needs_the_gaps_of_regulation_157(ego, other, gap):
    assert careful.avoids(ego / 3.6, 1.01 * gap, other / 3.6)
    assert not careful.avoids(ego / 3.6, 0.99 * gap, other / 3.6)


def test_the_careful_driver_needs_more_room_behind_who_brakes():
    assert careful.avoids(14.0, 12.0, 14.0)
    assert not careful.avoids(14.0, 12.0, 14.0, decel=9.0)


# --------------------------------------------------------------------------- cast


def cast_of(**actor) -> Cast:
    return Cast((Actor(name="one", body=CAR, path=STRAIGHT, **actor),), 0.2, seed=0)


def run(cast: Cast, steps: int, speed: float = 10.0, start: float = 0.0) -> None:
    for k in range(steps):
        cast.step(Cue(time_s=0.2 * k, s=start + speed * 0.2 * k, speed=speed))


def test_an_actor_keeps_its_distance_before_the_ego_until_its_first_beat():
    brake = Beat(when=arrives(60.0, 0.0), speed=0.0, accel=5.0, edge=True)
    cast = cast_of(s=22.2, speed=10.0, gap=20.0, beats=(brake,))
    run(cast, 26)
    assert cast.agents().agents[0, 0] == pytest.approx(26 * 2.0 + 22.2, abs=0.5) and cast.edge_s is None
    run(cast, 40, start=52.0)
    assert np.hypot(*cast.agents().agents[0, 6:8]) == 0.0 and cast.edge_s is not None


def test_an_actor_moves_aside_smoothly_and_comes_to_rest_there():
    cast = cast_of(s=50.0, speed=8.0, beats=(Beat(when=after(0.0), aside=3.25, sideways=1.2),))
    places = []
    for k in range(40):
        cast.step(Cue(time_s=0.2 * k, s=0.0, speed=0.0))
        places.append(float(cast.agents().agents[0, 1]))
    steps = np.diff(places)
    assert places[-1] == pytest.approx(3.25, abs=1e-6) and steps.max() <= 1.2 * 0.2 + 1e-5
    assert (np.abs(np.diff(steps)) < 0.1).all()


def test_who_enters_later_is_not_there_before_and_who_has_passed_is_gone():
    cast = cast_of(s=0.0, enters=1, beats=(Beat(when=arrives(30.0, 1.0), speed=20.0, accel=1000.0),))
    assert not cast.present()
    run(cast, 12)
    assert cast.present() == [0]
    run(cast, 120)
    assert not cast.present()


def test_who_brakes_shows_it():
    cast = cast_of(s=10.0, speed=10.0, beats=(Beat(when=after(0.4), speed=0.0, accel=4.0),))
    run(cast, 1)
    assert not int(cast.agents().lights[0]) & 1
    run(cast, 4)
    assert int(cast.agents().lights[0]) & 1


def test_the_family_of_the_guide_is_a_scene(env):
    """`docs/scenarios.md` writes one in at most 60 lines; it must happen as it says."""
    text = (Path(__file__).parent.parent / "docs" / "scenarios.md").read_text(encoding="utf-8")
    recipe = text.split("```python\n")[1].split("```")[0]
    assert len(recipe.splitlines()) <= 60
    module = types.ModuleType("guide")
    sys.modules["guide"] = module  # dataclasses look their module up
    exec(recipe, module.__dict__)
    family = module.__dict__["DeerAtDusk"]()
    scenario = Scenario(name=family.name, instructions=(1, 1), vehicles=(0, 0), people=(0, 0), family=family)
    events, info = play(env, scenario, 7)
    assert info["edge"]["began_s"] is not None and info["edge"]["preventable"]
    assert not events & int(HARM), str(Event(events))
