"""The parts of `parts.py` train, named on a command line as a user names them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from distdqn.cli import main

HERE = "tests.example.parts"
FEED_FORWARD = [
    "experiment=catch",
    f"env.kind={HERE}:Corridor",
    "env.kwargs.length=6",
    f"agent.network.torso.kind={HERE}:Residual",
    "agent.network.torso.kwargs.units=32",
    f"agent.network.head.kind={HERE}:LogCosh",
    f"agent.bootstrap.kind={HERE}:Mellowmax",
    f"agent.exploration.kind={HERE}:Sticky",
    "agent.exploration.kwargs.repeat=0.1",
    f"agent.auxiliary.kind={HERE}:Terminal",
]
MEMORY = [f"agent.network.memory.kind={HERE}:Leaky", "agent.network.memory.size=16", "agent.sequence.length=8"]
SHORT = [
    "budget.env_frames=12000",
    "track=disabled",
    "screen=off",
    "checkpoint.every_seconds=600",
    "log_every_seconds=0.5",
]


def train(folder: Path, *overrides: str, parts: Sequence[str] = FEED_FORWARD) -> dict[str, float]:
    """The summary of a run."""
    assert main(["train", *parts, *SHORT, f"run_dir={folder}", *overrides]) == 0
    summary: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.mark.parametrize("memory", [[], MEMORY], ids=["feed-forward", "with a memory"])
def test_they_solve_the_corridor(tmp_path: Path, memory: list[str]) -> None:
    summary = train(tmp_path / "run", "engine=local", *memory)
    assert summary["eval/return_mean"] == 1.0
    assert summary["learner/terminal_accuracy"] > 0.9  # a metric of its own is recorded like any other
    assert list((tmp_path / "run" / "videos").glob("*.gif"))


def test_images_of_ones_own_are_learned_from(tmp_path: Path) -> None:
    torso = [f"agent.network.torso.kind={HERE}:Convolutional", "agent.network.torso.kwargs.channels=8"]
    parts = ["experiment=catch", f"env.kind={HERE}:Street", "env.stack=2", *torso]
    summary = train(tmp_path / "run", "engine=local", parts=parts)
    assert summary["eval/return_mean"] == 1.0
    assert list((tmp_path / "run" / "videos").glob("*.gif"))


@pytest.mark.slow
def test_they_run_in_processes_of_their_own(tmp_path: Path) -> None:
    summary = train(tmp_path / "run", "budget.env_frames=4000")
    assert summary["learner_updates"] > 0 and summary["faults/learner_restarts"] == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"agent.network.torso.kind={HERE}:Nobody", ("agent.network.torso.kind", "cannot be imported")),
        ("agent.bootstrap.kind=nowhere:Mellowmax", ("agent.bootstrap.kind", "No module named 'nowhere'")),
        ("agent.exploration.kwargs.often=1", ("agent.exploration.kwargs=", "often")),
        ("env.kwargs.width=1", ("env.kwargs=", "width")),
    ],
)
def test_what_is_wrong_with_them_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, words: tuple[str, ...]
) -> None:
    assert main(["train", *FEED_FORWARD, "engine=local", f"run_dir={tmp_path / 'run'}", override]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and all(word in error for word in words)
    assert not (tmp_path / "run").exists()
