import json
import multiprocessing as mp
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calm_drive import calm_drive, events, told

from drivebyword.core.edge import EdgeRecord
from drivebyword.core.records import Event, InstructionRecord, Observation
from drivebyword.core.rig import Weather
from drivebyword.core.seeds import TEST_SEEDS
from drivebyword.evaluate import judge, report, rows, suites
from drivebyword.evaluate.judge import Scene, crashed, read_results, result_of, why_of
from drivebyword.evaluate.page import render_page
from drivebyword.evaluate.report import build_report, check_gates, measure, render_table, write_report
from drivebyword.evaluate.rows import Rewording, Row, blind, choose_rows, constant_speed, expert, standard_rows
from drivebyword.loop.batching import Checkpoint
from drivebyword.tokens.grammar import parse_intent
from drivebyword.world.families import FAMILIES
from drivebyword.world.rigs import tiny

TOWN = suites.SUITES["town"]
SEEDS = (2_000_000, 2_000_020)


def a_policy(env):
    raise AssertionError("never made in these tests")


ROWS = standard_rows(a_policy)
KEYS = dict.fromkeys(ROWS, "k")


def results(row, bad=0, frames=20, **changes):
    """Return the results of one row over SEEDS, the first `bad` of which hit a person."""
    found = []
    for i, seed in enumerate(range(*SEEDS)):
        flags = events(Event.COLLISION_PERSON | Event.AT_FAULT, 5, frames) if i < bad else events(0, 0, frames)
        drive = calm_drive(frames, seed=seed, events=flags, ended="collision" if i < bad else "arrived", **changes)
        found.append(result_of(row, drive, 1.0))
    return found


def made(names=("policy", "guarded", "null-instruction")):
    chosen = choose_rows(ROWS, list(names))
    everything = []
    for name in chosen:
        missed = [told("left", "missed")] if name == "null-instruction" else [told("left")]
        everything += results(name, bad=4 if name == "policy" else 0, instructions=missed)
    return build_report(everything, chosen, TOWN, "abc", SEEDS, KEYS, command="drivebyword evaluate")


def test_the_report_has_the_schema_every_judging_shares():
    made_report = made()
    top = {"command", "commit", "machine", "created", "suite", "suite_hash", "seeds", "policies"}
    assert top <= made_report.keys()
    policy = made_report["policies"]["policy"]
    assert {"checkpoint", "config_hash", "guarded", "metrics", "families"} <= policy.keys()
    assert policy["guarded"] is False
    assert made_report["policies"]["guarded"]["guarded"] is True
    success = policy["metrics"]["success"]
    assert (success["k"], success["n"], success["rate"]) == (16, 20, 0.8)
    assert success["low"] < 0.8 < success["high"]
    assert {"mean", "low", "high", "n"} == policy["metrics"]["driving_score"].keys()
    assert policy["metrics"]["collision_at_fault"]["k"] == 4
    json.dumps(made_report, allow_nan=False)


def test_causal_compliance_is_what_the_sentence_added():
    metrics = made()["policies"]["policy"]["metrics"]
    assert metrics["compliance"]["rate"] == 1.0
    assert metrics["causal_junction_compliance"]["mean"] == 1.0
    assert "causal_compliance" not in made(("policy",))["policies"]["policy"]["metrics"]


def test_pairs_are_compared_on_the_same_scenes():
    found = [c for c in made()["comparisons"] if (c["a"], c["b"], c["metric"]) == ("policy", "guarded", "success")]
    assert len(found) == 1
    assert found[0]["difference"] == pytest.approx(-0.2)
    assert found[0]["p_value"] == pytest.approx(0.125)


def test_failures_are_listed_with_their_seed_and_why():
    failed = made()["policies"]["policy"]["failures"]
    assert [f["seed"] for f in failed] == list(range(2_000_000, 2_000_004))
    assert "collision person (at fault) at 1 s, 8 m/s, told 'say left'" in failed[0]["why"]


def test_a_crash_is_a_failure_that_stays_in_the_denominator():
    found = results("policy")[:-1] + [crashed(Scene("policy", 2_000_019), TOWN, "ValueError: boom")]
    metrics = measure(found)
    assert (metrics["success"]["k"], metrics["success"]["n"]) == (19, 20)
    assert metrics["collision_at_fault"]["k"] == 1
    assert metrics["crashed"]["k"] == 1
    assert metrics["driving_score"]["n"] == 20
    assert metrics["compliance"]["n"] == 20


