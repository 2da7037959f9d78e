"""The whole cycle, small and real: practice near a failing scene, both checkpoints judged, a verdict; and again."""

import dataclasses
from pathlib import Path

import pytest
import torch
from train_small import small

from drivebyword.data.files import read_json, write_json
from drivebyword.evaluate.audit import before_and_after
from drivebyword.evaluate.iterate import IterateConfig, iterate
from drivebyword.evaluate.suites import Suite
from drivebyword.model.checkpoint import save_pretrained
from drivebyword.model.policy import Policy

FAMILY = "lead_hard_brake"


@pytest.mark.slow
def test_a_cycle_from_a_failing_scene_to_a_verdict_and_a_second_call_drives_nothing_again(tmp_path: Path):
    run = small(3)
    torch.manual_seed(0)
    stream = dataclasses.replace(run.policy.stream, window=1)
    start = tmp_path / "start"
    save_pretrained(Policy(dataclasses.replace(run.policy, stream=stream)), start)
    failed = {"scenario": FAMILY, "seed": 1_000_000, "family": "day", "ended": "timeout", "why": "timeout"}
    report = {"split": "validation", "seeds": [1_000_000, 1_000_001], "policies": {"policy": {"failures": [failed]}}}
    config = IterateConfig(
        report=write_json(tmp_path / "report.json", report), checkpoint=start, fresh=1, town=1, variants=2, processes=1
    )
    out = tmp_path / "cycle"
    found = iterate(config, run, out, "drivebyword iterate", show=False)
    assert found["human_labels"] == 0 and found["iteration_cycle_minutes"] > 0
    assert found["iteration_cycle_minutes"] == pytest.approx(sum(found["minutes"].values()), abs=1e-9)
    assert not found["accepted"] and "not better by interval" in found["why"]
    assert (out / found["checkpoint"] / "manifest.json").exists()
    practised = {p.name.split(".")[0] for p in (out / "train" / "round-0" / "practice" / ".parts").iterdir()}
    assert practised == {FAMILY}
    for name, scenario in (("fresh", FAMILY), ("town", "town")):
        audited = read_json(out / f"judged-{name}" / "audit.json")
        assert audited["scenes"] == 1 and audited["families"][0]["family"].startswith(scenario)
    lines = (out / "judged-fresh" / "results.jsonl").read_text()
    again = iterate(config, run, out, "drivebyword iterate", show=False)
    assert (out / "judged-fresh" / "results.jsonl").read_text() == lines
    assert {k: v for k, v in again.items() if "minutes" not in k} == {
        k: v for k, v in found.items() if "minutes" not in k
    }
    suite = Suite(name="one", about="one scene", scenarios=(FAMILY,))
    audited = before_and_after(out / "train", suite, (1_000_007, 1_000_008), tmp_path / "audit", rig=run.rig)
    assert audited["scenes"] == 1 and {"success", "creeping"} <= set(audited["measures"])
    with pytest.raises(ValueError, match="holds no checkpoint"):
        before_and_after(start, suite, (1_000_007, 1_000_008), tmp_path / "none", rig=run.rig)
