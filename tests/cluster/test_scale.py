"""A scaling experiment on three hosts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from distdqn.record import jsonl
from distdqn.record.machines import by_machine
from tests.cluster.conftest import cluster_only
from tests.cluster.hosts import Hosts
from tests.cluster.ray_cluster import RayCluster

pytestmark = cluster_only()

KEYS = (
    "experiment=catch",
    "env.kind=tests.cluster.slow:SlowCatch",
    "actors.count=2",
    "actors.envs_per_actor=1",
    "actors.rollout_steps=32",
    "replay.shards=1",
    "replay.min_size=1000",
    "learner.samples_per_insert=1",
    "log_every_seconds=1",
    "track=disabled",
)


def test_the_same_on_one_and_on_three_machines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hosts = Hosts(3)
    try:
        cluster = RayCluster(hosts, cpus={1: 5, 2: 3, 3: 3})  # with the learner and the evaluator
        try:
            folder, log = tmp_path / "all", tmp_path / "out"
            keys = ("nodes=1,3", *KEYS, f"engine.address={cluster.address}", f"run_dir={folder}")
            options = ("--seconds", 10, "--warm-up", 5, "--repeats", 1)
            command = (sys.executable, "-m", "distdqn.cli", "scale", *options, *keys)
            assert cluster.spawn(1, *command, log=log).wait(timeout=600) == 0, log.read_text()
            with capfd.disabled():
                print(f"\n{log.read_text()}")
            figures = json.loads((folder / "scale.json").read_text())
            assert [(s["nodes"], s["actors"], s["shards"]) for s in figures["systems"]] == [(1, 2, 1), (3, 6, 3)]
            one, three = (s["frames_per_s"] for s in figures["systems"])
            assert three > 1.5 * one, "emulators that sleep take no core from each other"
            for run, machines in (("nodes-1-1", {"node1"}), ("nodes-3-1", {"node1", "node2", "node3"})):
                records = jsonl.read(folder / run / "metrics.jsonl")
                seen = {host for record in records for host in by_machine(record)}
                assert seen and seen <= machines  # a short run may not have heard of each; its components fill all
            assert (folder / "scale.png").exists()

            refused = (*command[:-1], f"run_dir={tmp_path}/other", "nodes=4")
            log.write_text("")
            command = tuple(text for text in refused if text != "nodes=1,3")
            assert cluster.spawn(1, *command, log=log).wait(timeout=120) == 2
            assert log.read_text() == "distdqn: nodes=4: that cluster has 3 machines with CPUs\n"
        finally:
            cluster.close()
    finally:
        hosts.close()
