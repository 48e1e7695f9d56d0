"""What a whole run leaves in its folder, and what it does not."""

from __future__ import annotations

import fcntl
import signal
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from distdqn import checkpoint
from distdqn.cli import main
from distdqn.config import TorsoConfig
from distdqn.run_folder import RunFolder
from distdqn.runtime import run as module
from distdqn.runtime.engine import EngineFailed
from distdqn.runtime.keeper import Keeper
from tests.example.parts import Residual

CANARY = "canary-7c1d9e"
TINY = ("experiment=catch", "engine=local", "actors.count=1", "replay.min_size=500", "learner.batch_size=32")
TINY += ("screen=lines", "budget.env_frames=1500", "evaluation.final_episodes=1", "checkpoint.every_seconds=0.1")


class Told(Residual):
    """A torso that needs a password."""

    def __init__(self, config: TorsoConfig, shape: tuple[int, ...], password: str) -> None:
        super().__init__(config, shape)
        assert password == CANARY


def files_with(text: str, folder: Path) -> list[str]:
    """The files below `folder` that hold the text, in whatever they are, or are named by it."""
    found = [p for p in folder.rglob("*") if text in p.name or (p.is_file() and text.encode() in p.read_bytes())]
    return [str(p.relative_to(folder)) for p in found]


@pytest.mark.slow
def test_a_secret_out_of_the_environment_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CANARY", CANARY)
    run = tmp_path / "run"
    secrets = ("name=${oc.env:CANARY}", "note=about ${oc.env:CANARY}", "env.id=${oc.env:CANARY}", "env.game=${name}")
    secrets += ("agent.network.torso.kind=tests.runtime.test_run:Told",)
    secrets += ("agent.network.torso.kwargs.password=${oc.env:CANARY}",)
    secrets += ("agent.n_step='${oc.decode:${oc.env:STEPS}}'",)
    monkeypatch.setenv("STEPS", "3")
    assert main(["train", *TINY, *secrets, "track=offline", f"run_dir={run}"]) == 0
    for resolver in ("name", "segment", "form", "cores", "share", "at_most", "run_dir"):
        OmegaConf.clear_resolver(resolver)  # as in another process
    assert main(["resume", str(run), "budget.env_frames=3000"]) == 0
    assert files_with("oc.env:CANARY", run / "wandb")  # it was tracked
    assert "about ${oc.env:CANARY}" in (run / "config.yaml").read_text()
    assert files_with(CANARY, run) == []
    out, err = capfd.readouterr()
    assert "resuming" in out and CANARY not in out + err

    monkeypatch.delenv("CANARY")
    assert main(["resume", str(run), "budget.env_frames=4000"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "CANARY" in err


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


def test_signals_of_one_moment_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now, left = 100.0, list[int]()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.os, "_exit", left.append)
    with module._Signals() as signals:
        signals.coordinator = coordinator = SimpleNamespace(stop=False)  # type: ignore[assignment]
        signals._handle(signal.SIGTERM, None)
        assert coordinator.stop
        now += module.MOMENT_SECONDS / 2
        signals._handle(signal.SIGTERM, None)
        assert left == []
        now += module.MOMENT_SECONDS
        signals._handle(signal.SIGTERM, None)
    assert left == [module.STOPPED]


def test_a_signal_that_comes_out_of_other_code_as_an_error_is_a_signal() -> None:
    after = False
    with module._Signals() as signals:
        with signals.starting():
            with suppress(module._Stopped):
                signals._handle(signal.SIGTERM, None)
            raise EngineFailed("returned a result with an exception set")
        after = True
    assert not after
    with pytest.raises(EngineFailed), module._Signals() as signals, signals.starting():
        raise EngineFailed("of its own")
