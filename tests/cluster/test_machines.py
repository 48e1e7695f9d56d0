"""A run on several hosts: where its components live, and what becomes of it when one is cut off or slow."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.conftest import KEYS, cluster_only
from tests.cluster.hosts import Hosts, run
from tests.cluster.ray_cluster import RayCluster, told
from tests.runtime.helpers import ROOT, last, metrics, wait_for

pytestmark = cluster_only()


@pytest.fixture
def up() -> Iterator[Callable[..., RayCluster]]:
    """Makes a cluster on three hosts."""
    closing = []

    def make(**more: object) -> RayCluster:
        hosts = Hosts(3)
        closing.append(hosts.close)
        cluster = RayCluster(hosts, **more)  # type: ignore[arg-type]
        closing.append(cluster.close)
        return cluster

    try:
        yield make
    finally:
        for close in reversed(closing):
            close()


@contextmanager
def training(
    cluster: RayCluster,
    folder: Path,
    *keys: str,
    experiment: str = "catch",
    since: str = "learner_updates",
    beyond: int = 50,
) -> Iterator[Path]:
    """The folder of a run in which a metric is `beyond` that number; it is told to end where this is left, and has
    saved."""
    trained, out = folder / "run", folder / "out"
    process = cluster.train(f"experiment={experiment}", *KEYS, *keys, f"run_dir={trained}", log=out)
    try:
        wait_for(lambda: last(trained, since) > beyond, since, process, 300)
        yield trained
        code = told(process)
        assert code == 3, out.read_text()
        summary = json.loads((trained / "summary.json").read_text())
        assert summary["outcome"] == "stopped" and summary["transitions"]["lost"] == 0
    finally:
        process.kill()


def test_a_learner_whose_cable_is_cut_goes_on_on_another_machine(up: Callable[..., RayCluster], tmp_path: Path) -> None:
    cluster = up(cpus={1: 1, 2: 6, 3: 6})  # no room for it beside the driver
    with training(cluster, tmp_path, "learner.threads=2", "checkpoint.every_seconds=5") as trained:
        (at,) = (i for i in (1, 2, 3) if "learner" in cluster.components(i))
        assert at != 1
        before, start = last(trained, "learner_updates"), time.monotonic()
        cluster.hosts.cut(at)
        wait_for(lambda: "learner lost" in (tmp_path / "out").read_text(), "its end is noticed", seconds=120)
        noticed = time.monotonic() - start
        wait_for(lambda: last(trained, "learner_updates") > before + 200, "learning", seconds=120)
        print(f"cut under the learner: noticed after {noticed:.1f} s, learning after {time.monotonic() - start:.1f} s")
        assert "learner" in cluster.components(5 - at)


def test_a_cut_cable_under_actors_and_shards_stops_nothing_for_long(
    up: Callable[..., RayCluster], tmp_path: Path
) -> None:
    cluster = up(cpus={1: 3, 2: 6, 3: 6})
    with training(cluster, tmp_path, "actors.count=4", "replay.shards=3") as trained:
        assert {"learner", "shard"} <= cluster.components(1)
        wait_for(lambda: all("actor" in cluster.components(i) for i in (2, 3)), "actors everywhere", seconds=60)
        at = next(i for i in (2, 3) if "shard" in cluster.components(i))  # there was room for two beside the learner
        before, start = last(trained, "learner_updates"), time.monotonic()
        cluster.hosts.cut(at)
        wait_for(lambda: last(trained, "faults/shard_restarts") >= 1, "a new shard", seconds=120)
        noticed = time.monotonic() - start
        wait_for(lambda: last(trained, "learner_updates") > before + 200, "learning", seconds=120)
        print(f"cut under a shard: noticed after {noticed:.1f} s, learning after {time.monotonic() - start:.1f} s")
        assert last(trained, "faults/actor_restarts") >= 1 and last(trained, "faults/learner_restarts") == 0


def test_actors_follow_the_machines_that_join_and_go(up: Callable[..., RayCluster], tmp_path: Path) -> None:
    cluster = up(cpus={1: 5, 2: 2, 3: 3}, first=(1, 2))

    def said(text: str) -> bool:
        return text in (tmp_path / "out").read_text()

    with training(cluster, tmp_path, "actors.count=auto") as trained:
        wait_for(lambda: said("3 in all"), "an actor for each core that is left", seconds=60)
        start = time.monotonic()
        cluster.join(3)
        wait_for(lambda: said("3 actors join, 6 in all"), "more of them", seconds=60)
        wait_for(lambda: "actor" in cluster.components(3), "actors there", seconds=60)
        print(f"actors on a machine that joins after {time.monotonic() - start:.1f} s, Ray's start included")
        before, start = last(trained, "learner_updates"), time.monotonic()
        cluster.hosts.cut(3)
        wait_for(lambda: last(trained, "learner_updates") > before + 200, "learning", seconds=60)
        print(f"200 updates more {time.monotonic() - start:.1f} s after its cable was cut")
        wait_for(lambda: said("3 actors leave, 3 in all"), "those who have no room", seconds=120)


def test_a_machine_that_drains_gives_its_work_back_first(up: Callable[..., RayCluster], tmp_path: Path) -> None:
    cluster = up(cpus={1: 1, 2: 10, 3: 10})  # no room for the learner beside the driver
    with training(cluster, tmp_path, "learner.threads=2", "actors.count=4", "checkpoint.every_seconds=5") as trained:
        (at,) = (i for i in (1, 2, 3) if "learner" in cluster.components(i))
        wait_for(lambda: {"actor", "shard"} <= cluster.components(at), "actors there", seconds=60)
        before, start = last(trained, "learner_updates"), time.monotonic()
        ray = cluster.leave(at)
        gone = f"nothing of this run is on node{at} any more"
        wait_for(lambda: gone in (tmp_path / "out").read_text(), "it is empty", seconds=60)
        empty = time.monotonic() - start
        ray.wait(timeout=60)
        ended = time.monotonic() - start
        wait_for(lambda: last(trained, "learner_updates") > before + 200, "learning", seconds=60)
        learned = time.monotonic() - start
        print(f"drained: empty after {empty:.1f} s, Ray ended after {ended:.1f} s, learning after {learned:.1f} s")
        print("\n".join(line for line in (tmp_path / "out").read_text().splitlines() if "node" in line))
        restarts = [last(trained, f"faults/{kind}_restarts") for kind in ("actor", "shard", "learner", "evaluator")]
        assert not any(restarts) and last(trained, "replay/dropped") == 0
        assert "learner" in cluster.components(5 - at) and not cluster.components(at)


@pytest.mark.parametrize(("frames", "most"), [(42, 100), (84, 300)])
def test_what_crosses_the_network_is_packed(
    up: Callable[..., RayCluster], tmp_path: Path, frames: int, most: int
) -> None:
    """The learner and the shards are on host 1, the actors on 2 and 3. Before learning begins there is one version of
    the weights and no draw, so that what those two send is experience, and what drives it."""
    cluster = up(cpus={1: 3, 2: 3, 3: 3})
    keys = (f"env.frame_size={frames}", "actors.count=4", "learner.threads=1", "evaluation.threads=1")
    idle = Crossed(cluster)
    time.sleep(10)
    idle.end()
    more = {"experiment": "pong", "since": "replay/emitted", "beyond": 2000}
    with training(cluster, tmp_path, *keys, "replay.min_size=60000", **more) as trained:  # type: ignore[arg-type]
        where = {1: {"learner", "shard"}, 2: {"actor"}, 3: {"actor"}}
        kinds = {"actor", "shard", "learner"}
        wait_for(lambda: {i: cluster.components(i) & kinds for i in where} == where, "actors on both", seconds=30)
        played = Crossed(cluster, trained)
        enough = last(trained, "replay/emitted") + 14000
        wait_for(lambda: last(trained, "replay/emitted") > enough, "playing", seconds=200)
        played.end()
        packed = last(trained, "replay/journal_bytes") / last(trained, "replay/stored")
        assert last(trained, "learner_updates") == 0
        wait_for(lambda: last(trained, "learner_updates") > 0, "learning", seconds=200)
        learned = Crossed(cluster, trained)
        time.sleep(20)
        learned.end()
        drawn = sum(record.get("replay/bytes_out_per_s", 0.0) for record in metrics(trained)[-20:]) / 20
    print(f"\n{frames}: packed {packed:.1f} bytes a transition")
    for what, seen in (("idle", idle), ("experience alone", played), ("learning", learned)):
        print(f"{what}: {seen}")
    print(f"drawn on host 1, beside the learner: {drawn / 1e6:.2f} MB/s")
    assert packed < played.sent < most


class Crossed:
    """What the actors' hosts, 2 and 3, send and receive while `trained` plays, from the moment of one of its records to
    that of another."""

    def __init__(self, cluster: RayCluster, trained: Path | None = None) -> None:
        self._cluster, self._trained = cluster, trained
        self._before = self._now()

    def _now(self) -> tuple[float, int, int, float]:
        emitted = before = last(self._trained, "replay/emitted") if self._trained else 0.0
        while self._trained and emitted == before:
            time.sleep(0.02)
            emitted = last(self._trained, "replay/emitted")
        pairs = [self._cluster.hosts.crossed(i) for i in (2, 3)]
        return time.monotonic(), sum(sent for sent, _ in pairs), sum(got for _, got in pairs), emitted

    def end(self) -> None:
        """From here on nothing is counted any more."""
        now = self._now()
        self.seconds, self.bytes_sent, self.bytes_received, self.transitions = (
            after - before for after, before in zip(now, self._before, strict=True)
        )

    @property
    def sent(self) -> float:
        """Bytes a transition."""
        return self.bytes_sent / self.transitions

    @property
    def received(self) -> float:
        """Bytes a transition."""
        return self.bytes_received / self.transitions

    def __str__(self) -> str:
        each = "" if not self.transitions else f", a transition {self.sent:.1f} and {self.received:.1f}"
        sent, received = self.bytes_sent / self.seconds, self.bytes_received / self.seconds
        return (
            f"{self.transitions:.0f} transitions in {self.seconds:.1f} s; the actors' hosts sent {sent:.0f} B/s and "
            f"received {received:.0f} B/s{each}"
        )


def test_a_machine_that_differs_is_one_line_before_anything_starts(
    up: Callable[..., RayCluster], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "distdqn", tmp_path / "other")
    with open(tmp_path / "other" / "types.py", "a") as file:
        file.write("# changed\n")
    cluster = up(cpus={1: 3, 2: 3, 3: 3})
    run(*cluster.hosts.on(3, "mount", "--bind", tmp_path / "other", ROOT / "distdqn"))
    log = tmp_path / "out"

    def refused(folder: Path, **more: str) -> str:
        log.write_text("")
        start = time.monotonic()
        keys = ("experiment=catch", *KEYS, f"run_dir={folder}", f"engine.address={cluster.address}")
        process = cluster.spawn(1, sys.executable, "-m", "distdqn.cli", "train", *keys, log=log, **more)
        assert process.wait(timeout=120) == 2
        print(f"refused after {time.monotonic() - start:.1f} s: {log.read_text()}")
        assert log.read_text().count("\n") == 1 and not folder.exists()
        return log.read_text()

    line = refused(tmp_path / "run")
    assert line.startswith(f"distdqn: engine.address={cluster.address}: node3 has distdqn 0.1.0 (")
    (tmp_path / "token").write_text("another")
    line = refused(tmp_path / "run", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert line.endswith(f"the token in RAY_AUTH_TOKEN_PATH={tmp_path}/token is not that cluster's\n")
    run(*cluster.hosts.on(3, "umount", ROOT / "distdqn"))
    line = refused(Path("/tmp/ray/run"))  # on a disk of each host's own
    assert line.startswith("distdqn: run_dir=/tmp/ray/run: node") and "does not see that folder" in line
