"""Runs that are there are measured, and what cannot be an experiment is one line."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from distdqn.cli import main
from distdqn.config import ConfigError
from distdqn.config.compose import compose
from distdqn.config.stored import config_yaml
from distdqn.record.jsonl import JsonLines
from distdqn.scale.experiment import Experiment, Method
from distdqn.scale.measured import measured, time_to, window


def records(folder: Path, frames_per_s: float, hosts: int, actors: int, seconds: int = 100) -> Path:
    """A run that learns after 20 s, at half its speed for 10 s more, a line each two seconds; it ends with an
    evaluation that tells nothing of speed."""
    keys = [
        "experiment=catch",
        "engine.address=here:1",
        f"actors.count={actors}",
        "replay.shards=2",
        f"run_dir={folder}",
    ]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_yaml(compose(keys)))
    lines, frames = JsonLines(folder / "metrics.jsonl"), 0.0
    for time_s in range(2, seconds + 1, 2):
        speed = frames_per_s if time_s > 30 else frames_per_s / 2
        frames += 2 * speed
        shares = {"actor/idle_fraction": 0.05, "learner/idle_fraction": 0.25, "actor/weights_lag": 7.0}
        rates = {"actor/env_steps_per_s": speed, "actor/count": actors, "learner/samples_per_s": speed}
        nodes = {f"node/h{i}/{name}": v for i in range(hosts) for name, v in (("cpu", 0.5), ("sent", 1e6))}
        totals = {
            "time_s": time_s,
            "env_frames": frames,
            "env_steps": frames,
            "learner_updates": 5 * max(0, time_s - 20),
        }
        every = {**nodes, "run/driver_cpu": 0.25} if time_s % 10 == 0 else {}
        lines.write({**totals, **shares, **rates, **every, "eval/return_mean": time_s / 100})
    lines.write({"time_s": seconds + 500, "env_frames": frames, "eval/return_mean": 1.0})
    lines.close()
    return folder


def test_a_run_is_measured_from_its_metrics(tmp_path: Path) -> None:
    run = records(tmp_path / "run", 1000.0, hosts=2, actors=4)
    found = measured(run, warm_up=10)
    assert (found.nodes, found.actors, found.shards) == (2, 4, 2)
    assert found.frames_per_s == found.steps_per_s == found.samples_per_s == 1000
    assert (found.updates_per_s, found.lag, found.network) == (5, 7, 2e6)
    assert found.busy == pytest.approx({"actors": 0.95, "learner": 0.75, "coordinator": 0.25, "cores": 0.5})
    assert found.binds == "actors"
    assert measured(run, warm_up=0).frames_per_s < 1000, "its beginning was slower"
    assert window(run, 10)[0]["time_s"] == 32 and window(run, 10)[-1]["time_s"] == 100
    assert time_to(run, 0.5) == 50 and time_to(run, 2) is None
    with pytest.raises(ConfigError, match="do not go on for 90 s after its first update"):
        measured(run, warm_up=90)


def test_runs_that_are_there_become_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, (hosts, speed) in enumerate([(1, 1000.0), (1, 1200.0), (4, 3520.0)]):
        records(tmp_path / "sweep" / str(i) / "catch", speed, hosts, 4 * hosts)
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    options = ["--warm-up", "10", "--score", "0.5", "--out", str(out), "--plot", str(plot)]
    assert main(["scale", str(tmp_path / "sweep"), *options]) == 0
    printed = capsys.readouterr().out
    rows = {line[:32].strip(): line[32:].split() for line in printed.splitlines()}
    assert printed.startswith("distdqn scale: 3 runs, weak scaling")
    assert rows["nodes"] == ["1", "4"] and rows["actors"] == ["4", "16"]
    assert rows["frames/s"] == ["1,100", "3,520"] and rows["of an actor"] == ["275", "220"]
    assert rows["of what is ideal"] == ["100%", "80%"] and rows["what binds"] == ["actors", "actors"]
    assert rows["to the score"] == ["50", "s", "50", "s"]
    assert "lie apart by 1: 17%" in printed
    figures = json.loads(out.read_text())
    assert [s["frames_per_s"] for s in figures["systems"]] == [1100, 3520]
    assert plot.read_bytes()[:4] == b"\x89PNG"


CATCH = ("experiment=catch", "engine.address=127.0.0.1:1", "actors.count=2", "replay.shards=2", "budget.env_frames=9")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["experiment=catch"], "nodes=1,2: of a Ray cluster that engine.address names; --simulate pretends machines"),
        ([*CATCH], "engine.address=127.0.0.1:1: nobody answers there"),
        ([*CATCH, "actors.count=-1"], "actors.count=-1: must be"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], line: str
) -> None:
    assert main(["scale", "nodes=1,2", *overrides, f"run_dir={tmp_path}/x"]) == 2
    assert capsys.readouterr().err.startswith(f"distdqn: {line}")
    assert not list(tmp_path.iterdir())
    assert main(["scale", *CATCH]) == 2
    assert (
        capsys.readouterr().err
        == "distdqn: nodes: say how many machines, as nodes=1,2,4, or name runs that are there\n"
    )
    assert main(["scale", str(tmp_path)]) == 2
    assert "not a run's folder" in capsys.readouterr().err


def experiment(monkeypatch: pytest.MonkeyPatch, folder: Path, method: Method, *keys: str) -> Experiment:
    monkeypatch.setattr(Experiment, "_rehearse", lambda self: None)
    return Experiment([*CATCH, *keys, f"run_dir={folder}"], (1, 2), method)


def test_what_each_machine_brings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = experiment(monkeypatch, tmp_path / "all", Method(repeats=2))
    assert found.trials == [(1, "1"), (2, "1"), (1, "2"), (2, "2"), (1, "again")]
    config = compose(found._keys(2, 7, tmp_path / "run"))
    assert (config.actors.count, config.replay.shards, config.engine.nodes, config.seed) == (4, 4, 2, 7)
    assert config.budget.env_frames is None and config.evaluation.every_seconds is None
    assert (config.track.group, config.track.job_type) == ("all", "scale")

    found = experiment(monkeypatch, tmp_path / "all", Method(strong=True, score=1.0))
    config = compose(found._keys(2, 7, tmp_path / "run"))
    assert (config.actors.count, config.replay.shards, config.engine.nodes) == (2, 2, 2)
    assert config.budget.env_frames == 9 and config.evaluation.every_seconds is not None

    found = experiment(monkeypatch, tmp_path / "all", Method(), "actors.count=auto")
    config = compose(found._keys(2, 7, tmp_path / "run"))
    assert (config.actors.count, config.replay.shards) == ("auto", 4)


def test_what_has_been_measured_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = experiment(monkeypatch, tmp_path / "all", Method(seconds=60, warm_up=10, repeats=1))
    records(tmp_path / "all" / "nodes-1-1", 1000.0, hosts=1, actors=2)
    records(tmp_path / "all" / "nodes-2-1", 1000.0, hosts=1, actors=2, seconds=50)  # it was interrupted
    began = list[Path]()

    def train(run: Path, texts: list[str]) -> None:
        assert not run.exists()
        began.append(records(run, 2000.0, hosts=1, actors=2))

    monkeypatch.setattr(found, "_train", train)
    said = list[str]()
    speeds = [(trial.nodes, trial.label, trial.outcome.frames_per_s) for trial in found.run(said.append)]
    assert speeds == [(1, "1", 1000), (2, "1", 2000), (1, "again", 2000)]
    assert [run.name for run in began] == ["nodes-2-1", "nodes-1-again"] and len(said) == 2


def test_who_is_interrupted_is_told_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(self: Experiment, run: Path, texts: list[str]) -> None:
        if run.name == "nodes-2-1":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        records(run, 1000.0, hosts=1, actors=2)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Experiment, "_rehearse", lambda self: None)
    monkeypatch.setattr(Experiment, "_train", train)
    try:
        assert main(["scale", "nodes=1,2", *CATCH, f"run_dir={tmp_path}/all", "--warm-up", "10"]) == 3
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()
    assert "1,000 frames/s" in said.out
    assert said.err == f"distdqn: stopped; the same command with run_dir={tmp_path}/all goes on\n"
