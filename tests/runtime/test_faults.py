"""Kills each kind of component of a running system and looks whether anything is lost."""

from __future__ import annotations

import json
import os
import signal
import time
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
    assert accounts["lost"] == accounts["dropped"] == 0

    updates, frames = last(run, "learner_updates"), last(run, "env_frames")
    process = start("resume", str(run), out=out)
    try:
        wait_for(lambda: last(run, "learner_updates") > updates + 100, "learning after the resume", process)
        said = out.read_text().partition("resuming from")[2]
        assert "shard-0 goes on with" in said and "shard-1 goes on with" in said
        assert last(run, "env_frames") > frames
        assert last(run, "faults/learner_restarts") == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()
    values = [r["learner_updates"] for r in metrics(run)]
    assert values == sorted(values)


FAULTY = (
    "experiment=cartpole",
    "engine=ray",
    "env.id=tests.runtime.faulty:FaultyOnce-v0",
    "actors.count=2",
    "actors.envs_per_actor=2",
    "actors.timeout_s=8",
    "replay.min_size=200",
    "log_every_seconds=0.5",
    "screen=lines",
    "tensorboard=false",
    "budget.env_frames=100000000",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("hang", "gave no answer"),
        ("raise", "rollout failed: RuntimeError: one bad step"),
        ("infinite", "rollout failed: ValueError: the environment gives a reward that is not finite"),
        ("nan", "rollout failed: ValueError: the environment gives an observation that is not finite"),
    ],
)
def test_an_actor_whose_emulator_goes_wrong_is_replaced(tmp_path: Path, how: str, said: str) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    faulty = (f"env.kwargs.flag={tmp_path / 'flag'}", f"env.kwargs.how={how}", "evaluation.every_seconds=null")
    process = start("train", *FAULTY, *faulty, f"run_dir={run}", out=out)
    try:
        wait_for(lambda: last(run, "faults/actor_restarts") == 1, "replacement", process)
        assert (tmp_path / "flag").exists()
        before = last(run, "env_steps")
        wait_for(lambda: last(run, "env_steps") > before + 2000, "steps of both actors", process)
        wait_for(lambda: len(workers(process, "actor")) == 2, "a second actor", process)
        assert said in out.read_text()
        assert last(run, "faults/failures") == (how != "hang")
        assert (run / "faults.log").exists() == (how != "hang")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()


@pytest.mark.slow
def test_neither_a_film_nor_an_evaluation_ends_a_run(tmp_path: Path) -> None:
    run, out, flag = tmp_path / "run", tmp_path / "out", tmp_path / "flag"
    flag.touch()  # actors and games are well, but films break off
    faulty = (f"env.kwargs.flag={flag}", "env.kwargs.how=raise", "evaluation.every_seconds=3", "evaluation.video=true")
    budget = ("budget.env_frames=null", "budget.seconds=40")
    process = start("train", *FAULTY, *faulty, *budget, f"run_dir={run}", out=out)
    try:
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
    assert "evaluator.record failed: RuntimeError: the OpenGL context is lost" in out.read_text()
    assert "the OpenGL context is lost" in (run / "faults.log").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "done" and len(summary["final_evaluation"]["returns"]) == 100
    assert summary["faults/evaluator_restarts"] >= 1 and summary["faults/actor_restarts"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shard", "learner", "evaluator"])
def test_who_is_silent_is_replaced(tmp_path: Path, kind: str) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    process = start("train", *QUICK, "engine.timeout_s=20", "budget.env_frames=100000000", f"run_dir={run}", out=out)
    try:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        worker = wait_for(lambda: workers(process, kind), kind, process)[0]
        worker.send_signal(signal.SIGSTOP)
        if kind != "learner":  # the others go on without it
            said = "is silent" if kind == "shard" else ""
            wait_for(lambda: said in out.read_text(), "an event", process)
            before = last(run, "learner_updates")
            wait_for(lambda: last(run, "learner_updates") > before + 50, "learning meanwhile", process)
            assert last(run, f"faults/{kind}_restarts") == 0
        wait_for(lambda: last(run, f"faults/{kind}_restarts") == 1, "a replacement", process)
        before = last(run, "learner_updates")
        wait_for(lambda: last(run, "learner_updates") > before + 50, "learning", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()


@pytest.mark.slow
def test_a_driver_that_was_stopped_blames_nobody(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    limits = ("actors.timeout_s=3", "engine.timeout_s=3", "evaluation.every_seconds=null")
    process = start("train", *QUICK, *limits, "budget.env_frames=100000000", f"run_dir={run}", out=out)
    try:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        process.send_signal(signal.SIGSTOP)
        time.sleep(10)
        process.send_signal(signal.SIGCONT)
        before = last(run, "learner_updates")
        wait_for(lambda: last(run, "learner_updates") > before + 200, "learning", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()
    assert not [line for line in out.read_text().splitlines() if "restarted" in line or "no answer" in line]


@pytest.mark.slow
def test_a_signal_to_the_whole_group_is_for_the_driver(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    never = ("checkpoint.every_seconds=1000", "evaluation.every_seconds=null", "budget.env_frames=100000000")
    process = start("train", *QUICK, *never, f"run_dir={run}", out=out, group=True)
    try:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    finally:
        process.kill()
    newest = max(path.name for path in (run / "checkpoints").glob("step-*"))
    assert int(newest.removeprefix("step-")) >= last(run, "learner_updates") > 200
    assert f"a resume goes on from {newest}" in out.read_text() and "restarted" not in out.read_text()


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
