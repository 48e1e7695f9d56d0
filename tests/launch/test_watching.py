"""The files that other programs take, Grafana's dashboard and a sweep of W&B's, against runs of the real door."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from distdqn.cli import main
from distdqn.config.compose import compose
from distdqn.machine import Usage
from distdqn.record import jsonl
from distdqn.record.prometheus import exposed
from distdqn.record.recorder import REQUIRED
from tests.record.wandb_file import sessions

ROOT = Path(__file__).resolve().parents[2]
TINY = ("experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "learner.batch_size=32")
TINY += ("screen=lines", "budget.env_frames=1500", "evaluation.final_episodes=1", "evaluation.video=false")
LATER = {"run/frames_per_s", "run/updates_per_s", "run/actors_idle", "run/learner_idle", "run/store_full"}
"""What a run of some seconds does not get to."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The metrics of a run, with those of a GPU, and HOST for the machine."""
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *TINY, "track=disabled", "log_every_seconds=0.3", "metrics_port=0", f"run_dir={run}"]) == 0
    names = {name for record in jsonl.read(run / "metrics.jsonl") for name in record}
    of_gpus = Usage("host", 1.0, 1.0, 2.0, 1, 1, 0.5, 0.5, 0.5, 0.5)  # this machine may have none, or one look at it
    figures = of_gpus.figures(Usage("host", 0.0, 0.0, 0.0, 0, 0, 0.5, 0.5))
    return (
        {re.sub("node/.*/", "node/HOST/", name) for name in names} | LATER | {f"node/HOST/{name}" for name in figures}
    )


@pytest.fixture(scope="module")
def names(recorded: set[str]) -> set[str]:
    """The same, as Prometheus knows them."""
    return {exposed(name)[0] for name in recorded}


@pytest.mark.slow
def test_the_page_has_every_metric(recorded: set[str]) -> None:
    page = (ROOT / "distdqn" / "record" / "README.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([\w/]+)`", row) if "/" in name or name in REQUIRED}
    assert recorded - listed == set() and listed - recorded <= {"actor/bonus", "eval/human_normalised"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "launch" / "grafana.json").read_text())
    return content


@pytest.mark.slow
def test_the_dashboard_asks_for_what_there_is(names: set[str], dashboard: dict[str, Any]) -> None:
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [variable["query"] for variable in dashboard["templating"]["list"]]
    metrics = {name for text in asked for name in re.findall(r"\bdistdqn_\w+", text)}
    assert len(metrics) > 30 and metrics - names == set()
    assert {name for name in names if name.startswith(("distdqn_node_", "distdqn_faults_"))} - metrics == set()


def test_the_dashboard_is_whole(dashboard: dict[str, Any]) -> None:
    panels, variables = dashboard["panels"], {v["name"] for v in dashboard["templating"]["list"]}
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) == 23  # nothing lies on top of another
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used == variables == {"datasource", "run", "seed"}


@pytest.mark.slow
def test_a_resumed_run_is_one_at_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    assert main(["train", *TINY, "track=offline", "log_every_seconds=0.3", f"run_dir={run}"]) == 0
    assert main(["resume", str(run), "budget.env_frames=3000", "track.tags=[further]"]) == 0
    first, second = sessions(run / "wandb")
    assert first.id == second.id and (first.tags, second.tags) == ((), ("further",))
    rows = [row for row in first.history + second.history if "time_s" in row]  # but for the final evaluations' tables
    records = list(jsonl.read(run / "metrics.jsonl"))
    for name in ("time_s", "env_frames", "learner_updates"):
        assert [row[name] for row in rows] == [record[name] for record in records]
        assert [row[name] for row in rows] == sorted(row[name] for row in rows)
    steps = [row["_step"] for row in first.history + second.history]
    assert steps == sorted(set(steps))


def sweep() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "launch" / "sweep.yaml").read_text())
    return content


def test_every_value_of_the_sweep_composes() -> None:
    parameters = sweep()["parameters"]
    values = {
        key: said.get("values") or [said[name] for name in ("value", "min", "max") if name in said]
        for key, said in parameters.items()
    }
    first = [f"{key}={choices[0]}" for key, choices in values.items()]
    for i, (key, choices) in enumerate(values.items()):
        for choice in choices:
            compose([*first[:i], f"{key}={choice}", *first[i + 1 :]])


@pytest.mark.slow
def test_an_agent_of_a_sweep_trains_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own code starts the command, as it does for each run that the server gives it."""
    from wandb.wandb_agent import Agent

    program = tmp_path / "bin" / "distdqn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m distdqn.cli "$@"\n')
    program.chmod(0o755)
    environment = {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "", "WANDB_SWEEP_PARAM_PATH": ""}
    environment |= {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    tiny = dict(text.split("=") for text in TINY)
    given = {**tiny, "learner.optimizer.learning_rate": 0.00123, "agent.n_step": 2, "run_dir": "run"}
    agent = SimpleNamespace(
        _in_jupyter=False, _function=None, _forward_signals=False, _run_processes={}, _sweep_command=sweep()["command"]
    )
    order = {"run_id": "given-id", "program": "distdqn", "args": {key: {"value": v} for key, v in given.items()}}
    Agent._command_run(agent, order)
    assert agent._run_processes["given-id"].wait(timeout=240) == 0
    (session,) = sessions(tmp_path / "run" / "wandb")
    assert session.id == "given-id" and session.config["agent"]["n_step"] == 2
    assert session.config["learner.optimizer.learning_rate"] == 0.00123  # W&B's own, by which it compares runs
    assert session.history and session.summary["final/episodes"] == 1
