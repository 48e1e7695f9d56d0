"""A run as a job of a real Slurm, on hosts of this machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import other_python
from tests.cluster.conftest import KEYS, cluster_only
from tests.cluster.hosts import Hosts
from tests.cluster.slurm import Slurm
from tests.runtime import helpers
from tests.runtime.helpers import ROOT, last

pytestmark = cluster_only(with_slurm=True)


@pytest.fixture(scope="module")
def site() -> Iterator[Slurm]:
    hosts = Hosts(3)
    try:
        found = Slurm(hosts, cpus=4)
        try:
            yield found
        finally:
            found.close()
    finally:
        hosts.close()


@pytest.fixture
def slurm(site: Slurm) -> Iterator[Slurm]:
    """Whose nodes are idle, whatever became of the test before."""
    yield site
    site.clear()


def distdqn(slurm: Slurm, folder: Path, *arguments: str) -> str:
    """What the command line says."""
    environment = {**slurm.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "distdqn.cli", *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def launch(slurm: Slurm, run: Path, *keys: str) -> str:
    """The number of the job."""
    site = ("cluster=slurm", "cluster.head.cpus=4", "experiment=catch")
    return distdqn(slurm, run.parent, "launch", *site, *KEYS, *keys, f"run_dir={run}").split()[1].strip(":")


def log(run: Path, job: str) -> str:
    path = run / "launch" / f"job-{job}.log"
    return path.read_text() if path.exists() else ""


def wait_for(condition: Callable[[], Any], what: str, *about: tuple[Path, str], seconds: float = 300) -> None:
    """With the words of these jobs where it fails."""
    try:
        helpers.wait_for(condition, what, seconds=seconds)
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *(log(run, job) for run, job in about)])) from None


def saved(run: Path, job: str) -> int:
    """The updates of the last checkpoint, as the driver said when it ended."""
    wait_for(lambda: "the driver left with 3" in log(run, job), "the driver's end", (run, job))
    return int(log(run, job).partition("a resume goes on from step-")[2].split()[0])


def outcome(run: Path) -> str:
    path = run / "summary.json"
    return str(json.loads(path.read_text())["outcome"]) if path.exists() else ""


def test_a_run_that_is_done_ends_its_job(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, "cluster.head.nodes=2", "cluster.time=10", "budget.env_frames=20000")
    wait_for(lambda: slurm.state(job) == "COMPLETED", "its end", (run, job))
    assert outcome(run) == "done" and slurm.restarts(job) == 0


def test_a_job_that_is_cancelled_saves_and_stays_away(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, "cluster.head.nodes=2", "cluster.time=10")
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", (run, job))
    slurm("scancel", job)
    wait_for(lambda: slurm.state(job) == "CANCELLED", "its end", (run, job))
    assert slurm.restarts(job) == 0 and saved(run, job) > 50 and outcome(run) == "stopped"


def test_a_job_that_is_cancelled_leaves_another_on_its_nodes_alone(slurm: Slurm, tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    site = ("cluster.head.nodes=2", "cluster.head.cpus=2", "cluster.time=10", "replay.shards=1")
    jobs = [launch(slurm, run, *site, "cluster.head.options={nodelist: 'node[1-2]'}") for run in runs]
    for run, job in zip(runs, jobs, strict=True):
        wait_for(lambda run=run: last(run, "learner_updates") > 50, "learning", (run, job))
    slurm("scancel", jobs[0])
    assert saved(runs[0], jobs[0]) > 50
    before = last(runs[1], "learner_updates")
    wait_for(lambda: last(runs[1], "learner_updates") > before + 200, "learning on")
    assert slurm.state(jobs[1]) == "RUNNING"
    assert not any(last(runs[1], f"faults/{kind}_restarts") for kind in ("actor", "shard", "learner", "evaluator"))
    slurm("scancel", jobs[1])
    assert saved(runs[1], jobs[1]) > before
    assert "Traceback" not in log(runs[0], jobs[0]) + log(runs[1], jobs[1])


def test_a_job_that_is_preempted_saves_and_comes_back(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, "cluster.head.nodes=2", "cluster.time=30", "cluster.head.partition=low")
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", (run, job))
    slurm("sbatch", "--partition=high", "--nodes=3", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 5")
    wait_for(lambda: slurm.restarts(job) == 1, "another start", (run, job))
    step = saved(run, job)
    wait_for(lambda: last(run, "learner_updates") > step + 50, "learning on", (run, job))
    assert step > 50 and "a machine has gone" in log(run, job)
    slurm("scancel", job)
    wait_for(lambda: slurm.state(job) == "CANCELLED", "its end", (run, job))


@pytest.mark.parametrize("kinds", [("cluster.head.nodes=3",), ("cluster.actors.nodes=2", "cluster.actors.cpus=4")])
def test_a_job_whose_time_is_up_is_saved_and_goes_on(slurm: Slurm, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, *kinds, "cluster.time=60")
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", (run, job))
    slurm.limit(job, slurm.minutes(job) + 3)  # of which the last two are the warning
    wait_for(lambda: slurm.restarts(job) == 1, "another start", (run, job))
    slurm.limit(job, 60)
    step = saved(run, job)
    assert step >= last(run, "learner_updates") > 50
    # 22.05 lets a heterogeneous job that queues again wait for minutes
    wait_for(lambda: last(run, "learner_updates") > step + 50, "learning on", (run, job), seconds=480)
    assert "the driver left with 3" in log(run, job) and f"resuming from step-{step:012d}" in log(run, job)

    slurm("scancel", "--batch", "--signal=TERM", job)  # as its last lines say
    wait_for(lambda: slurm.state(job) not in ("RUNNING", "COMPLETING"), "its end", (run, job))
    assert outcome(run) == "stopped" and slurm.restarts(job) == 1
    assert "Traceback" not in log(run, job)
    assert not list((run / "launch").glob("token-*"))


@pytest.mark.skipif(bool(other_python.missing()), reason=other_python.missing())
def test_a_node_with_another_python_is_named_before_anything_starts(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with other_python.on(slurm.hosts, 3, tmp_path):
        job = launch(slurm, run, "cluster.head.nodes=3", "cluster.time=10")
        wait_for(lambda: slurm.state(job) == "FAILED", "its end", (run, job))
    lines = [line for line in log(run, job).splitlines() if line.startswith("distdqn: ")]
    assert lines == [f"distdqn: node3 has Python {other_python.version()}, node1 has {platform.python_version()}"]
    assert not (run / "config.yaml").exists() and slurm.restarts(job) == 0


def test_a_sweep_is_an_array_of_jobs_of_which_so_many_run_at_once(slurm: Slurm, tmp_path: Path) -> None:
    keys = (
        "experiment=catch",
        *KEYS[1:],
        "budget.env_frames=20000",
        "replay.shards=1",
        "seed=1,2,3",
        "hydra.sweep.dir=sweep",
    )
    site = ("-m", "cluster=slurm", "cluster.head.cpus=4", "cluster.time=10", "cluster.at_once=2")
    job = distdqn(slurm, tmp_path, "launch", *site, *keys).split()[1].strip(":")
    running = list[int]()

    def done() -> bool:
        states = slurm("squeue", "-h", "-r", "-j", job, "-o", "%T").split()
        running.append(states.count("RUNNING"))
        return not set(states) & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}

    wait_for(done, "the end of all", seconds=400)
    assert max(running) == 2
    rows = [line.split() for line in distdqn(slurm, tmp_path, "plot", "sweep").splitlines()]
    assert [row[:3] for row in rows[1:4]] == [[f"{i}/catch", str(i + 1), "done"] for i in range(3)]


def test_a_sweep_over_two_kinds_of_nodes_runs_one_after_the_other(slurm: Slurm, tmp_path: Path) -> None:
    keys = ("experiment=catch", *KEYS[1:], "budget.env_frames=20000", "seed=1,2", "hydra.sweep.dir=sweep")
    site = ("cluster=slurm", "cluster.head.cpus=4", "cluster.actors.nodes=1", "cluster.actors.cpus=2")
    said = distdqn(slurm, tmp_path, "launch", "-m", *site, "cluster.time=10", "cluster.at_once=1", *keys)
    first, second = said.partition(":")[0].split()[1:]
    wait_for(lambda: slurm.state(first) == "RUNNING", "the first")
    assert slurm.state(second) == "PENDING"
    wait_for(lambda: slurm.state(second) == "COMPLETED", "the end", seconds=400)
    assert [outcome(tmp_path / "sweep" / str(i) / "catch") for i in (0, 1)] == ["done", "done"]


def test_scale_compares_the_jobs_of_a_sweep_over_numbers_of_nodes(slurm: Slurm, tmp_path: Path) -> None:
    game = ("experiment=catch", "env.kind=tests.cluster.slow:SlowCatch", "env.kwargs.step_s=0.02")
    keys = (*game, *KEYS[1:], "actors.count=auto", "replay.shards=1", "budget.seconds=45", "hydra.sweep.dir=sweep")
    site = ("-m", "cluster=slurm", "cluster.head.nodes=1,2", "cluster.head.cpus=4", "cluster.time=10")
    jobs = [line.split()[1].strip(":") for line in distdqn(slurm, tmp_path, "launch", *site, *keys).splitlines()]

    def done() -> bool:
        return not slurm("squeue", "-h", "-r", "-o", "%T").split()

    wait_for(done, f"the end of {jobs}", seconds=400)
    said = distdqn(slurm, tmp_path, "scale", "sweep", "--warm-up", "8", "--out", "scale.json")
    one, two = json.loads((tmp_path / "scale.json").read_text())["systems"]
    print(said)
    assert (one["nodes"], two["nodes"]) == (1, 2)
    assert two["actors"] > one["actors"]
    assert two["frames_per_s"] > one["frames_per_s"]
