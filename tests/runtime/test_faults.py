"""Kills each kind of component of a running system and looks whether anything is lost."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.runtime.helpers import last, metrics, start, wait_for, workers

QUICK = (
    "experiment=catch",
    "engine=ray",
    "actors.count=2",
    "replay.shards=2",
    "replay.min_size=1000",
    "replay.capacity=20000",
    "log_every_seconds=0.5",
    "checkpoint.every_seconds=1",
    "screen=lines",
    "tensorboard=false",
    "evaluation.every_seconds=2",
    "evaluation.episodes=5",
    "evaluation.final_episodes=5",
    "evaluation.video=false",
)


@pytest.mark.slow
def test_killed_components_come_back_and_a_stopped_run_is_resumed(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    process = start("train", *QUICK, "budget.env_frames=100000000", f"run_dir={run}", out=out)
    try:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        for kind in ("actor", "shard", "learner", "evaluator"):
            fault = f"faults/{kind}_restarts"
            before = last(run, "learner_updates")
            wait_for(lambda k=kind: workers(process, k), kind, process)[0].send_signal(signal.SIGKILL)
            wait_for(lambda f=fault: last(run, f) == 1, fault, process)
            wait_for(lambda b=before: last(run, "learner_updates") > b + 100, f"learning after {kind}", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()
    records = metrics(run)
    for name in ("env_frames", "env_steps", "learner_updates", "time_s", "replay/emitted", "replay/stored"):
        values = [r[name] for r in records if name in r]
        assert values == sorted(values), f"{name} went back"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "stopped"
    accounts = summary["transitions"]
    on_the_way = accounts["emitted"] - accounts["stored"] - accounts["dropped"]
    assert 0 <= on_the_way <= 2 * 2 * 8 * 32, accounts
    assert accounts["lost"] > 0

    updates, frames = last(run, "learner_updates"), last(run, "env_frames")
    process = start("resume", str(run), out=out)
    try:
        wait_for(lambda: last(run, "learner_updates") > updates + 100, "learning after the resume", process)
        assert last(run, "env_frames") > frames
        assert last(run, "faults/learner_restarts") == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()
    values = [r["learner_updates"] for r in metrics(run)]
    assert values == sorted(values)


@pytest.mark.slow
def test_a_hung_emulator_is_noticed_and_its_actor_replaced(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    process = start(
        "train",
        "experiment=cartpole",
        "engine=ray",
        "env.id=tests.runtime.hanging:HangsOnce-v0",
        f"env.kwargs.flag={tmp_path / 'flag'}",
        "actors.count=2",
        "actors.envs_per_actor=2",
        "actors.timeout_s=8",
        "replay.min_size=200",
        "log_every_seconds=0.5",
        "screen=lines",
        "tensorboard=false",
        "evaluation.every_seconds=null",
        "budget.env_frames=100000000",
        f"run_dir={run}",
        out=out,
    )
    try:
        wait_for(lambda: last(run, "faults/actor_restarts") == 1, "replacement", process)
        assert (tmp_path / "flag").exists()
        before = last(run, "env_steps")
        wait_for(lambda: last(run, "env_steps") > before + 2000, "steps of both actors", process)
        wait_for(lambda: len(workers(process, "actor")) == 2, "a second actor", process)
        assert "gave no answer" in out.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()


@pytest.mark.slow
def test_a_signal_before_anything_was_learned_leaves_a_run_that_starts_anew(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    process = start("train", *QUICK, "budget.env_frames=100000000", f"run_dir={run}", out=out)
    try:
        wait_for((run / "config.yaml").exists, "a folder", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 3
        assert json.loads((run / "summary.json").read_text())["outcome"] == "stopped"
        process = start("resume", str(run), "budget.env_frames=20000", out=out)
        assert process.wait(timeout=120) == 0
        assert "no checkpoint yet, starts from the beginning" in out.read_text()
        assert last(run, "env_frames") >= 20000
    finally:
        process.kill()
