"""A run of the command line as it is seen from outside: its processes, its folder, what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.runtime.helpers import ROOT, last, wait_for

MARK = "DISTDQN_CELL"
HOOKS = Path(__file__).with_name("hooks")


class Run:
    """A run of the command line, and all processes that come of it.

    Args:
        environment: what its processes find besides.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.out, self.mark = folder / "run", folder / "out", uuid.uuid4().hex
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{HOOKS}{os.pathsep}{ROOT}",
            "PYTHONUNBUFFERED": "1",
            MARK: self.mark,
            **(environment or {}),
        }

    def start(self, *arguments: str) -> None:
        """`distdqn ARGUMENTS`, first of a process group."""
        self.process = self.spawn(sys.executable, "-m", "distdqn.cli", *arguments)

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of the run, first of a process group."""
        with open(self.out, "ab") as log:
            more: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
            more |= {"stdout": log, "stderr": log, "start_new_session": True}
            return subprocess.Popen(command, env=self.environment, cwd=ROOT, **more)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 90, every: float = 0.05) -> Any:
        """The first truthy value of `condition`."""
        return wait_for(condition, what, self.process, seconds, every)

    def said(self, text: str) -> bool:
        """Whether it has said so."""
        return text in self.out.read_text(errors="replace")

    def updates(self) -> float:
        """Gradient steps so far."""
        return last(self.folder, "learner_updates")

    def figures(self) -> dict[str, float]:
        """MiB in memory of the driver, of all processes (what they share is counted in each), of the object store, and
        of the journals; open files of the driver, and processes."""
        driver, resident, store, here, mib = psutil.Process(self.process.pid), 0, 0, self.processes(), 1024**2
        for process in here:
            with suppress(psutil.Error):
                memory = process.memory_info()
                resident += memory.rss
                store += memory.shared * (process.name() == "raylet")
        journals = 0
        for path in (self.folder / "replay").rglob("*.journal"):
            with suppress(OSError):  # it may go meanwhile
                journals += path.stat().st_size
        return {
            "driver, MiB": driver.memory_info().rss / mib,
            "all, MiB": resident / mib,
            "object store, MiB": store / mib,
            "journals, MiB": journals / mib,
            "driver's files": driver.num_fds(),
            "processes": len(here),
        }

    def processes(self) -> list[psutil.Process]:
        """All of them that are there, also those whose parent has gone."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self, kind: str) -> list[psutil.Process]:
        """Those of the components `kind` or `kind-INDEX`."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if f"ray::{kind}" in " ".join(process.cmdline()):
                    found.append(process)
        return sorted(found, key=lambda p: p.pid)

    def end(self) -> None:
        """Ends what is left of it."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def left(self) -> list[str]:
        """The names of its processes that are still there."""
        found = set()
        for process in self.processes():
            with suppress(psutil.Error):
                found.add(process.name())
        return sorted(found)
