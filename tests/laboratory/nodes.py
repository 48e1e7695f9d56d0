"""A Ray cluster of several machines on this one: a raylet each, and the driver beside the head."""

from __future__ import annotations

import secrets
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import psutil

from tests.laboratory.running import Run

CPUS = 10
"""Of each machine but the head's: enough for a whole run, so that the one takes over from the other."""
PORTS = [f"--{name}-port=0" for name in ("min-worker", "max-worker", "dashboard-agent-listen", "metrics-export")]
NOTICE = {"period_ms": 2000, "timeout_ms": 2000, "failure_threshold": 3}
"""After which time and how many trials a machine that gives no sign is taken for dead: Ray's own take a minute."""


class Nodes:
    """A head without room for components and two machines for them; processes of `run`.

    Attributes:
        address: what `engine.address` is to be.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.port = run, _free_port()
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        run.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        run.environment["RAY_TMPDIR"] = str(folder)  # a killed head leaves its address where others would look for one
        run.environment |= {
            f"RAY_health_check_{name}{'_ms' * (value > 9)}": str(value) for name, value in NOTICE.items()
        }
        # not 127.0.0.1: Ray puts the machine's own address in its place
        self.address = f"{_own_address()}:{self.port}"
        self.head = self._start(1, "--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false")
        machine = (f"--address={self.address}", f"--num-cpus={CPUS}")
        self.machines = [self._start(number, *machine) for number in (2, 3)]

    def _start(self, number: int, *arguments: str) -> Popen[bytes]:
        """`ray start`, which ends with all that it has started. One after the other: they look for free names."""
        common = ("--num-gpus=0", "--object-store-memory=200000000", "--block", "--disable-usage-stats", *PORTS)
        process = self.run.spawn(str(Path(sys.executable).with_name("ray")), "start", *arguments, *common)
        end = time.monotonic() + 60
        while (text := self.run.out.read_text(errors="replace")).count("Ray runtime started") < number:
            if time.monotonic() > end:
                raise AssertionError(f"the cluster does not start: {text[-500:]}")
            time.sleep(0.1)
        return process

    def of(self, process: Popen[bytes]) -> list[psutil.Process]:
        """Everything on that machine."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def of_learner(self, other: bool = False) -> list[psutil.Process]:
        """Everything on the machine that the learner is on, or on the `other`."""
        (learner,) = self.run.workers("learner")
        for machine in self.machines:
            there = self.of(machine)
            if (learner in there) != other:
                return there
        raise AssertionError("the learner is on neither machine")

    def close(self) -> None:
        """Ends all machines."""
        for machine in [*self.machines, self.head]:
            for process in self.of(machine):
                with suppress(psutil.Error):
                    process.kill()
            machine.wait()


def _own_address() -> str:
    """This machine's address in its network, as Ray finds it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
