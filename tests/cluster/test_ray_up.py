"""A run on machines that are there, which `ray up` makes a cluster of by ssh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.cluster import sshd
from tests.cluster.conftest import KEYS, cluster_only
from tests.cluster.hosts import Hosts
from tests.cluster.sshd import Logins
from tests.runtime.helpers import ROOT, last, wait_for

pytestmark = cluster_only(also=sshd.missing)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts(3)
    try:
        logins = Logins(made)
        try:
            yield made
        finally:
            logins.close()
    finally:
        made.close()


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}


def ray_processes(hosts: Hosts) -> list[str]:
    """Command lines of raylets and heads on all hosts."""
    found = []
    for process in (process for i in hosts.names for process in hosts.processes(i)):
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            found += [line] if "/raylet/raylet " in line or "/gcs_server " in line else []
    return found


def test_up_stop_again_fetch_and_end(hosts: Hosts, tmp_path: Path) -> None:
    there = tmp_path / "there" / "runs" / "catch-1"
    site = [
        f"cluster.provider.head_ip={hosts.address(1)}",
        f"cluster.provider.worker_ips=[{hosts.address(2)},{hosts.address(3)}]",
        f"cluster.auth={{ssh_user: root, ssh_private_key: {hosts.folder}/ssh/key}}",
        f"cluster.python={sys.executable}",
        f"cluster.folder={tmp_path}/there",
        "cluster.head.cpus=4",
        "cluster.actors.cpus=4",
        f"cluster.name=catch-{os.getpid()}",
    ]
    command = [
        sys.executable,
        "-m",
        "distdqn.cli",
        "launch",
        "cluster=ray_up",
        *site,
        "experiment=catch",
        *KEYS,
        "actors.count=4",
    ]
    log = tmp_path / "launch.log"
    with open(log, "wb") as out:
        code = subprocess.run(
            [*command, "run_dir=runs/catch-1"], env=environment(), cwd=tmp_path, stdout=out, stderr=out
        ).returncode
    said = log.read_text().splitlines()
    assert code == 0, log.read_text()
    lines = {line.split()[0]: line.partition(" ")[2].strip().partition("    (")[0] for line in said[-7:]}
    driver = there / "launch" / "run.log"

    def do(what: str) -> str:
        done = subprocess.run(
            ["bash", "-c", lines[what]], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, f"{lines[what]}: {done.stdout} {done.stderr}"
        return done.stdout

    try:
        wait_for(lambda: last(there, "learner_updates") > 50, f"learning, see {driver}", seconds=240)
        assert "3 of 3" not in driver.read_text()  # it waited for them without a word
        heads = [line for line in ray_processes(hosts) if "/gcs_server " in line]
        assert len(heads) == 1 and len(ray_processes(hosts)) == 1 + 3
        do("stop")
        assert json.loads((there / "summary.json").read_text())["outcome"] == "stopped"
        saved = last(there, "learner_updates")
        do("again")
        wait_for(lambda: last(there, "learner_updates") > saved + 50, f"learning on, see {driver}", seconds=240)
        assert "resuming from step-" in driver.read_text()
        do("fetch")
        assert (tmp_path / "runs" / "catch-1" / "config.yaml").read_text() == (there / "config.yaml").read_text()
    finally:
        do("end")
        wait_for(lambda: not ray_processes(hosts), "the end of Ray on all of them", seconds=90)
        for path in Path("/tmp/ray").glob(f"cluster-catch-{os.getpid()}.*"):
            path.unlink()
    assert json.loads((there / "summary.json").read_text())["outcome"] == "stopped"
    assert "Traceback" not in driver.read_text()
    shutil.rmtree(tmp_path / "runs")
