"""Runs the real command line in a process of its own and looks at what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str, out: Path, group: bool = False) -> subprocess.Popen[bytes]:
    """`distdqn ARGUMENTS` with its output in `out`, with `group` as the first of a process group."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with open(out, "ab") as log:
        command = [sys.executable, "-m", "distdqn.cli", *arguments]
        pipes = {"stdout": log, "stderr": log}
        more: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # not as with `&`
        return subprocess.Popen(command, **pipes, env=environment, cwd=out.parent, start_new_session=group, **more)


@contextmanager
def training(*arguments: str, out: Path, group: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """`start`, ended at the latest where this is left."""
    process = start(*arguments, out=out, group=group)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def metrics(run: Path) -> list[dict[str, Any]]:
    """The records of a run so far."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for(
    condition: Callable[[], Any],
    what: str,
    process: subprocess.Popen[bytes] | None = None,
    seconds: float = 120,
    every: float = 0.2,
) -> Any:
    """The first truthy value of `condition`, as long as `process` lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before: {what}")
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def workers(process: subprocess.Popen[bytes], kind: str) -> list[psutil.Process]:
    """The Ray processes of the run's components `kind` or `kind-INDEX`."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if f"ray::{kind}" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return sorted(found, key=lambda p: p.pid)


def last(run: Path, name: str) -> float:
    """The last value of a metric, 0 before there is one."""
    values = [m[name] for m in metrics(run) if name in m]
    return float(values[-1]) if values else 0.0
