"""What `distdqn launch cluster=ray_job` submits, and which clusters it refuses: first those of a stand-in."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.launch.helpers import Launcher, sound, stand_in, words

NODES = [{"state": "ALIVE", "resources_total": {"CPU": 6.0}}, {"state": "DEAD", "resources_total": {"CPU": 64.0}}]
NODES.append({"state": "ALIVE", "resources_total": {"CPU": 4.0, "GPU": 1.0}})


class Dashboard:
    """Answers as that of a Ray cluster does: with a `secret`, only who has it."""

    def __init__(self) -> None:
        self.secret: str | None = "theirs"
        self.answer: object = {"data": {"result": {"result": NODES}}}
        self.given: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers["Authorization"]
                outer.given.append(given)
                code = 200 if self.path == "/api/v0/nodes?limit=10000" else 404
                if outer.secret is not None and given != f"Bearer {outer.secret}":
                    code = 403 if given else 401
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(outer.answer).encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    made = Dashboard()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def launch(
    capsys: pytest.CaptureFixture[str], dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Launcher:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    monkeypatch.setattr("distdqn.launch.ray_job.NEEDED", ("json",))
    monkeypatch.chdir(tmp_path)
    return Launcher("ray_job", (f"cluster.address={dashboard.address}", "run_dir=runs/catch-1"), capsys)


def submitted(script: str) -> tuple[list[str], list[str]]:
    """The options of `ray job submit`, and the job's words."""
    sound(script)
    (line,) = (line for line in script.splitlines() if line.startswith("exec "))
    options, _, command = line.removeprefix("exec ").partition(" -- ")
    return words(options), words(command)


def test_the_cores_are_those_of_the_cluster(launch: Launcher, tmp_path: Path, dashboard: Dashboard) -> None:
    options, command = submitted(launch.shown())
    assert options[:4] == ["ray", "job", "submit", f"--address={dashboard.address}"] and "--no-wait" in options
    assert options[-1].startswith("--submission-id=catch-1-")
    others = 1 + 1 + 1  # learner, shard, evaluator
    assert command[:5] == ["python", "-m", "distdqn.cli", "train", "--or-resume"]
    assert f"actors.count={6 + 4 - others}" in command
    assert command[-2:] == ["engine.address=auto", f"run_dir={tmp_path}/runs/catch-1"]
    assert dashboard.given == [None, "Bearer theirs"]  # nobody is told our token who does not ask for one


def test_nobody_is_asked_where_all_is_said(launch: Launcher, dashboard: Dashboard) -> None:
    _, command = submitted(launch.shown("cluster.cpus=9", "cluster.gpus=1", "cluster.folder=/shared"))
    assert "actors.count=6" in command and "learner.device=cuda" in command
    assert command[-1] == "run_dir=/shared/runs/catch-1" and dashboard.given == []
    note = "note='a $HOME `b` \"c\"'"
    env = "cluster.runtime_env={env_vars: {A: 'b c'}}"
    options, command = submitted(launch.shown("actors.count=2", note, env))
    assert note in command and """--runtime-env-json={"env_vars": {"A": "b c"}}""" in options


def test_it_is_submitted_and_kept(
    launch: Launcher, dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(tmp_path, "ray", "echo \"Job 'catch-1-120000' submitted successfully\"", monkeypatch)
    said = launch()
    kept = tmp_path / "runs" / "catch-1" / "launch" / "submit.sh"
    assert said[0] == f"job catch-1-120000: catch, 7 actors at {dashboard.address}"
    about = f"--address {dashboard.address} catch-1-120000"
    assert said[1].endswith(f"--follow {about}") and said[2].startswith(f"stop   ray job stop {about} ")
    assert said[3:] == [f"again  sh {kept}", f"folder {tmp_path}/runs/catch-1"]
    given = calls.read_text().splitlines()
    assert given[:2] == ["job", "submit"] and given[-1] == f"run_dir={tmp_path}/runs/catch-1"
    assert "theirs" not in kept.read_text()


def test_which_clusters_are_refused(launch: Launcher, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    about = f"distdqn: cluster.address={dashboard.address}: "
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    assert launch.refused() == f"{about}the token in RAY_AUTH_TOKEN is not that cluster's\n"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere")
    assert "asks for a token, and there is none here: put it into ~/.ray/auth_token" in launch.refused()
    dashboard.secret = None
    assert launch.refused().startswith("distdqn: engine.unauthenticated=false: ")
    assert "actors.count=7" in launch.shown("engine.unauthenticated=true")
    dashboard.answer = {"data": None}
    assert launch.refused("engine.unauthenticated=true") == f"{about}does not say what it has; say cluster.cpus\n"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "nobody answers there" in launch.refused(f"cluster.address=http://127.0.0.1:{port}")


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong, named in (
        ("cluster.address=null", "cluster.address=null: must be that of the cluster's dashboard"),
        ("cluster.address=head:6379", "must be that of the cluster's dashboard, such as http://HEAD:8265"),
        ("cluster.folder=shared", "cluster.folder=shared: must be an absolute path there"),
        ("cluster.runtime_env={env_vars: {WANDB_API_KEY: abc}}", "cluster.runtime_env.WANDB_API_KEY: a secret's value"),
        ("cluster.cpus=3", "3 cores in all, this run takes at least 4"),
    ):
        assert named in launch.refused(wrong), wrong
    assert "run_dir=/tmp/a: must be below the working" in launch.refused("cluster.folder=/shared", "run_dir=/tmp/a")
    monkeypatch.setattr("distdqn.launch.ray_job.NEEDED", ("json", "no_such_package"))
    assert "cluster=ray_job: needs no_such_package here: pip install 'ray[default]'" in launch.refused()


def test_what_ray_refuses_is_its_line(launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "ray", "echo Traceback >&2; echo 'RuntimeError: no such cluster' >&2; exit 1", monkeypatch)
    (tmp_path / "calls").write_text("")
    assert launch.refused() == "distdqn: cluster=ray_job: RuntimeError: no such cluster\n"
    assert Path(sys.executable).name == "python"
