"""What Prometheus fetches, by HTTP as it does, and what Grafana shows of it."""

from __future__ import annotations

import io
import json
import math
import re
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distdqn.config import RunConfig, TrackConfig
from distdqn.record.prometheus import CONTENT, Prometheus, exposed, page, refuse_taken
from distdqn.record.recorder import Recorder
from distdqn.run_folder import RunFolder
from distdqn.runtime.progress import FAULTS, RECORDED

RECORD: dict[str, Any] = {"time_s": 5.0, "env_frames": 4000, "env_steps": 1000, "learner_updates": 3}
LINE = re.compile(r'[a-z_][a-z0-9_]*\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\} \S+')


def fetch(where: str) -> str:
    with urllib.request.urlopen(where, timeout=10) as answer:
        assert answer.headers["Content-Type"] == CONTENT
        text: str = answer.read().decode()
    return text


def test_names_are_prometheus_ones() -> None:
    assert exposed("learner/loss") == ("distdqn_learner_loss", "", "gauge")
    assert exposed("node/gpu-7.site/shared_memory") == ("distdqn_node_shared_memory", "gpu-7.site", "gauge")
    assert exposed("faults/actor_restarts") == ("distdqn_faults_actor_restarts_total", "", "counter")
    assert exposed("learner/my-own loss")[0] == "distdqn_learner_my_own_loss"


def test_what_only_grows_is_a_counter() -> None:
    grows = {*RECORDED.values(), "replay/dropped", *(f"faults/{name}" for name in FAULTS)}
    assert {exposed(name)[2] for name in grows} == {"counter"}


def test_the_text_is_prometheus_format() -> None:
    text = page(
        {"node/a/cpu": 0.5, "learner/loss": math.nan, "x": math.inf, "env_frames": 7, "node/b/cpu": 1.0},
        {"run": 'my "run"\\\n', "seed": "1"},
    )
    run = r'run="my \"run\"\\\n",seed="1"'
    assert text == (
        f'# TYPE distdqn_node_cpu gauge\ndistdqn_node_cpu{{{run},host="a"}} 0.5\n'
        f'distdqn_node_cpu{{{run},host="b"}} 1.0\n'
        f"# TYPE distdqn_learner_loss gauge\ndistdqn_learner_loss{{{run}}} NaN\n"
        f"# TYPE distdqn_x gauge\ndistdqn_x{{{run}}} +Inf\n"
        f"# TYPE distdqn_env_frames_total counter\ndistdqn_env_frames_total{{{run}}} 7\n"
    )
    assert all(LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))


def test_the_newest_of_each_is_there_and_gone_machines_are_not() -> None:
    server = Prometheus("127.0.0.1", 0, {"run": "catch"})
    try:
        assert fetch(server.where) == "\n"
        server.write({"env_frames": 1, "learner/loss": 0.5, "node/a/cpu": 0.1, "node/b/cpu": 0.2})
        server.write({"env_frames": 2, "node/a/cpu": 0.3})
        rows = [line for line in fetch(server.where).splitlines() if not line.startswith("#")]
        assert sorted(rows) == [
            'distdqn_env_frames_total{run="catch"} 2',
            'distdqn_learner_loss{run="catch"} 0.5',
            'distdqn_node_cpu{run="catch",host="a"} 0.3',
        ]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(server.where.removesuffix("metrics"))
    finally:
        server.close()
    with pytest.raises(urllib.error.URLError):
        fetch(server.where)


def test_a_port_that_is_taken_is_refused_until_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            refuse_taken("127.0.0.1", port)
    refuse_taken("127.0.0.1", port)
    with pytest.raises(OSError, match="host"):
        refuse_taken("no..host", port)


def test_a_client_that_goes_away_or_says_nothing_disturbs_nobody() -> None:
    server = Prometheus("127.0.0.1", 0, {})
    port = int(server.where.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as silent:
        socket.create_connection(("127.0.0.1", port)).close()
        assert fetch(server.where) == "\n"
        silent.send(b"GET")
        server.close()


def test_the_recorder_serves_its_records(tmp_path: Path) -> None:
    track, out = TrackConfig(mode="disabled"), io.StringIO()
    config = RunConfig(name="catch", screen="lines", track=track, tensorboard=False, metrics_port=0)
    config = replace(config, typed={"metrics_host": "${oc.env:HERE}"})  # what it stands for, is listened on
    with RunFolder.create(tmp_path / "run", "name: catch\n") as folder:
        recorder = Recorder(folder, config, out=out)
        where = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", out.getvalue())
        assert where is not None
        recorder.record(RECORD)
        assert 'distdqn_learner_updates_total{run="catch",seed="1"} 3\n' in fetch(where[1])
        recorder.close()
    with pytest.raises(urllib.error.URLError):
        fetch(where[1])
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text()) == RECORD
