"""What `distdqn launch cluster=ray_up` gives to `ray up`, against Ray's own schema, and the script of each machine."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.launch.helpers import Launcher, sound, stand_in, words

LOCAL = ("cluster.provider.head_ip=10.0.0.1", "cluster.provider.worker_ips=[10.0.0.2,10.0.0.3]", "run_dir=runs/catch-1")
CLOUD = ("cluster.image=registry/distdqn:1", "run_dir=runs/catch-1")
SCHEMA = """
import json, sys
from ray.autoscaler._private.util import prepare_config, validate_config
prepared = []
for made in json.load(sys.stdin):
    try:
        prepared.append(prepare_config(made))
        validate_config(prepared[-1])
    except Exception as error:
        prepared[-1:] = [str(error).splitlines()[0]]
print(json.dumps(prepared))
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "me")


@pytest.fixture
def launch(capsys: pytest.CaptureFixture[str]) -> Launcher:
    return Launcher("ray_up", LOCAL, capsys)


@pytest.fixture
def launched(launch: Launcher, tmp_path: Path) -> Iterator[str]:
    """The text of machine.sh, of a run whose name nobody else has."""
    text = texts(launch.shown(f"run_dir=runs/{tmp_path.name}-{os.getpid()}"))[1]
    yield text
    shutil.rmtree(scratch(text), ignore_errors=True)


def scratch(script: str) -> Path:
    (line,) = (line for line in script.splitlines() if line.startswith("here="))
    return Path(line.partition("=")[2].strip('"').replace("$(id -un)", pwd.getpwuid(os.geteuid()).pw_name))


def texts(shown: str) -> tuple[dict[str, Any], str]:
    """The file for `ray up`, and the script."""
    _, made, script = shown.split("\n### ")[0], *shown.split("### ")[1:3]
    return yaml.safe_load(made.partition("\n")[2]), script.partition("\n")[2]


