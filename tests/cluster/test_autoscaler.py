"""Ray's own autoscaler, whose provider makes its machines of processes on one host."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import KEYS, cluster_only
from tests.cluster.hosts import Hosts
from tests.cluster.ray_cluster import PORT, RayCluster, told
from tests.runtime.helpers import last, wait_for

pytestmark = cluster_only()
HEAD = "f" * 51 + "00000"
"""The name by which that provider knows the head."""
TRAIN = """
from distdqn.runtime import crew
crew.STARVES_S, crew.WAITS_S = 20.0, 20.0  # instead of one minute and five
from distdqn.cli import entry
entry()
"""


def configured(address: str, version: int) -> dict[str, Any]:
    """A head of four cores and, where they are asked for, machines of two, of which there may be three."""
    provider = {
        # by its class, not as fake_multinode: the defaults that go with that name are not in Ray's wheel
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "head_node_id": HEAD,
        "launch_multiple": version == 2,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    kinds = {
        "ray.head.default": {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
        "more": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 3},
    }
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "pretended",
        "max_workers": 3,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "provider": provider,
        "available_node_types": kinds,
        "head_node_type": "ray.head.default",
        "file_mounts_sync_continuously": False,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{name}_commands": [] for name in lists},
    }


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RayCluster]:
    """One whose autoscaler is of that version."""
    hosts = Hosts(1)
    try:
        config = configured(f"{hosts.address(1)}:{PORT}", request.param)
        path = tmp_path / "autoscaling.json"
        path.write_text(json.dumps(config))
        environment = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": str(request.param - 1),
        }
        if request.param == 2:
            environment |= {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
        made = RayCluster(hosts, cpus={1: 4}, autoscaling=path, **environment)
        try:
            yield made
        finally:
            made.close()
    finally:
        hosts.close()


def test_machines_come_when_the_learner_starves_and_go_when_actors_wait(cluster: RayCluster, tmp_path: Path) -> None:
    run, out, slow = tmp_path / "run", tmp_path / "out", tmp_path / "slow"
    slow.touch()
    keys = (
        *("env.id=tests.runtime.faulty:Slow-v0", f"env.kwargs.flag={slow}"),
        *("actors.count=auto", "actors.autoscale=true", "actors.max=3", "actors.envs_per_actor=8"),
        *("learner.threads=1", "evaluation.threads=1", "replay.shards=1"),
    )
    more = ("replay.shards=1", "learner.samples_per_insert=64", f"run_dir={run}", f"engine.address={cluster.address}")
    command = (sys.executable, "-c", TRAIN, "train", "experiment=cartpole", *KEYS, *keys, *more)
    process = cluster.spawn(1, *command, log=out, PYTHONUNBUFFERED="1")

    def said(text: str) -> Callable[[], bool]:
        return lambda: text in out.read_text()

    try:
        wait_for(lambda: last(run, "learner_updates") > 50, "learning", process, 180)
        start = time.monotonic()
        wait_for(lambda: cluster.machines() == 2, "a machine more", process, 180, every=1)
        came = time.monotonic() - start
        wait_for(said("2 actors join, 3 in all"), "actors there", process, 60)
        print(f"a machine after {came:.1f} s, actors there after {time.monotonic() - start:.1f} s")
        start = time.monotonic()
        slow.unlink()
        wait_for(said("1 actor leaves, 1 in all"), "actors leave", process, 240)
        left = time.monotonic() - start
        wait_for(lambda: cluster.machines() == 1, "it is taken back", process, 120, every=1)
        print(f"actors leave after {left:.1f} s, the machine after {time.monotonic() - start:.1f} s")
        assert not any(last(run, f"faults/{kind}_restarts") for kind in ("actor", "shard", "learner"))
        assert told(process) == 3
        assert json.loads((run / "summary.json").read_text())["transitions"]["lost"] == 0
    finally:
        process.kill()
        told_of = (" join", " leave", "is asked for")
        print("\n".join(line for line in out.read_text().splitlines() if any(word in line for word in told_of)))
