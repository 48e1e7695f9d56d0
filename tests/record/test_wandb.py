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

from distdqn.config import RunConfig, TrackConfig
from distdqn.record import jsonl
from distdqn.record.recorder import Recorder
from distdqn.record.wandb import About, WandB, choose_mode, logged_in, new_id, scheduled
from distdqn.run_folder import RunFolder
from tests.record.wandb_file import sessions
from tests.record.wandb_server import Server, server

MORE = ("WANDB_RUN_GROUP", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR")


@pytest.fixture(autouse=True)
def no_login(monkeypatch: Any, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC", *MORE):
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
    assert not logged_in() and choose_mode("auto") == "disabled" and choose_mode("offline") == "offline"
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password 0123\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert choose_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert choose_mode("auto") == "disabled"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert choose_mode("auto") == "online" and choose_mode("disabled") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert choose_mode("auto") == "offline" and choose_mode("online") == "online"


def test_online_without_a_login_goes_on_offline(tmp_path: Path) -> None:
    config = RunConfig(name="catch", screen="lines", track=TrackConfig(mode="online"), tensorboard=False)
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


def record(step: int, **more: float) -> dict[str, float]:
    return {"time_s": step, "env_frames": step * 4, "env_steps": step, "learner_updates": 0, **more}


def holds(path: Path, text: bytes) -> bool:
    try:
        return path.is_file() and text in path.read_bytes()
    except FileNotFoundError:  # W&B tidies up behind itself
        return False


def test_a_run_that_is_requeued_goes_on_without_gaps(tmp_path: Path, monkeypatch: Any) -> None:
    """Two sessions offline, as W&B will read them: one run, whose steps only grow, with all that was recorded."""
    for name, value in {"WANDB_API_KEY": "key-" + "7" * 36, "SLURM_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(name, value)
    track = TrackConfig(mode="offline", group="sweep-7", job_type="scale", tags=("a100", "two nodes"), artifacts=True)
    config = RunConfig(name="catch", screen="lines", track=track, tensorboard=False)
    film, checkpoint = tmp_path / "step-8.gif", tmp_path / "step-8"
    film.write_bytes(b"GIF89a, or so")
    checkpoint.mkdir()
    (checkpoint / "learner.safetensors").write_bytes(b"weights")
    state, shown = None, ""
    for session in range(2):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(session))
        out = io.StringIO()
        with RunFolder(tmp_path / "run", "name: catch\n" if state is None else None) as folder:
            recorder = Recorder(folder, config, out=out)
            if state is not None:
                recorder.restore(state)
            for step in range(4 * session, 4 * session + 4):
                recorder.record(record(step, **{f"node/host{session}/cpu": 0.5, "learner/loss": 1 / (1 + step)}))
            state = recorder.state()
            if session:
                recorder.film(film)
                recorder.summary({"outcome": "done"})
                recorder.finished({"eval/return_mean": 0.5, "returns": [0.0, 1.0], "checkpoint": "step-8"}, checkpoint)
            recorder.close()
            recorded, shown = list(jsonl.read(folder.metrics)), out.getvalue()
    first, second = sessions(tmp_path / "run" / "wandb")
    assert first.id == second.id == state["wandb_id"]
    for found, start in ((first, 0), (second, 1)):
        assert (found.group, found.job_type, found.tags) == ("sweep-7", "scale", ("a100", "two nodes"))
        said = {name: found.config[name] for name in ("slurm_job_id", "slurm_array_task_id", "slurm_restart_count")}
        assert said == {"slurm_job_id": "4711", "slurm_array_task_id": "2", "slurm_restart_count": str(start)}
        assert found.config["hosts"] == [f"host{start}"] and found.config["learner"]["batch_size"] == 512
    history = first.history + second.history
    steps = [row["_step"] for row in history]
    assert steps == [*range(0, 16, 2), 15]  # the film and the table are one more row
    assert [row["env_frames"] for row in history[:8]] == [r["env_frames"] for r in recorded]
    assert history[8]["eval/video._type"] == "video-file" and history[8]["final/returns.nrows"] == 2
    assert second.summary["outcome"] == "done" and second.summary["final/return_mean"] == 0.5
    assert second.summary["final/checkpoint"] == "step-8"
    (kept,) = (a for a in second.artifacts if a.type == "model")
    assert set(kept.aliases) == {"best", "latest"}
    assert [c.path for c in kept.manifest.contents] == ["learner.safetensors"] and first.artifacts == []
    assert f"`wandb sync {tmp_path}/run/wandb/*run-*-{first.id}*` uploads it" in shown
    assert [path for path in tmp_path.rglob("*") if holds(path, b"key-7777")] == []


def test_what_a_scheduler_says(monkeypatch: Any) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_x"}}')
    assert scheduled()["ray_job_id"] == "raysubmit_x" and "ray_job_name" not in scheduled()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "ray_job_id" not in scheduled()


def test_an_agent_of_a_sweep_gives_the_id(monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "of-the-agent")
    assert new_id() != "of-the-agent"  # left in a shell, it would join all runs to one
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert new_id() == "of-the-agent"


def test_an_unreachable_server_costs_no_training_time(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    run = WandB(tmp_path / "wandb", "online", About(new_id(), "catch"), {"a": {"b": 1}}, init_s=1.5)
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
    run = WandB(tmp_path / "wandb", "online", About("0123abcd", "catch-seed1"), {})
    for step in range(5):
        run.write({"env_frames": step, "learner/loss": step / 2})
    run.close()
    assert [h["learner/loss"] for h in served.history] == [0, 0.5, 1, 1.5, 2]
    assert run.notices.get().startswith("W&B: http://127.0.0.1:") and run.notices.empty()


def test_a_server_gets_the_steps_of_a_second_session_after_those_of_the_first(tmp_path: Path, served: Server) -> None:
    for recorded in (0, 3):
        run = WandB(tmp_path / "wandb", "online", About("0123abcd", "catch-seed1"), {}, recorded)
        for step in range(recorded, recorded + 3):
            run.write({"env_frames": step * 4})
        run.close()
    assert [h["_step"] for h in served.history] == [0, 2, 4, 6, 8, 10]
    assert [h["env_frames"] for h in served.history] == [0, 4, 8, 12, 16, 20]


@pytest.mark.parametrize("state", ["gone", "silent"])
@pytest.mark.parametrize("wait_s", [None, 1.0])
def test_a_server_that_is_lost_on_the_way_costs_a_line(
    tmp_path: Path, monkeypatch: Any, served: Server, state: str, wait_s: float | None
) -> None:
    monkeypatch.setattr("distdqn.record.wandb.FINISH_S", 2.0)
    run = WandB(tmp_path / "wandb", "online", About("0123abcd", "catch-seed1"), {}, init_s=10)
    assert run.notices.get(timeout=30).startswith("W&B: http")
    run.write({"env_frames": 1})
    served.state = state
    started = time.monotonic()
    run.write({"env_frames": 2})
    run.close(wait_s)
    assert time.monotonic() - started < 12 + 5
    assert f"`wandb sync {tmp_path}/wandb/*run-*-0123abcd*` uploads the rest" in run.notices.get(timeout=0)
    (left,) = (tmp_path / "wandb").glob("run-*-0123abcd")
    assert any(left.glob("*.wandb"))


def test_what_breaks_altogether_goes_off(monkeypatch: Any, tmp_path: Path) -> None:
    import wandb

    def refuse(**_: Any) -> None:
        raise RuntimeError("broken\ninstallation")

    monkeypatch.setattr(wandb, "init", refuse)
    run = WandB(tmp_path / "wandb", "offline", About(new_id(), "catch"), {})
    run.write({"env_frames": 4})
    run.close()
    assert run.mode == "disabled" and run.notices.get() == "W&B goes off: broken installation"
    run.write({"env_frames": 8})
