"""Which clusters may be joined: what their heads answer, first those of a stand-in, then those of Ray."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from distdqn.config import ConfigError
from distdqn.runtime.joining import refuse_unsafe, token

ROOT = Path(__file__).resolve().parents[2]
JOIN = """
import sys
from pathlib import PurePath
from distdqn.runtime.engine import Needs
from distdqn.runtime.ray import RayEngine
from distdqn.train import exit_code

def join():
    engine = RayEngine(sys.argv[1], 1, 0, 0, (), sys.argv[2] == "true")
    made = engine.start("path-0", Needs(cpus=0), PurePath, "a/b")
    print(engine.fetch(engine.call(made, "as_posix")[0], timeout=60))
    engine.close()
    return 0

sys.exit(exit_code(join))
"""
OTHER_VERSION = """
import json, sys
from ray._common.usage import usage_constants, usage_lib
from ray._private import ray_constants
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
written = {**usage_lib.get_cluster_metadata(client), "ray_version": sys.argv[2]}
key, namespace = usage_constants.CLUSTER_METADATA_KEY, ray_constants.KV_NAMESPACE_CLUSTER
client.internal_kv_put(key, json.dumps(written).encode(), True, namespace=namespace)
"""


class Head(grpc.GenericRpcHandler):
    """Answers as Ray's head does: with a `secret`, only who has it."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self.given: list[str] = []

    def service(self, details: Any) -> Any:
        if details.method != "/ray.rpc.NodeInfoGcsService/GetClusterId":
            return None
        given = dict(details.invocation_metadata).get("authorization", "")
        self.given.append(given)

        def answer(request: bytes, context: Any) -> bytes:
            if self.secret is not None and given != f"Bearer {self.secret}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def listening(handler: grpc.GenericRpcHandler | None) -> Iterator[str]:
    """The address of a gRPC server on a free port."""
    server = grpc.server(ThreadPoolExecutor(2))
    if handler is not None:
        server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def refused(address: str, unauthenticated: bool = False) -> str:
    """The line with which the cluster is refused."""
    with pytest.raises(ConfigError) as caught:
        refuse_unsafe(address, unauthenticated)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cluster_without_tokens_is_refused_unless_a_key_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    head = Head(None)
    with listening(head) as address:
        line = refused(address)
        assert line.startswith("engine.unauthenticated=false: ") and address in line and "asks for no token" in line
        assert refuse_unsafe(address, unauthenticated=True) is False
    assert head.given == ["", ""]  # nobody is told our token who does not ask for one


def test_the_token_must_be_the_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with listening(Head("theirs")) as address:
        for unauthenticated in (False, True):
            line = refused(address, unauthenticated)
            assert line.startswith(f"engine.address={address}: that cluster asks for a token, and there is none here")
        (tmp_path / "token").write_text("mine\n")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        line = refused(address)
        assert (
            line == f"engine.address={address}: the token in RAY_AUTH_TOKEN_PATH={tmp_path}/token is not that cluster's"
        )
        (tmp_path / "token").write_text("theirs\n")
        assert refuse_unsafe(address, unauthenticated=False) is True
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        assert "asks for a token, but RAY_AUTH_MODE=disabled here" in refused(address)


def test_the_token_is_looked_for_in_rays_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(" home \n")
    assert token() == (f"{tmp_path}/.ray/auth_token", "home")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert token() is None  # Ray looks no further either
    (tmp_path / "other").write_text("named")
    assert token() == (f"RAY_AUTH_TOKEN_PATH={tmp_path}/other", "named")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "here")
    assert token() == ("RAY_AUTH_TOKEN", "here")


def test_who_is_no_head_is_refused() -> None:
    with listening(None) as address:
        assert refused(address, True).startswith(f"engine.address={address}: whoever listens there is not the head")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "nobody answers there" in refused(f"127.0.0.1:{port}")
    assert "must be auto or HOST:PORT" in refused("head")
    assert "nobody answers there" in refused("127.0.0.1:many")


Call = Callable[..., tuple[int, str, str]]


@contextmanager
def ray_head(secret: str | None) -> Iterator[tuple[str, Call]]:
    """The address of a head node of Ray, and what runs a program in a process with a token: its exit code and words."""
    folder = Path(tempfile.mkdtemp(prefix="dq-", dir="/tmp"))  # short: Ray's sockets are in it
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    common |= {"HOME": str(folder), "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    common |= {"WANDB_MODE": "disabled"}
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secret} if secret else {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    command += [f"--temp-dir={folder}", "--object-store-memory=100000000", "--disable-usage-stats"]

    def call(given: str | None, *arguments: str) -> tuple[int, str, str]:
        environment = {**common, **({"RAY_AUTH_TOKEN": given} if given else {})}
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=folder, timeout=120
        )
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    with open(folder / "log", "wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env={**common, **mode})
    started: list[psutil.Process] = []
    try:
        for _ in range(600):
            if "Ray runtime started" in (folder / "log").read_text():
                break
            if head.poll() is not None:
                pytest.fail((folder / "log").read_text())
            with pytest.raises(subprocess.TimeoutExpired):
                head.wait(0.2)
        started = psutil.Process(head.pid).children(recursive=True)
        yield address, call
    finally:
        for process in [psutil.Process(head.pid), *started] if head.poll() is None else started:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def train(address: str, *more: str) -> tuple[str, ...]:
    return ("-m", "distdqn.cli", "train", "experiment=catch", f"engine.address={address}", "run_dir=run", *more)


@pytest.mark.slow
def test_rays_own_cluster_with_tokens() -> None:
    secret = "a" * 32
    with ray_head(secret) as (address, call):
        code, out, line = call("b" * 32, *train(address))
        assert (code, out) == (2, "")
        assert line == f"distdqn: engine.address={address}: the token in RAY_AUTH_TOKEN is not that cluster's"
        code, out, line = call(None, *train(address))
        assert (code, out, line.count("\n")) == (2, "", 0) and "there is none here" in line
        assert call(secret, "-c", JOIN, address, "false") == (0, "a/b", "")

        changed = call(
            secret, "-c", "import os; os.environ['RAY_AUTH_MODE'] = 'token'\n" + OTHER_VERSION, address, "2.1.0"
        )
        assert changed[0] == 0, changed
        code, out, line = call(secret, "-c", JOIN, address, "false")
        assert (code, out, line.count("\n")) == (2, "", 0), line
        assert line.startswith(f"distdqn: engine.address={address}: ") and "Ray: 2.1.0" in line


@pytest.mark.slow
def test_rays_own_cluster_without_tokens() -> None:
    with ray_head(None) as (address, call):
        code, out, line = call("mine", *train(address))
        assert (code, out, line.count("\n")) == (2, "", 0) and line.startswith(
            "distdqn: engine.unauthenticated=false: "
        )
        assert call("mine", "-c", JOIN, address, "true") == (0, "a/b", "")
