from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distdqn.config import RunConfig
from distdqn.record.recorder import Recorder
from distdqn.record.wandb import WandB, choose_mode, logged_in, new_id
from distdqn.run_folder import RunFolder
from tests.record.wandb_server import Server, server


@pytest.fixture(autouse=True)
def no_login(monkeypatch: Any, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")


def inspect(folder: Path) -> dict[str, Any]:
    """What W&B itself reads from an offline run."""
    (run,) = folder.glob("offline-run-*")
    command = shutil.which("wandb", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the wandb command is not beside this Python")
    shown = subprocess.run(
        [command, "leet", "inspect", "--summary", "--json", str(run)], capture_output=True, text=True, timeout=60
    )
    summary: dict[str, Any] = json.loads(shown.stdout)
    return summary


def test_the_mode_follows_request_environment_login(monkeypatch: Any, tmp_path: Path) -> None:
    assert not logged_in() and choose_mode(None) == "disabled" and choose_mode("offline") == "offline"
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password 0123\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert choose_mode(None) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert choose_mode(None) == "disabled"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert choose_mode(None) == "online" and choose_mode("disabled") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert choose_mode(None) == "offline" and choose_mode("online") == "online"


def test_online_without_a_login_goes_on_offline(tmp_path: Path) -> None:
    config = RunConfig(name="catch", screen="lines", track="online", tensorboard=False)
    out = io.StringIO()
    with RunFolder.create(tmp_path / "run", "name: catch\n") as folder:
        recorder = Recorder(folder, config, out=out)
        for step in range(1, 4):
            recorder.record(
                {
                    "time_s": step,
                    "env_frames": step * 4,
                    "env_steps": step,
                    "learner_updates": 0,
                    "learner/loss": 1 / step,
                }
            )
        recorder.close()
        seen = inspect(folder.wandb)
    assert "W&B goes on offline: no login" in out.getvalue()
    assert seen["run_id"] == recorder.state()["wandb_id"] and seen["state"] == "finished"
    assert seen["summary"]["env_frames"] == 12 and seen["summary"]["learner/loss"] == pytest.approx(1 / 3)
    assert seen["config"]["learner"]["batch_size"] == config.learner.batch_size


def test_an_unreachable_server_costs_no_training_time(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    run = WandB(tmp_path / "wandb", "online", new_id(), "catch", "catch", {"a": {"b": 1}}, init_s=1.5)
    run.write({"env_frames": 4, "learner/loss": 0.5})
    handed_over = time.monotonic()
    run.close()
    assert handed_over - started < 1.5  # did not wait for the server
    assert run.mode == "offline" and "W&B goes on offline" in run.notices.get()
    assert inspect(tmp_path / "wandb")["summary"]["learner/loss"] == 0.5


@pytest.fixture
def served(monkeypatch: Any) -> Iterator[Server]:
    import wandb

    wandb.teardown()  # else its service goes on with the address that it was started with
    with server() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found
    wandb.teardown(0)


def test_a_server_gets_what_is_recorded(tmp_path: Path, served: Server) -> None:
    run = WandB(tmp_path / "wandb", "online", "0123abcd", "catch-seed1", "catch", {})
    for step in range(5):
        run.write({"env_frames": step, "learner/loss": step / 2})
    run.close()
    assert [h["learner/loss"] for h in served.history] == [0, 0.5, 1, 1.5, 2]
    assert run.notices.get().startswith("W&B: http://127.0.0.1:") and run.notices.empty()


@pytest.mark.parametrize("state", ["gone", "silent"])
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_a_server_that_is_lost_on_the_way_costs_a_line(
    tmp_path: Path, monkeypatch: Any, served: Server, state: str, wait_s: float | None
) -> None:
    monkeypatch.setattr("distdqn.record.wandb.FINISH_S", 2.0)
    run = WandB(tmp_path / "wandb", "online", "0123abcd", "catch-seed1", "catch", {}, init_s=10)
    assert run.notices.get(timeout=30).startswith("W&B: http")
    run.write({"env_frames": 1})
    served.state = state
    started = time.monotonic()
    run.write({"env_frames": 2})
    run.close(wait_s)
    assert time.monotonic() - started < 12 + 5
    assert f"`wandb sync {tmp_path}/wandb/*run-*-0123abcd` uploads the rest" in run.notices.get(timeout=0)
    (left,) = (tmp_path / "wandb").glob("run-*-0123abcd")
    assert any(left.glob("*.wandb"))


def test_what_breaks_altogether_goes_off(monkeypatch: Any, tmp_path: Path) -> None:
    import wandb

    def refuse(**_: Any) -> None:
        raise RuntimeError("broken\ninstallation")

    monkeypatch.setattr(wandb, "init", refuse)
    run = WandB(tmp_path / "wandb", "offline", new_id(), "catch", "catch", {})
    run.write({"env_frames": 4})
    run.close()
    assert run.mode == "disabled" and run.notices.get() == "W&B goes off: broken installation"
    run.write({"env_frames": 8})
