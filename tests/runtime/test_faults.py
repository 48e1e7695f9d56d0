"""Kills each kind of component of a running system and looks whether anything is lost."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest

from tests.runtime.helpers import ROOT, last, metrics, training, wait_for, workers

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


FOREVER = "budget.env_frames=100000000"


def learns_on(run: Path, process: Popen[bytes], what: str) -> None:
    """Waits for 50 updates more."""
    before = last(run, "learner_updates")
    wait_for(lambda: last(run, "learner_updates") > before + 50, f"learning, {what}", process)


def stop(process: Popen[bytes], number: int = signal.SIGTERM) -> None:
    """It leaves with 3."""
    process.send_signal(number)
    assert process.wait(timeout=60) == 3


@pytest.mark.slow
def test_killed_components_come_back_and_a_stopped_run_is_resumed(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    with training("train", *QUICK, FOREVER, f"run_dir={run}", out=out) as process:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        for kind in ("actor", "shard", "learner", "evaluator"):
            fault = f"faults/{kind}_restarts"
            wait_for(lambda k=kind: workers(process, k), kind, process)[0].send_signal(signal.SIGKILL)
            wait_for(lambda f=fault: last(run, f) == 1, fault, process)
            learns_on(run, process, f"after {kind}")
        stop(process)
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
    with training("resume", str(run), out=out) as process:
        wait_for(lambda: last(run, "learner_updates") > updates + 100, "learning after the resume", process)
        said = out.read_text().partition("resuming from")[2]
        assert "shard-0 goes on with" in said and "shard-1 goes on with" in said
        wait_for(lambda: last(run, "env_frames") > frames, "playing after the resume", process)
        assert last(run, "faults/learner_restarts") == 1
        stop(process, signal.SIGINT)
    values = [r["learner_updates"] for r in metrics(run)]
    assert values == sorted(values)


@pytest.mark.slow
def test_updates_that_have_not_begun_are_not_waited_for_at_a_stop(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    # a call is some seconds long, and so many wait that all together take longer than a scheduler does
    queue = (
        "learner.updates_per_call=100",
        "learner.batch_size=256",
        "learner.in_flight=16",
        "learner.samples_per_insert=100000",
    )
    never = ("checkpoint.every_seconds=1000", "evaluation.every_seconds=null", FOREVER)
    with training("train", *QUICK, *queue, *never, f"run_dir={run}", out=out) as process:
        wait_for(lambda: last(run, "learner_updates") >= 100, "a call of the learner", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 3
    summary = json.loads((run / "summary.json").read_text())
    saved = int(out.read_text().partition("a resume goes on from step-")[2].split()[0])
    assert saved >= summary["learner_updates"] >= 100


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
def test_an_actor_whose_emulator_goes_wrong_is_replaced(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    faulty = (
        f"env.kwargs.flag={tmp_path / 'flag'}",
        "env.kwargs.how='raise,infinite,nan,hang'",
        "actors.envs_per_actor=1",
    )
    with training("train", *FAULTY, *faulty, "evaluation.every_seconds=null", f"run_dir={run}", out=out) as process:
        wait_for(lambda: last(run, "faults/actor_restarts") == 4, "replacements", process)
        before = last(run, "env_steps")
        wait_for(lambda: last(run, "env_steps") > before + 2000, "steps of both actors", process)
        wait_for(lambda: len(workers(process, "actor")) == 2, "a second actor", process)
        stop(process)
    for said in (
        "rollout failed: RuntimeError: one bad step",
        "rollout failed: ValueError: the environment gives a reward that is not finite",
        "rollout failed: ValueError: the environment gives an observation that is not finite",
        "gave no answer",
    ):
        assert said in out.read_text()
    assert last(run, "faults/failures") == 3
    log = (run / "faults.log").read_text()
    assert log.count(".packed_rollout\n") == 3 and "\x1b" not in log and 'File "' in log


@pytest.mark.slow
def test_neither_a_film_nor_an_evaluation_ends_a_run(tmp_path: Path) -> None:
    run, out, flag = tmp_path / "run", tmp_path / "out", tmp_path / "flag"
    Path(f"{flag}-raise").touch()  # actors and games are well, but films break off
    faulty = (f"env.kwargs.flag={flag}", "env.kwargs.how=raise", "evaluation.every_seconds=3", "evaluation.video=true")
    budget = ("budget.env_frames=null", "budget.seconds=25")
    with training("train", *FAULTY, *faulty, *budget, f"run_dir={run}", out=out) as process:
        assert process.wait(timeout=120) == 0
    assert "evaluator.record failed: RuntimeError: the OpenGL context is lost" in out.read_text()
    assert "the OpenGL context is lost" in (run / "faults.log").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["outcome"] == "done" and len(summary["final_evaluation"]["returns"]) == 100
    assert summary["faults/evaluator_restarts"] >= 1 and summary["faults/actor_restarts"] == 0


@pytest.mark.slow
def test_who_is_silent_is_replaced(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    with training("train", *QUICK, "engine.timeout_s=15", FOREVER, f"run_dir={run}", out=out) as process:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        for kind, said in (("shard", "is silent"), ("evaluator", ""), ("learner", None)):
            wait_for(lambda k=kind: workers(process, k), kind, process)[0].send_signal(signal.SIGSTOP)
            fault = f"faults/{kind}_restarts"
            if said is not None:  # the others go on without it
                wait_for(lambda s=said: s in out.read_text(), "an event", process)
                learns_on(run, process, f"while {kind} is silent")
                assert last(run, fault) == 0
            wait_for(lambda f=fault: last(run, f) == 1, fault, process)
            learns_on(run, process, f"after {kind}")
        stop(process)
    assert json.loads((run / "summary.json").read_text())["transitions"]["lost"] == 0


@pytest.mark.slow
def test_a_driver_that_was_stopped_blames_nobody_and_saves_when_its_group_is_told_to_end(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    limits = ("actors.timeout_s=3", "engine.timeout_s=3")
    never = ("checkpoint.every_seconds=1000", "evaluation.every_seconds=null", FOREVER)
    with training("train", *QUICK, *limits, *never, f"run_dir={run}", out=out, group=True) as process:
        wait_for(lambda: last(run, "learner_updates") > 200, "learning", process)
        process.send_signal(signal.SIGSTOP)
        time.sleep(10)
        process.send_signal(signal.SIGCONT)
        learns_on(run, process, "after a stop")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 3
    assert not [line for line in out.read_text().splitlines() if "restarted" in line or "no answer" in line]
    newest = max(path.name for path in (run / "checkpoints").glob("step-*"))
    assert int(newest.removeprefix("step-")) >= last(run, "learner_updates") > 200
    assert f"a resume goes on from {newest}" in out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["its folder is made", "its learner starts"])
def test_a_signal_before_anything_was_learned_leaves_a_run_that_starts_anew(tmp_path: Path, moment: str) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    with training("train", *QUICK, FOREVER, f"run_dir={run}", out=out) as process:
        starts = (run / "config.yaml").exists if "folder" in moment else lambda: workers(process, "Host")
        wait_for(starts, moment, process)
        stop(process)
    assert "Traceback" not in out.read_text()
    with training("resume", str(run), "budget.env_frames=20000", out=out) as process:
        assert process.wait(timeout=120) == 0
    assert "no checkpoint yet, starts from the beginning" in out.read_text()
    assert last(run, "env_frames") >= 20000


@pytest.mark.slow
def test_a_run_whose_output_nobody_reads_any_more_goes_on_and_saves(tmp_path: Path) -> None:
    run = tmp_path / "run"
    local = ("experiment=catch", "engine=local", "replay.min_size=500", "screen=lines", "tensorboard=false", FOREVER)
    command = [sys.executable, "-m", "distdqn.cli", "train", *local, "checkpoint.every_seconds=1000", f"run_dir={run}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Popen(command, stdout=PIPE, stderr=STDOUT, env=environment, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            while b"running" not in process.stdout.readline():
                pass
            process.stdout.close()  # as `| tee` does that a Ctrl-C has ended
            wait_for(lambda: last(run, "learner_updates") > 50, "learning", process)
            learns_on(run, process, "without a screen")
            stop(process)
        finally:
            process.kill()
    assert json.loads((run / "summary.json").read_text())["outcome"] == "stopped"
    newest = max(path.name for path in (run / "checkpoints").glob("step-*"))
    assert int(newest.removeprefix("step-")) >= last(run, "learner_updates") > 50