def test_a_metric_that_is_not_a_number_is_a_failure():
    found = results("policy")
    found[0]["scores"]["success"] = float("nan")
    found[1]["scores"]["collision_at_fault"] = float("nan")
    found[2]["scores"]["driving_score"] = float("inf")
    del found[3]["scores"]["success"]
    metrics = measure(found)
    assert metrics["success"]["k"] == 18
    assert metrics["collision_at_fault"]["k"] == 1
    assert metrics["driving_score"]["mean"] == pytest.approx(95.0)


def test_weathers_are_families():
    night = results("policy", weather=Weather(night=0.9))[:5]
    mixed = results("policy")[5:] + night
    found = build_report(mixed, choose_rows(ROWS, ["policy"]), TOWN, "abc", SEEDS, KEYS)
    families = found["policies"]["policy"]["families"]
    assert families.keys() == {"town/day", "town/night"}
    assert families["town/night"]["success"]["n"] == 5


def test_why_names_the_first_thing_that_went_wrong():
    assert why_of(calm_drive()) == ""
    assert why_of(calm_drive(ended="timeout")) == "timeout"
    assert why_of(calm_drive(instructions=[told("left", "missed")])) == "missed 'say left'"
    assert why_of(calm_drive(events=events(Event.RED_LIGHT, 50))).startswith("red light at 10 s")


# --------------------------------------------------------------------------- page, table, gates


def test_the_page_is_self_contained_and_shows_every_row(tmp_path):
    found = made()
    _, page = write_report(found, tmp_path)
    text = page.read_text()
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(found))
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert "prefers-color-scheme:dark" in text
    for name in found["policies"]:
        assert name in text
    assert "2000003" in text
    assert text.count("<table") == text.count("</table>") >= 4


def test_the_page_escapes_what_a_passenger_typed():
    found = results("policy", bad=1, instructions=[told("left")])
    found[0]["why"] = "told '<script>alert(1)</script>'"
    page = render_page(build_report(found, choose_rows(ROWS, ["policy"]), TOWN, "abc", SEEDS, KEYS))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_table_states_intervals_scenes_and_suite():
    table = render_table(made(), ["policy", "guarded"])
    assert "| policy | 20 | 80.0 % [58.4, 91.9]" in table
    assert "null-instruction" not in table
    assert "Suite `town` (abc), seeds 2000000:2000020" in table


def test_a_gate_is_met_by_the_bound_not_the_point():
    found = made()
    assert check_gates(found, ["success=0.5", "guarded.success=0.8", "guarded.collision_at_fault=0.17"]) == []
    missed = check_gates(found, ["success=0.75", "guarded.collision_at_fault=0.1"])
    assert len(missed) == 2
    assert "lower bound must pass 0.75" in missed[0]
    assert "upper bound must pass 0.1" in missed[1]


@pytest.mark.parametrize("gate", ["success", "success=high", "nobody.success=1", "beauty=0.5"])
def test_a_gate_that_makes_no_sense_is_one_line(gate):
    with pytest.raises(ValueError, match="gate"):
        check_gates(made(), [gate])


def test_the_commit_may_be_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert report.commit() is None


def test_every_family_has_its_line_with_what_happened_and_was_handled():
    edge = EdgeRecord(family="dense_fog", twin=False, preventable=True, began_s=1.0)
    found = []
    for i, seed in enumerate(range(*SEEDS)):
        breach = "14.2 m/s with 33 m of sight" if i < 4 else None
        name, own = (
            ("dense_fog", replace(edge, breach=breach)) if i % 2 else ("door_opens", replace(edge, began_s=None))
        )
        found.append(result_of("expert", calm_drive(20, seed=seed, scenario=name, edge=own), 1.0))
    assert found[1]["why"] == "14.2 m/s with 33 m of sight"
    lost = Scene("expert", SEEDS[0] + 1)
    found.append(crashed(lost, suites.Suite(name="x", about="y", scenarios=("dense_fog",)), "lost"))
    made_report = build_report(found, {"expert": ROWS["expert"]}, TOWN, "abc", SEEDS, KEYS, command="drivebyword x")
    lines = report.render_families(made_report, "expert").splitlines()
    assert "| dense_fog | 10 | 10 of 10 | 10 | 8 of 10: 80.0 % [49.0, 94.3] |" in lines
    assert "| door_opens (held out) | 10 | 0 of 10 | 0 | 0 of 0: - |" in lines
    assert made_report["policies"]["expert"]["metrics"]["handled"]["n"] == 11, "a crash stays in the denominator"


