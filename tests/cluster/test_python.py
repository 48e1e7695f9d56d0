"""A machine of a Ray cluster with another Python: Ray keeps it out, or the roll call names it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import other_python
from tests.cluster.conftest import KEYS, cluster_only
from tests.cluster.ray_cluster import RayCluster, on_hosts
from tests.runtime.helpers import wait_for

pytestmark = cluster_only(also=other_python.missing)


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """Of hosts 1 and 2; there is a third."""
    with on_hosts(3, cpus={1: 4, 2: 4, 3: 4}, first=(1, 2)) as made:
        yield made


def test_it_does_not_join_or_is_named_before_anything_starts(cluster: RayCluster, tmp_path: Path) -> None:
    theirs, log = other_python.version(), tmp_path / "out"
    with other_python.on(cluster.hosts, 3, tmp_path):
        raylet = cluster.join(3)
        assert raylet.wait(timeout=120) != 0
        said = cluster.log.read_text()
        assert "Version mismatch" in said and f"Python: {theirs}" in said and cluster.hosts.address(3) in said
        assert cluster.machines() == 2

    raylet = cluster.join(3)
    wait_for(lambda: cluster.machines() == 3, "the third machine", raylet)
    with other_python.on(cluster.hosts, 3, tmp_path):  # the environment has changed under a Ray that goes on
        run_dir = tmp_path / "run"
        keys = ("experiment=catch", *KEYS, f"run_dir={run_dir}", f"engine.address={cluster.address}")
        process = cluster.spawn(1, sys.executable, "-m", "distdqn.cli", "train", *keys, log=log)
        assert process.wait(timeout=240) == 2, log.read_text()
        # a process of it cannot even start
        assert log.read_text().startswith(f"distdqn: engine.address={cluster.address}: distdqn cannot run on node3 (")
        assert log.read_text().count("\n") == 1 and not run_dir.exists()
