"""Families of edge cases: they happen, their twins lack nothing else, and they are the same every time."""

import dataclasses
import itertools
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from drivebyword.core.records import Event, Lights, Snapshot
from drivebyword.metrics import ENDED_WELL, HARM
from drivebyword.train.collect import CollectConfig, collect
from drivebyword.world import careful
from drivebyword.world.cast import CAR, Actor, Beat, Cast, Cue, after, arrives
from drivebyword.world.env import DrivingEnv
from drivebyword.world.families import FAMILIES, HELD_OUT
from drivebyword.world.mirror import mirror_sentence, mirror_snapshot
from drivebyword.world.rigs import tiny
from drivebyword.world.scenario import SCENARIOS, Scenario
from drivebyword.world.stage import Stage

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
        assert edge["breach"] is None and info["ended"] in ENDED_WELL
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


OF_THE_STAGE = {
    "dense_fog": {"weather"},
    "low_mu_curve": {"weather", "friction"},
    "signal_dark_or_flashing": {"signals_off", "held_green"},
    "wrong_lane_signal": {"held_green", "red_s"},
    "fully_blocked_road": {"barred_s"},
    "low_sun": {"weather"},
}
"""Where the edge element is not an actor: what of the stage may differ."""
CUES = [
    Cue(time_s=time, s=s, speed=speed, since_s=since, own_s=own)
    for time, s, speed, since, own in itertools.product(
        (0.0, 9.0), (0.0, 60.0, 130.0), (0.0, 9.0), (0.0, 4.0), (0.0, 80.0)
    )
]


def staged(env: DrivingEnv, name: str, seed: int, twin: bool) -> Stage:
    stage = Stage(seed, name, twin, env._places.get)
    FAMILIES[name].build(stage)
    return stage


def plain(value: object) -> object:
    """Return what compares: a path's numbers, a beat's fields and what its condition says."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, Beat):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in ("when", "edge")}
        return fields | {"when": [value.when(cue) for cue in CUES]}
    return [plain(part) for part in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", FAMILIES)
def test_a_twins_stage_is_the_same_but_for_the_edge_element(env, name):
    for seed in (3, 11):
        edge, twin = staged(env, name, seed, False), staged(env, name, seed, True)
        assert edge.rng.bit_generator.state == twin.rng.bit_generator.state, "a number was drawn in one of the two only"
        assert edge.place.road_map.id == twin.place.road_map.id and edge.spawn == twin.spawn
        assert np.array_equal(edge.way.line, twin.way.line)
        assert plain(getattr(edge, "crossing", None)) == plain(getattr(twin, "crossing", None))
        told = ("intent", "weather", "held_green", "red_s", "signals_off", "friction", "detour", "barred_s")
        told += ("ego_s", "speed", "tail", "preventable")
        differs = {field for field in told if getattr(edge, field) != getattr(twin, field)}
        assert differs == OF_THE_STAGE.get(name, set())
        assert not twin.asks and not twin.edge_actors and twin.barred_s is None
        # Whom the scene is about is away, or there without the beats that make the scene.
        left = {actor.name for actor in twin.actors}
        kept = [actor for actor in edge.actors if actor.name not in edge.edge_actors or actor.name in left]
        assert [actor.name for actor in kept] == [actor.name for actor in twin.actors]
        for one, other in zip(kept, twin.actors, strict=True):
            for field in dataclasses.fields(Actor):
                if field.name == "beats" and one.name in edge.edge_actors and not other.beats:
                    assert one.beats
                else:
                    assert plain(getattr(one, field.name)) == plain(getattr(other, field.name)), field.name


@pytest.mark.parametrize("name", FAMILIES)
def test_until_the_event_a_twin_is_the_same_to_the_byte(env, name):
    def watched(scenario: str) -> tuple[list, set[int]]:
        _, info = env.reset(seed=11, options={"scenario": scenario})
        moments = []
        for _ in range(40):
            if info["ended"] is not None or info["edge"]["began_s"] is not None:
                break
            seen = Snapshot(**info["snapshot"])
            if env.road_map.left_hand:  # the edge element is the side of the road itself
                seen = mirror_snapshot(seen)
            lights = seen.agent_lights & ~int(Lights.MIRRORED)
            moments.append((seen.ego[:3], seen.agents, lights, seen.agent_key.tolist()))
            *_, info = env.step(np.array([0.0, 0.3, 0.0]))
        return moments, set(env.edge_keys)

    edge, about = watched(name)
    twin, _ = watched(f"{name}/twin")
    for (pose, agents, lights, keys), (pose_2, agents_2, lights_2, keys_2) in zip(edge, twin, strict=False):
        rows, rows_2 = ([row for row, key in enumerate(each) if key not in about] for each in (keys, keys_2))
        assert np.array_equal(pose, pose_2) and [keys[row] for row in rows] == [keys_2[row] for row in rows_2]
        assert np.array_equal(agents[rows], agents_2[rows_2]) and np.array_equal(lights[rows], lights_2[rows_2])


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


def test_who_only_crosses_or_cuts_in_is_harmless_while_not_in_the_way():
    assert not careful.avoids(10.0, 10.0)
    assert careful.avoids(10.0, 10.0, window_s=(0.0, 0.9)), "gone before the ego is there"
    assert not careful.avoids(10.0, 10.0, window_s=(0.0, 1.1))
    assert careful.avoids(10.0, 10.0, window_s=(3.0, 9.0), length=1.8), "past before it comes"
    assert careful.crossing_s(3.0, 10.0, 4.4) == pytest.approx((2.69, 3.31))


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
