"""A run as a job of a real Ray cluster of two hosts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import KEYS, cluster_only
from tests.cluster.hosts import Hosts
from tests.cluster.ray_cluster import RayCluster
from tests.runtime.helpers import last, wait_for


def missing() -> str:
    """Why no cluster takes jobs here; empty where one does."""
    gone = [name for name in ("aiohttp", "aiohttp_cors", "opencensus") if importlib.util.find_spec(name) is None]
    return f"needs {gone[0]}, of ray[default]" if gone else ""


pytestmark = cluster_only(also=missing)
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """That of whoever may submit to the cluster at ADDRESS."""
    hosts = Hosts(2)
    try:
        cluster = RayCluster(hosts, cpus={1: 4, 2: 4}, dashboard=True)
        try:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            yield {**os.environ, **cluster.environment, "ADDRESS": cluster.dashboard, "PATH": path}
        finally:
            cluster.close()
    finally:
        hosts.close()


def call(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout} {done.stderr}"
    return done.stdout


def outcome(run: Path) -> str:
    path = run / "summary.json"
    return str(json.loads(path.read_text())["outcome"]) if path.exists() else ""


def test_a_job_is_submitted_stopped_and_goes_on(environment: dict[str, str], tmp_path: Path) -> None:
    site = (f"cluster.address={environment['ADDRESS']}", f"cluster.python={sys.executable}")
    command = (
        sys.executable,
        "-m",
        "distdqn.cli",
        "launch",
        "cluster=ray_job",
        *site,
        "experiment=catch",
        *KEYS,
        "run_dir=run",
    )
    said = call(environment, tmp_path, *command).splitlines()
    run = tmp_path / "run"
    assert f"{8 - 1 - 2 - 1} actors" in said[0]  # two hosts of four cores; a learner, two shards, an evaluator
    lines = {line.split()[0]: line.partition(" ")[2].strip().partition("    (")[0] for line in said}
    wait_for(lambda: last(run, "learner_updates") > 50, "learning", seconds=240)
    call(environment, tmp_path, "bash", "-c", lines["stop"])
    wait_for(lambda: outcome(run) == "stopped", "its end", seconds=60)
    assert yaml.safe_load((run / "config.yaml").read_text())["engine"]["address"] == "auto"
    saved = last(run, "learner_updates")

    again = call(environment, tmp_path, "bash", "-c", lines["again"])
    wait_for(lambda: last(run, "learner_updates") > saved + 50, "learning on", seconds=240)
    job = again.partition("Job '")[2].partition("'")[0]
    call(environment, tmp_path, *RAY, "job", "stop", "--address", environment["ADDRESS"], job)
    said_by_driver = call(environment, tmp_path, *RAY, "job", "logs", "--address", environment["ADDRESS"], job)
    assert "resuming from step-" in said_by_driver and "Traceback" not in said_by_driver


def test_a_job_finds_its_cluster_by_itself(environment: dict[str, str], tmp_path: Path) -> None:
    keys = [
        "experiment=catch",
        *KEYS[1:],
        "budget.env_frames=3000",
        "evaluation.final_episodes=2",
        "actors.count=4",
        f"run_dir={tmp_path}/run",
    ]
    wait = [sys.executable, "-m", "distdqn.launch.wait", "auto", "2", "60"]  # as the entrypoint of a RayJob does
    train = [*wait, sys.executable, "-m", "distdqn.cli", "train", *keys]
    said = call(environment, tmp_path, *RAY, "job", "submit", "--address", environment["ADDRESS"], "--", *train)
    assert outcome(tmp_path / "run") == "done", said
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["engine"]["address"] == "auto"