def prepared(*made: dict[str, Any]) -> list[Any]:
    """What Ray makes of files for `ray up`, or what it says of one that it refuses."""
    command = [sys.executable, "-c", SCHEMA]
    done = subprocess.run(command, input=json.dumps(made), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def start(made: dict[str, Any], what: str) -> list[str]:
    (command,) = made[f"{what}_start_ray_commands"]
    return words(command)


def test_machines_that_are_there(launch: Launcher, tmp_path: Path) -> None:
    made, script = texts(
        launch.shown("cluster.head.cpus=4", "cluster.actors.cpus=16", "cluster.files={/home/me/.netrc: key}")
    )
    assert made["provider"] == {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    assert made["cluster_name"] == "catch-1" and made["max_workers"] == 2 and made["auth"] == {"ssh_user": "me"}
    head, other = start(made, "head"), start(made, "worker")
    assert head[2:5] == ["ray", "start", "--head"] and "--num-cpus=4" in head and "--node-ip-address=10.0.0.1" in head
    assert "--address=10.0.0.1:6379" in other and "--num-cpus=16" in other
    assert f"--temp-dir={scratch(script)}" in head and f"--temp-dir={scratch(script)}" in other
    assert made["file_mounts"]["/home/me/.netrc"] == str(tmp_path / "key")
    assert made["file_mounts"]["~/.distdqn/catch-1/token"] == str(tmp_path / "runs" / "catch-1" / "launch" / "token")
    sound(script)
    assert "RAY_enable_autoscaler_v2=0" in script and "actors.count=33" in script
    assert "distdqn.launch.wait 10.0.0.1:6379 3 900" in script and "run_dir=runs/catch-1" in script
    assert '"replay.journal_dir=$here/journals"' in script  # no disk is shared
    assert "journal_dir" not in launch.shown("cluster.shared=true") + launch.shown("replay.journal=false")


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_clouds_machines(capsys: pytest.CaptureFixture[str], cloud: str) -> None:
    launch = Launcher(cloud, CLOUD, capsys)
    made, script = texts(launch.shown("cluster.actors.nodes=3"))
    kinds = made["available_node_types"]
    assert kinds["head"]["max_workers"] == 0 and kinds["actors"]["min_workers"] == 3
    assert kinds["head"]["resources"] == {"CPU": 8, "GPU": 1} and kinds["actors"]["resources"] == {"CPU": 32}
    assert "spot" in json.dumps(kinds["actors"]) or "preemptible" in json.dumps(kinds["actors"])
    assert "spot" not in json.dumps(kinds["head"]) and "preemptible" not in json.dumps(kinds["head"])
    assert made["docker"]["image"] == "registry/distdqn:1" and "--address=$RAY_HEAD_IP:6379" in json.dumps(made)
    assert "distdqn.launch.wait auto 4 900" in script and "RAY_enable_autoscaler_v2" not in script
    assert f"actors.count={8 + 3 * 32 - 3}" in script and "learner.device=cuda" in script
    sound(script)


def test_ray_takes_them_all(capsys: pytest.CaptureFixture[str], launch: Launcher) -> None:
    made = [texts(launch.shown())[0]]
    made += [texts(Launcher(cloud, CLOUD, capsys).shown())[0] for cloud in ("aws", "gcp")]
    setup = ("cluster.setup=[pip install distdqn]", "cluster.image=null", "cluster.options={idle_timeout_minutes: 9}")
    made.append(texts(Launcher("aws", (*CLOUD, *setup), capsys).shown())[0])
    wrong = texts(launch.shown("cluster.options={max_worker: 3}"))[0]
    local, aws, gcp, other, refused = prepared(*made, wrong)
    assert local["available_node_types"]["local.cluster.node"]["min_workers"] == 2
    for taken in (aws, gcp, other):  # nothing of Ray's own examples, which install a Ray of today
        assert taken["head_node_type"] == "head" and set(taken["available_node_types"]) == {"head", "actors"}
        assert all("machine.sh" in command for command in taken["worker_start_ray_commands"])
        assert "wheels" not in json.dumps(taken)
    assert other["idle_timeout_minutes"] == 9 and other["worker_setup_commands"] == ["pip install distdqn"]
    assert isinstance(refused, str) and "max_worker" in refused


def test_up_then_the_driver(launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(tmp_path, "ray", "", monkeypatch)
    said = launch()
    kept = tmp_path / "runs" / "catch-1" / "launch"
    file = str(kept / "cluster.yaml")
    up = ["up", "-y", "--no-config-cache", "--disable-usage-stats", file]
    assert calls.read_text().splitlines() == [
        *up, "exec", "--no-config-cache", file, "bash ~/.distdqn/catch-1/machine.sh run",
    ]  # fmt: skip
    token = (kept / "token").read_text()
    assert len(token) == 64 and (kept / "token").stat().st_mode & 0o777 == 0o600
    assert token not in (kept / "cluster.yaml").read_text() + (kept / "machine.sh").read_text() + "".join(said)
    assert [line.split()[0] for line in said] == ["cluster", "watch", "stop", "again", "fetch", "end", "folder"]
    assert said[0] == "cluster catch-1: catch, 21 actors on 3 machines"
    launch()
    assert (kept / "token").read_text() == token  # the machines that are up have it


def test_a_failure_says_what_is_left(launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "ray", "exit 7", monkeypatch)
    (tmp_path / "calls").write_text("")
    (tmp_path / "runs" / "catch-1" / "launch").mkdir(parents=True)
    for name in ("cluster.yaml", "machine.sh", "token"):
        (tmp_path / "runs" / "catch-1" / "launch" / name).write_text("")
    assert "cluster=ray_up: ray up left with 7, what it said is above; " in (line := launch.refused())
    assert f"is taken back by ray down {tmp_path}/runs/catch-1/launch/cluster.yaml" in line


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong, named in (
        ("cluster.provider.head_ip=null", "cluster.provider.head_ip=None: must be an address"),
        ("cluster.provider.worker_ips=[node2]", "cluster.provider.worker_ips=node2: must be an address"),
        ("cluster.provider.worker_ips=10.0.0.2", "cluster.provider.worker_ips=10.0.0.2: must be a list of addresses"),
        ("cluster.actors.nodes=3", "cluster.actors.nodes=3: cluster.provider.worker_ips names 2"),
        ("cluster.auth={ssh_user: null}", "must be a mapping with the user to log in as"),
        ("cluster.folder=a b", "cluster.folder=a b: must be an absolute path there"),
        ("cluster.python='a; b'", "cluster.python=a; b: must be the path of an interpreter there"),
        ("cluster.setup=3", "cluster.setup=3: must be a list of texts"),
        (
            "run_dir=/tmp/mine",
            "run_dir=/tmp/mine: must be below the working directory here, since it has the same place",
        ),
    ):
        assert named in launch.refused(wrong), wrong
    launch.words.remove("run_dir=runs/catch-1")
    assert "cluster=ray_up: takes one run at a time" in launch.refused("-m", "seed=1,2")
    cloud = Launcher("aws", ("run_dir=runs/catch-1",), capsys)
    assert "cluster.image=null: must be an image with distdqn in it, unless cluster.setup" in cloud.refused()
    assert "cluster.head.node_config={}: must be what the cloud" in launch.refused("cluster.provider.type=aws")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "cluster=ray_up: there is no ray here; --dry-run shows the job" in launch.refused()


PYTHON = """#!/bin/bash
case "$*" in
*ray.scripts*) echo "Ray runtime started with ${*:3}"; trap 'echo gone; exit' TERM ;;
*) echo "driver: $*" "$PWD"; trap 'sleep 0.5; echo saved; exit 3' TERM ;;
esac
while :; do sleep 0.1; done  # distdqn
"""


def test_a_machine_keeps_ray_and_the_driver(launched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the interpreter, whose processes end when they are told to."""
    home, here = tmp_path / "home", scratch(launched)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    python, script = tmp_path / "python-distdqn", tmp_path / "machine.sh"
    python.write_text(PYTHON)
    python.chmod(0o755)
    script.write_text(launched.replace("python=python3", f"python={python}"))

    def machine(*command: str) -> tuple[int, str]:
        done = subprocess.run(["bash", script, *command], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.strip()

    def pid(what: str) -> int:
        return int((here / what).read_text())

    def gone(number: int) -> bool:
        return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE

    try:
        assert machine("ray", "start", "--head") == (0, "")
        assert "started with start --head" in (here / "ray.log").read_text()
        assert here.stat().st_mode & 0o777 == 0o700
        first = pid("ray")
        assert machine("ray", "start", "--head") == (0, "") and gone(first) and pid("ray") != first  # the earlier went

        assert machine("run") == (0, "")
        (log,) = (home / "distdqn" / "runs").glob("*/launch/run.log")
        end = time.monotonic() + 20
        while "driver: " not in log.read_text() and time.monotonic() < end:
            time.sleep(0.1)
        assert f"-m distdqn.launch.wait 10.0.0.1:6379 3 900 {python} -m distdqn.cli train" in log.read_text()
        assert log.read_text().splitlines()[0].endswith(f" {home}/distdqn")
        assert machine("run") == (1, "it is running already")
        assert machine("ray", "start", "--head") == (1, "a run is going on here: `machine.sh stop` first")
        driver, ray = pid("driver"), pid("ray")
        assert machine("stop") == (0, "") and gone(driver) and "saved" in log.read_text() and not gone(ray)
        assert machine("stop") == (0, "")
        assert machine("end") == (0, "") and gone(ray)
        assert machine("what")[0] == 2

        python.write_text("#!/bin/sh\necho the port is taken; exit 1 # distdqn\n")
        code, why = machine("ray", "start", "--head")
        assert code == 1 and "Ray does not start on" in why and "the port is taken" in why
    finally:
        machine("end")


def test_sockets_have_room(launched: str) -> None:
    """A socket's path may have 107 characters, of which Ray's own take 62."""
    assert len(str(scratch(launched))) <= 45
