"""Several processes, one policy: the same losses as one process, and states that any number of them goes on from."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_elsewhere import made_set
from small_policy import SMALL, make_batch

from drivebyword.data.files import read_json
from drivebyword.model.checkpoint import from_pretrained
from drivebyword.train.sharding import Ranks

PROGRAM = str(Path(__file__).with_name("sharded_run.py"))
STEPS, STOP = 10, 5
CLOSE = 1e-5


def learn(processes: int, *words: object) -> None:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run([*launch, PROGRAM, *map(str, words)], timeout=500, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def losses_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]


def assert_close(some: list[dict[str, float]], others: list[dict[str, float]]) -> None:
    assert [row["step"] for row in some] == [row["step"] for row in others]
    for one, other in zip(some, others, strict=True):
        for name in one:
            # Losses are of the order of 1; the gradient's norm is not.
            assert one[name] == pytest.approx(other[name], abs=CLOSE, rel=1e-4 if name == "grad_norm" else 0.0), name


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return made_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def alone(recorded, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    learn(1, out, recorded, STEPS)
    return out


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_the_same_policy(alone, recorded, tmp_path):
    learn(2, tmp_path, recorded, STEPS)
    assert len(losses_of(alone)) == STEPS
    assert_close(losses_of(tmp_path), losses_of(alone))
    one, two = (from_pretrained(out / "checkpoint").state_dict() for out in (alone, tmp_path))
    assert one.keys() == two.keys()
    # Adam turns the last digit of a gradient near 0 into a whole step: single weights differ, the policy does not.
    apart = sum(float((one[name] - two[name]).square().sum()) for name in one)
    assert apart < 1e-5 * sum(float(value.square().sum()) for value in one.values())
    state = read_json(sorted((tmp_path / "states").glob("step-*"))[-1] / "state.json")
    assert state["processes"] == 2 and len(state["sha256"]) == 2


@pytest.mark.slow
def test_two_processes_practise_as_one_does(tmp_path):
    """Round 0 drives by lot with the untrained policy, the same bytes in both runs; round 1 learns from that."""
    runs = [tmp_path / str(processes) for processes in (1, 2)]
    for processes, out in enumerate(runs, 1):
        learn(processes, out, "practice", 6)
    one, two = (losses_of(out) for out in runs)
    assert_close(two, one)
    assert all(row["practice"] != 0.0 and row["ratio"] > 0.0 for row in two[6:]), two


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_one_goes_on_from_what_two_saved_and_two_from_what_one_saved(first, then, alone, recorded, tmp_path):
    learn(first, tmp_path, recorded, STEPS, STOP)
    assert len(losses_of(tmp_path)) == STOP
    assert not (tmp_path / "checkpoint").exists()
    learn(then, tmp_path, recorded, STEPS)
    assert_close(losses_of(tmp_path), losses_of(alone))


@pytest.mark.slow
def test_one_process_goes_on_from_its_own_state_to_the_same_bytes(alone, recorded, tmp_path):
    learn(1, tmp_path, recorded, STEPS, STOP)
    learn(1, tmp_path, recorded, STEPS)
    assert losses_of(tmp_path) == losses_of(alone)
    ends = [sorted((out / "states").glob("step-*"))[-1] for out in (alone, tmp_path)]
    assert ends[0].name == ends[1].name
    assert read_json(ends[0] / "state.json")["sha256"] == read_json(ends[1] / "state.json")["sha256"]


def test_a_process_takes_its_own_rows_of_every_tensor_and_uneven_shares_are_refused():
    batch = make_batch(SMALL.rig, 6, 2)
    ranks = Ranks()
    assert ranks.count == 1 and ranks.share(batch, 6) is batch
    ranks.count = 3
    shares = []
    for ranks.rank in range(3):
        shares.append(ranks.share(batch, 6))
    assert torch.equal(torch.cat([share.tokens for share in shares]), batch.tokens)
    assert torch.equal(torch.cat([share.cameras["wide"] for share in shares]), batch.cameras["wide"])
    with pytest.raises(ValueError, match="a batch of 4 windows cannot be divided among 3 processes"):
        ranks.share(replace(batch), 4)
