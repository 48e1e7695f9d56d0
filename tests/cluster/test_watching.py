"""A run over three hosts is watched: each machine's figures, until it is gone, and the metrics from another host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import cluster_only
from tests.cluster.hosts import run
from tests.cluster.ray_cluster import RayCluster, on_hosts
from tests.runtime.helpers import metrics, wait_for

pytestmark = cluster_only()
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
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with on_hosts(3, cpus={1: 2, 2: 2, 3: 2}) as made:
        yield made


def test_every_machine_is_watched_until_it_is_gone(cluster: RayCluster, tmp_path: Path) -> None:
    trained, hosts = tmp_path / "run", cluster.hosts
    driver = cluster.train(*KEYS, f"run_dir={trained}", log=tmp_path / "out")

    def seen() -> dict[str, set[str]]:
        """The figures of each machine in the newest record that has any."""
        records = reversed(metrics(trained))
        record: dict[str, Any] = next((r for r in records if any("node/" in name for name in r)), {})
        found: dict[str, set[str]] = {}
        for name in record:
            if name.startswith("node/"):
                found.setdefault(name.split("/")[1], set()).add(name.split("/")[2])
        return found

    figures = {"cpu", "memory", "shared_memory", "received", "sent"}
    names = ("node1", "node2", "node3")
    wait_for(lambda: seen() == dict.fromkeys(names, figures), "figures of all", driver, seconds=300)
    record = next(r for r in reversed(metrics(trained)) if "node/node2/received" in r)
    assert sum(record[f"node/{name}/received"] for name in names) > 0
    page = run(*hosts.on(2, sys.executable, "-c", FETCH, f"http://{hosts.address(1)}:9400/metrics"))
    assert all(f'distdqn_node_cpu{{run="catch",seed="1",host="{name}"}} ' in page for name in names)

    hosts.cut(3)
    wait_for(lambda: set(seen()) == {"node1", "node2"}, "end of node3", driver, seconds=300)
    hosts.mend(3)
