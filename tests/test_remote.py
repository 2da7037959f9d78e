"""Claims about workers that are Ray actors, on a cluster of two nodes on this machine: same work, same bytes."""

import os
import signal
import time
from pathlib import Path

import pytest
from distant_work import broken, sleeper
from small_policy import SMALL, make_policy

from drivebyword.data.files import sha256_file
from drivebyword.loop.remote import run_tasks_on_ray
from drivebyword.model.checkpoint import save_pretrained
from drivebyword.train.collect import CollectConfig, collect
from drivebyword.train.curriculum import Scene
from drivebyword.train.drives import Crew
from drivebyword.train.practice import PracticeConfig, practise
from drivebyword.world.rigs import tiny

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
CLUSTER = "ray://auto"


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    # Actors import what this test passes by name.
    here = Path(__file__).parent
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here), before])
    started = Cluster()
    for _ in range(2):
        started.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    ray.init(address=started.address, log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()
    os.environ["PYTHONPATH"] = before


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_both_machines_work_and_who_is_killed_or_stopped_is_replaced(cluster):
    tasks = [0.5 + 0.01 * k for k in range(16)]
    faults, struck, machines = [signal.SIGKILL, signal.SIGSTOP], [], set()
    done = []
    for one in run_tasks_on_ray(CLUSTER, sleeper, tasks, silence_s=6.0):
        done.append(one)
        if one.value is not None:
            pid, node = one.value
            machines.add(node)
            if faults and pid not in struck:
                os.kill(pid, faults.pop())
                struck.append(pid)
    assert sorted(one.task for one in done) == tasks and len(machines) == 2
    lost = [one.error for one in done if one.lost]
    assert len(lost) == 2 and any("died" in error for error in lost) and any("stood still" in error for error in lost)
    assert not any(one.error for one in done if not one.lost)
    deadline = time.monotonic() + 60
    while not all(ended(pid) for pid in struck):
        assert time.monotonic() < deadline, "a stopped actor was left behind"
        time.sleep(0.5)


def test_an_error_is_the_tasks_own_and_a_worker_that_cannot_be_made_is_named(cluster):
    (done,) = run_tasks_on_ray(CLUSTER, sleeper, [-1.0])
    assert not done.lost and done.error == "ValueError: time does not run backwards"
    with pytest.raises(RuntimeError, match="no worker can be made: ValueError: no road to drive on"):
        list(run_tasks_on_ray(CLUSTER, broken, [1]))


def recorded(out: Path) -> dict[str, str]:
    return {str(file.relative_to(out)): sha256_file(file) for file in sorted(out.rglob("*")) if file.is_file()}


def test_scenes_driven_on_a_cluster_come_home_as_driven_here_byte_by_byte(cluster, tmp_path):
    # A policy that has learned nothing soon leaves the road: short scenes.
    save_pretrained(make_policy(), tmp_path / "policy")

    def driven(out: Path, workers: str | None) -> dict[str, str]:
        config = CollectConfig(
            out=out, seeds=(40, 42), checkpoint=tmp_path / "policy", workers=workers, processes=1, finalize=False
        )
        found = collect(config, tiny(), show_progress=False)
        assert found.scenes == 2 and not found.failed
        return recorded(out)

    assert driven(tmp_path / "there", CLUSTER) == driven(tmp_path / "here", None)


def test_groups_driven_by_lot_on_a_cluster_are_the_groups_driven_here(cluster, tmp_path):
    save_pretrained(make_policy(), tmp_path / "policy")

    def driven(out: Path, workers: str | None) -> dict[str, str]:
        crew = Crew(out=out, rig=tiny(), checkpoint=tmp_path / "policy", processes=1, workers=workers)
        practice = PracticeConfig(rollouts=2, seconds=6.0)
        found = practise(crew, [Scene("town-mixed", 41)], practice, SMALL.grammar)
        assert found.scenes == 2 and not found.failed and found.cpu["worlds and expert"] > 0.0
        return recorded(out)

    there, here = driven(tmp_path / "there", CLUSTER), driven(tmp_path / "here", None)
    assert there == here and len({digest for name, digest in here.items() if name.endswith("frames.parquet")}) == 2


def test_an_address_that_is_none_and_a_cluster_that_does_not_answer_are_one_line(cluster):
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1' is no cluster: write ray://HOST:10001"):
        next(run_tasks_on_ray("10.0.0.1", sleeper, [1.0]))