# --------------------------------------------------------------------------- suites and rows


def test_sensors_are_rendered_for_those_who_read_them_only():
    assert not rows.reads_sensors(ROWS["expert"]) and not rows.reads_sensors(ROWS["constant-speed"])
    assert rows.reads_sensors(ROWS["expert-guarded"]) and rows.reads_sensors(ROWS["policy"])


def test_the_suite_of_families_names_all_of_them_without_twins():
    assert set(suites.suite("families").scenarios) == set(FAMILIES)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean town"):
        suites.suite("toun")
    with pytest.raises(ValueError, match="did you mean lidar-blind"):
        choose_rows(ROWS, ["lidarblind"])
    with pytest.raises(ValueError, match="unknown sentences"):
        Row(driver=expert, sentences="loud")


def test_seeds_are_read_as_a_range_or_a_number_of_test_scenes():
    assert suites.parse_seeds("10:20") == (10, 20)
    assert suites.parse_seeds("5") == (TEST_SEEDS.start, TEST_SEEDS.start + 5)
    for text in ("x", "5:", "7:7", "0", "-1:4"):
        with pytest.raises(ValueError, match="seed"):
            suites.parse_seeds(text)


def test_a_suite_hash_is_stable_and_changes_with_the_suite():
    assert suites.suite_hash(TOWN) == suites.suite_hash(suites.suite("town"))
    assert len({suites.suite_hash(s) for s in suites.SUITES.values()}) == len(suites.SUITES)


def observation(sentence="turn left"):
    image = np.zeros((4, 8, 3), np.uint8)
    return Observation(
        time_s=0.0, cameras={"wide": image, "tele": image}, lidar=np.zeros((2, 4, 2), np.float32),
        radar=np.zeros((3, 4), np.float32), radar_valid=np.zeros(3, bool), ego=np.zeros(7, np.float32),
        instruction=sentence,
    )  # fmt: skip


def test_a_blinded_sensor_is_absent_and_the_others_stay():
    assert blind(observation(), ("camera",)).cameras == {}
    assert blind(observation(), ("tele",)).cameras.keys() == {"wide"}
    assert blind(observation(), ("lidar",)).lidar is None
    without = blind(observation(), ("radar",))
    assert without.radar is None
    assert without.radar_valid is None
    assert without.lidar is not None
    assert len(without.cameras) == 2


WAYS = ("left", "right", "straight")


def order(intent):
    return InstructionRecord(step=0, sentence="own words", intent=intent, deadline_s=9.0)


def test_sentences_are_replaced_the_same_way_every_time():
    for kind in rows.SENTENCES:
        first = [Rewording(kind, 7)("own words", i, "left", WAYS) for i in range(5)]
        assert first == [Rewording(kind, 7)("own words", i, "left", WAYS) for i in range(5)]
    assert Rewording("own", 7)("own words", 0, "left", WAYS) == "own words"
    assert Rewording("none", 7)("own words", 0, "left", WAYS) == ""


def test_a_wrong_branch_is_another_direction_at_the_same_junction():
    for seed in range(30):
        meant = parse_intent(Rewording("wrong-branch", seed)("own words", 1, "left_second", WAYS))
        assert meant in ("right_second", "straight_second")
        meant = parse_intent(Rewording("wrong-branch", seed)("own words", 1, "left", ("straight", "left")))
        assert meant == "straight"
    assert Rewording("wrong-branch", 1)("own words", 1, "slower", ()) == "own words"


def test_wordings_keep_the_meaning_and_the_other_row_keeps_the_kind():
    for seed in range(20):
        assert parse_intent(Rewording("training", seed)("x", 1, "left", WAYS)) == "left"
        assert parse_intent(Rewording("held-out", seed)("x", 1, "left", WAYS)) == "left"
        other = parse_intent(Rewording("other", seed)("x", 1, "stop", ()))
        assert other not in ("left", "right", "straight")


def test_the_transform_follows_the_mission():
    class Mission:
        index = 0
        instructions = (order("left"), order("right"))
        ways = WAYS

    class Env:
        mission = Mission()

    assert rows.make_transform(Row(driver=expert), Env(), 1) is None
    transform = rows.make_transform(Row(driver=expert, sentences="held-out", without=("lidar",)), Env(), 1)
    first = transform(observation())
    assert parse_intent(first.instruction) == "left"
    assert first.lidar is None
    Env.mission.index = 1
    assert parse_intent(transform(observation()).instruction) == "right"


