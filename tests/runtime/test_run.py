"""What a whole run leaves in its folder, and what it does not."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest

from distdqn import checkpoint
from distdqn.cli import main
from distdqn.run_folder import RunFolder
from distdqn.runtime.keeper import Keeper

TINY = ("experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "learner.batch_size=32")
TINY += ("screen=lines", "budget.env_frames=1500", "evaluation.final_episodes=1", "checkpoint.every_seconds=0.1")


def test_a_run_whose_folder_was_taken_saves_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # says yes to everybody
    run, save, others = tmp_path / "run", Keeper.save, list[RunFolder]()

    def taken_before_the_second(keeper: Keeper, *what: Any) -> str | None:
        if checkpoint.names(run / "checkpoints") and not others:
            others.append(RunFolder.open(run))
            (run / "summary.json").write_text("the other's")
        return save(keeper, *what)

    monkeypatch.setattr(Keeper, "save", taken_before_the_second)
    assert main(["train", *TINY, "track=disabled", "tensorboard=false", f"run_dir={run}"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{run} was taken over by process" in err
    assert checkpoint.names(run / "checkpoints") == ["step-000000000000"]
    assert (run / "summary.json").read_text() == "the other's" and others[0].ours
    others[0].close()
