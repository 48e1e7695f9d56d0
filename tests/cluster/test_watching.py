"""A run over three hosts is watched: each machine's figures, until it is gone, and the metrics from another host."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import hosts as module
from tests.cluster.hosts import Hosts
from tests.runtime.helpers import ROOT, metrics

why = "launch/test.sh --cluster runs it"
if os.environ.get("DISTDQN_CLUSTER"):
    why = module.missing()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(bool(why), reason=why)]
KEYS = (
    "experiment=catch",
    "budget.env_frames=100000000",
    "actors.count=2",
    "replay.min_size=1000",
    "replay.shards=2",
    "evaluation.every_seconds=null",
    "log_every_seconds=2",
    "screen=lines",
    "track=disabled",
    "metrics_port=9400",
    "metrics_host=10.77.0.11",
)
PORT = 6379


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Three, on which Ray runs, with the head on the first."""
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(ROOT)}
    environment |= {f"RAY_health_check_{name}_ms": "2000" for name in ("period", "timeout")}
    environment |= {"RAY_health_check_failure_threshold": "3", "PYTHONUNBUFFERED": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Hosts(3)
    try:
        for i in made.names:
            where = [f"--address={made.address(1)}:{PORT}"] if i > 1 else ["--head", f"--port={PORT}"]
            common = ("--num-cpus=2", "--object-store-memory=200000000", "--disable-usage-stats", "--block")
            address = f"--node-ip-address={made.address(i)}"
            made.spawn(
                i, sys.executable, "-m", "ray.scripts.scripts", "start", *where, address, *common, log=log(tmp_path)
            )
            wait_for(
                lambda i=i: log(tmp_path).read_text().count("Ray runtime started") == i, f"Ray on host {i}", tmp_path
            )
        yield made
    finally:
        made.close()


def log(folder: Path) -> Path:
    return folder / "out"


def wait_for(condition: Callable[[], Any], what: str, folder: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what}: {log(folder).read_text()[-1000:]}"
        time.sleep(0.5)


def test_every_machine_is_watched_until_it_is_gone(hosts: Hosts, tmp_path: Path) -> None:
    run = tmp_path / "run"
    address = f"engine.address={hosts.address(1)}:{PORT}"
    command = (sys.executable, "-m", "distdqn.cli", "train", *KEYS, address, f"run_dir={run}")
    driver = hosts.spawn(1, *command, log=log(tmp_path))

    def seen() -> dict[str, set[str]]:
        """The figures of each machine in the newest record that has any."""
        record: dict[str, Any] = next((r for r in reversed(metrics(run)) if any("node/" in name for name in r)), {})
        found: dict[str, set[str]] = {}
        for name in record:
            if name.startswith("node/"):
                found.setdefault(name.split("/")[1], set()).add(name.split("/")[2])
        return found

    figures = {"cpu", "memory", "shared_memory", "received", "sent"}
    wait_for(lambda: seen() == dict.fromkeys(("node1", "node2", "node3"), figures), "figures of all", tmp_path)
    record = next(r for r in reversed(metrics(run)) if "node/node2/received" in r)
    assert sum(record[f"node/{name}/received"] for name in hosts.names.values()) > 0
    fetch = hosts.on(2, "curl", "-s", f"http://{hosts.address(1)}:9400/metrics")
    page = subprocess.run(fetch, capture_output=True, text=True).stdout
    assert all(f'distdqn_node_cpu{{run="catch",seed="1",host="{name}"}} ' in page for name in hosts.names.values())

    hosts.cut(3)
    wait_for(lambda: set(seen()) == {"node1", "node2"}, "end of node3", tmp_path)
    assert driver.poll() is None
    hosts.mend(3)
