"""A Ray cluster on the hosts of `hosts`: a head, and a machine on each other host."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.cluster.hosts import Hosts, run
from tests.runtime.helpers import ROOT, wait_for

PORT = 6379
NOTICED = {  # as a job of `distdqn launch` has it
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
DASHBOARD = {
    "RAY_JOB_STOP_WAIT_TIME_S": "40",
    # on a busy machine it takes longer to start than Ray waits for it
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
    "RAY_agent_register_timeout_ms": "180000",
}


class RayCluster:
    """The head is on host 1.

    Args:
        cpus: of each host.
        first: who joins at once; none: all.
        dashboard: the head takes jobs at `dashboard`, http://HOST:8265, and gives them time to save.
        autoscaling: what Ray's autoscaler is to go by. more: environment variables.
    """

    def __init__(
        self,
        hosts: Hosts,
        cpus: Mapping[int, int],
        first: Iterable[int] = (),
        dashboard: bool = False,
        autoscaling: Path | None = None,
        **more: str,
    ) -> None:
        self.hosts, self.address = hosts, f"{hosts.address(1)}:{PORT}"
        self.dashboard = f"http://{hosts.address(1)}:8265" if dashboard else ""
        self.log = hosts.folder / "ray.log"
        token = hosts.folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(16))
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            **(DASHBOARD if dashboard else {}),
            **NOTICED,
            **more,
        }
        self._autoscaling = [f"--autoscaling-config={autoscaling}"] if autoscaling else []
        self._cpus = cpus
        self._raylets: dict[int, subprocess.Popen[bytes]] = {}
        head, *others = first or hosts.names
        for joining in filter(None, ([head], others)):  # who joins a head finds one
            for i in joining:
                self.join(i)
            try:
                wait_for(self._all_there, f"{len(self._raylets)} machines", seconds=300)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self._said()}") from None

    def join(self, i: int) -> subprocess.Popen[bytes]:
        """Starts Ray on host i, which lasts as long as the process that this gives."""
        head = ["--head", f"--port={PORT}", f"--include-dashboard={bool(self.dashboard)}", "--dashboard-host=0.0.0.0"]
        where = [*head, *self._autoscaling] if i == 1 else [f"--address={self.address}"]
        more = [f"--node-ip-address={self.hosts.address(i)}", f"--num-cpus={self._cpus[i]}"]
        more += ["--object-store-memory=300000000", "--block"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *more]
        self._raylets[i] = self.spawn(i, *command, log=self.log)
        return self._raylets[i]

    def spawn(self, i: int, *command: object, log: Path, **more: str) -> subprocess.Popen[bytes]:
        """Starts a process on host i that may join the cluster."""
        variables = [f"{name}={value}" for name, value in (self.environment | more).items()]
        return self.hosts.spawn(i, "env", *variables, *command, log=log)

    def train(self, *keys: object, log: Path, i: int = 1) -> subprocess.Popen[bytes]:
        """`distdqn train` on host i, which joins."""
        where = f"engine.address={self.address}"
        return self.spawn(i, sys.executable, "-m", "distdqn.cli", "train", *keys, where, log=log, PYTHONUNBUFFERED="1")

    def _all_there(self) -> bool:
        gone = [i for i, raylet in self._raylets.items() if raylet.poll() is not None]
        assert not gone, f"Ray does not start on {gone}"
        return self.machines() == len(self._raylets)

    def _said(self) -> str:
        """The last words of Ray, and of the head's dashboard."""
        dashboard = "/tmp/ray/session_latest/logs/dashboard.log"
        return self.log.read_text()[-3000:] + run(*self.hosts.on(1, "tail", "-n", "20", dashboard), check=False)

    def machines(self) -> int:
        """How many have joined."""
        script = f"from distdqn.runtime.ray import machines; print(machines('{self.address}'))"
        command = self.hosts.on(
            1, "env", *(f"{k}={v}" for k, v in self.environment.items()), sys.executable, "-c", script
        )
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment})
        return int(done.stdout or 0)

    def leave(self, i: int) -> subprocess.Popen[bytes]:
        """Tells Ray on host i to end, as schedulers do: it drains the machine for half a minute at the most, and ends
        as soon as nothing is on it any more, and with it the process that this gives."""
        (start,) = psutil.Process(self._raylets[i].pid).children()
        start.terminate()
        return self._raylets[i]

    def components(self, i: int) -> set[str]:
        """The kinds of components on host i, which are at work or wait for it."""
        found = set[str]()
        for process in self.hosts.processes(i):
            with suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::"):
                    found.add(title.removeprefix("ray::").partition(".")[0].split()[0])
        return found

    def close(self) -> None:
        """Ends Ray on all hosts."""
        for raylet in self._raylets.values():
            raylet.terminate()
        for raylet in self._raylets.values():
            with suppress(subprocess.TimeoutExpired):
                raylet.wait(timeout=20)
            raylet.kill()
            raylet.wait()


@contextmanager
def on_hosts(number: int, **more: Any) -> Iterator[RayCluster]:
    """A cluster on so many hosts of its own; `more`: as `RayCluster` takes it."""
    hosts = Hosts(number)
    try:
        made = RayCluster(hosts, **more)
        try:
            yield made
        finally:
            made.close()
    finally:
        hosts.close()


def told(process: subprocess.Popen[bytes], seconds: float = 90) -> Any:
    """Tells the driver behind `nsenter` to end; its exit code."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.terminate()
    return process.wait(timeout=seconds)
