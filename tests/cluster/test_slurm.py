"""A run as a job of a real Slurm, on hosts of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import hosts as module
from tests.cluster import slurm as scheduler
from tests.cluster.hosts import Hosts
from tests.cluster.slurm import Slurm
from tests.runtime.helpers import ROOT, last, wait_for

why = "launch/test.sh --cluster runs it"
if os.environ.get("DISTDQN_CLUSTER"):
    why = module.missing() or scheduler.missing()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(bool(why), reason=why)]
KEYS = (
    "experiment=catch",
    "budget.env_frames=100000000",
    "replay.min_size=1000",
    "replay.shards=2",
    "actors.rollout_steps=32",
    "learner.samples_per_insert=1",
    "checkpoint.every_seconds=1000",
    "evaluation.every_seconds=null",
    "log_every_seconds=1",
    "screen=lines",
    "track=disabled",
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    hosts = Hosts(3)
    try:
        found = Slurm(hosts, cpus=4)
        try:
            yield found
        finally:
            found.close()
    finally:
        hosts.close()


def launch(slurm: Slurm, run: Path, *keys: str) -> str:
    """The number of the job."""
    command = [sys.executable, "-m", "distdqn.cli", "launch", "cluster=slurm", "cluster.head.cpus=4", *KEYS, *keys]
    environment = {**slurm.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, f"run_dir={run}"], env=environment, cwd=run.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1].strip(":")


def log(run: Path, job: str) -> str:
    path = run / "launch" / f"job-{job}.log"
    return path.read_text() if path.exists() else ""


def outcome(run: Path) -> str:
    path = run / "summary.json"
    return str(json.loads(path.read_text())["outcome"]) if path.exists() else ""


@pytest.mark.parametrize("kinds", [("cluster.head.nodes=3",), ("cluster.actors.nodes=2", "cluster.actors.cpus=4")])
def test_a_job_whose_time_is_up_is_saved_and_goes_on(slurm: Slurm, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, *kinds, "cluster.time=3", "cluster.warning_s=60")
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", 300)
    wait_for(lambda: slurm.restarts(job) == 1, "another start", 240)
    saved = int(log(run, job).partition("a resume goes on from step-")[2].split()[0])
    assert saved >= last(run, "learner_updates") > 50
    # 22.05 lets a heterogeneous job that queues again wait for minutes
    wait_for(lambda: last(run, "learner_updates") > saved + 50, f"learning on\n{log(run, job)}", 480)
    assert "the driver left with 3" in log(run, job) and f"resuming from step-{saved:012d}" in log(run, job)

    slurm("scancel", "--batch", "--signal=TERM", job)  # as its last lines say
    wait_for(lambda: slurm.state(job) not in ("RUNNING", "COMPLETING"), "its end")
    assert outcome(run) == "stopped" and slurm.restarts(job) == 1
    assert "Traceback" not in log(run, job)
    assert not list((run / "launch").glob("token-*"))


def test_a_run_that_is_done_ends_its_job(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, "cluster.head.nodes=2", "cluster.time=10", "budget.env_frames=20000")
    wait_for(lambda: slurm.state(job) == "COMPLETED", f"its end\n{log(run, job)}", 300)
    assert outcome(run) == "done" and slurm.restarts(job) == 0


def test_a_job_that_is_cancelled_saves_and_stays_away(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, "cluster.head.nodes=2", "cluster.time=10")
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", 300)
    slurm("scancel", job)
    wait_for(lambda: slurm.state(job) == "CANCELLED", "its end")
    wait_for(lambda: outcome(run) == "stopped", f"its save\n{log(run, job)}")
    assert slurm.restarts(job) == 0 and "a resume goes on from step-" in log(run, job)


def test_a_job_that_is_preempted_saves_and_comes_back(slurm: Slurm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(slurm, run, "cluster.head.nodes=2", "cluster.time=30", "cluster.head.partition=low")
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", 300)
    slurm("sbatch", "--partition=high", "--nodes=3", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 5")
    wait_for(lambda: slurm.restarts(job) == 1, f"another start\n{log(run, job)}", 120)
    saved = int(log(run, job).partition("a resume goes on from step-")[2].split()[0])
    wait_for(lambda: last(run, "learner_updates") > saved + 50, f"learning on\n{log(run, job)}", 300)
    assert saved > 50 and "a machine has gone" in log(run, job)
    slurm("scancel", job)
    wait_for(lambda: slurm.state(job) == "CANCELLED", "its end")