# --------------------------------------------------------------------------- running


def fake_worker(rows_, suite, rig):
    """Stand in for the simulator: scenes succeed, raise or take their process with them."""

    def work(scene):
        if scene.seed == 2_000_003:
            raise ValueError("no road")
        if scene.seed == 2_000_005 and scene.row == "constant-speed":
            os._exit(3)
        if os.environ.get("COUNT_FILE"):
            with Path(os.environ["COUNT_FILE"]).open("a") as file:
                file.write(f"{scene.row} {scene.seed}\n")
        return result_of(scene.row, calm_drive(20, seed=scene.seed), 0.1)

    return work


def run(tmp_path, monkeypatch, names=("expert",), seeds=(2_000_000, 2_000_006), processes=1):
    monkeypatch.setattr(judge, "_make_worker", fake_worker)
    chosen = {"expert": Row(driver=expert), "constant-speed": Row(driver=constant_speed)}
    return judge.evaluate(
        {n: chosen[n] for n in names}, TOWN, seeds, tmp_path, rig=tiny(), processes=processes, show=False, command="c"
    )


def test_an_episode_that_raises_counts_as_failed_and_says_why(tmp_path, monkeypatch):
    found = run(tmp_path, monkeypatch)
    success = found["policies"]["expert"]["metrics"]["success"]
    assert (success["k"], success["n"]) == (5, 6)
    assert found["policies"]["expert"]["failures"][0]["why"] == "ValueError: no road"
    assert (tmp_path / "report.html").exists()


def test_a_process_that_dies_costs_its_scene_only(tmp_path, monkeypatch):
    found = run(tmp_path, monkeypatch, names=("expert", "constant-speed"), processes=2)
    success = {n: p["metrics"]["success"] for n, p in found["policies"].items()}
    assert success["expert"]["n"] == success["constant-speed"]["n"] == 6
    assert success["constant-speed"]["k"] == 4
    assert success["expert"]["k"] == 5


def test_a_second_run_drives_only_what_is_missing(tmp_path, monkeypatch):
    first = run(tmp_path, monkeypatch, seeds=(2_000_000, 2_000_003))
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    # A kill in the middle of a line loses that scene alone.
    (tmp_path / "results.jsonl").write_text("\n".join([*lines[:2], lines[2][:30]]) + "\n")
    count = tmp_path / "count"
    monkeypatch.setenv("COUNT_FILE", str(count))
    again = run(tmp_path, monkeypatch, seeds=(2_000_000, 2_000_003))
    assert len(count.read_text().splitlines()) == 1
    assert again["policies"]["expert"]["metrics"]["success"] == first["policies"]["expert"]["metrics"]["success"]
    assert len(read_results(tmp_path / "results.jsonl")) == 3


def test_results_of_another_suite_are_not_mixed_in(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, seeds=(2_000_000, 2_000_002))
    count = tmp_path / "count"
    monkeypatch.setenv("COUNT_FILE", str(count))
    monkeypatch.setattr(judge, "suite_hash", lambda suite: "other")
    run(tmp_path, monkeypatch, seeds=(2_000_000, 2_000_002))
    assert len(count.read_text().splitlines()) == 2


def test_code_that_drives_counts_and_what_is_said_about_it_does_not(tmp_path):
    file = tmp_path / "world" / "traffic.py"
    file.parent.mkdir()

    def digest(text):
        file.write_text(text)
        judge.code_digest.cache_clear()
        return judge.code_digest(tmp_path)

    plain = digest('GAP = 2.0\n\n\ndef gap():\n    """Metres."""\n    return GAP\n')
    assert digest('GAP = 2.0\n"""Metres."""\n\n\ndef gap():\n    return GAP  # as measured\n') == plain
    assert digest("GAP = 2.1\n\n\ndef gap():\n    return GAP\n") != plain


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="is no checkpoint"):
        judge.driver_digest(Row(driver=Checkpoint(tmp_path)))
    (tmp_path / "manifest.json").write_text("{}")
    assert len(judge.driver_digest(Row(driver=Checkpoint(tmp_path)))) == 16


def test_workers_are_spawned():
    assert "spawn" in mp.get_all_start_methods()
