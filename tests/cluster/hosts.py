"""Several hosts on this machine: each has its own network, name, processes, shared memory and scratch disk; the rest of
the disk is shared by all, as on a cluster with NFS. Needs root, `ip` (iproute2), and a kernel that lets root have them,
which that of a container often does not."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

BRIDGE, NET = "dqbr", "10.77.0"
SCRATCH = ("/tmp/ray", "/tmp/distdqn-root")
WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it ends when this process does, however that ends."""


@functools.cache
def missing() -> str:
    """Why there can be no hosts here; empty where there can. One is made, to see."""
    if os.geteuid():
        return "hosts of their own need root"
    gone = [name for name in ("ip", "unshare", "nsenter", "setpriv") if shutil.which(name) is None]
    if gone:
        return f"hosts of their own need {', '.join(gone)}, of the packages iproute2 and util-linux"
    try:
        hosts = Hosts(1)
        try:
            run(*hosts.on(1, "true"))
        finally:
            hosts.close()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return f"no hosts of their own can be made here: {' '.join(str(error).split())[:300]}"
    return ""


def run(*command: object, check: bool = True, env: Mapping[str, str] | None = None) -> str:
    """Output of a command; `AssertionError` with what it says where it fails."""
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=env)
    assert not check or done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"
    return done.stdout


class Hosts:
    """Hosts node1 to nodeN, with the addresses 10.77.0.11 and so on; this machine is 10.77.0.1. They are there once: a
    second process waits until they are closed, and takes away what is left where the first one was killed."""

    def __init__(self, number: int) -> None:
        self._lock = open(Path(tempfile.gettempdir()) / "distdqn-hosts.lock", "w")  # noqa: SIM115, until they are closed
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        _remove_all()
        self.folder = Path(tempfile.mkdtemp(prefix="distdqn-hosts-"))
        self.names = {i: f"node{i}" for i in range(1, number + 1)}
        self._inits: dict[int, int] = {}
        self._outer: list[subprocess.Popen[bytes]] = []
        known = ["127.0.0.1 localhost", f"{NET}.1 login", *(f"{self.address(i)} {n}" for i, n in self.names.items())]
        (self.folder / "hosts").write_text("\n".join(known) + "\n")
        try:
            self._up()
        except BaseException:
            self.close()
            raise

    def _up(self) -> None:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for i, name in self.names.items():
            run("ip", "netns", "add", f"dqn{i}")
            run("ip", "link", "add", f"dqv{i}", "type", "veth", "peer", "name", "eth0", "netns", f"dqn{i}")
            run("ip", "link", "set", f"dqv{i}", "master", BRIDGE, "up")
            inside = ("ip", "netns", "exec", f"dqn{i}")
            run(*inside, "ip", "link", "set", "lo", "up")
            run(*inside, "ip", "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
            run(*inside, "ip", "link", "set", "eth0", "up")
            scratch = "; ".join(f"mkdir -p {p}; mount -t tmpfs -o mode=1777,size=4g none {p}" for p in SCRATCH)
            first = f"""set -e; hostname {name}; {scratch}; mount -t tmpfs -o mode=1777,size=4g none /dev/shm
                mount --bind {self.folder / "hosts"} /etc/hosts; echo ready
                while :; do sleep 3600 & wait; done"""  # it reaps whoever has lost its parent
            spaces = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
            command = [*WITH_US, *inside, "unshare", *spaces, "bash", "-c", first]
            with open(self.folder / f"{name}.err", "wb") as err:
                outer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err)
            self._outer.append(outer)
            started = outer.stdout is not None and outer.stdout.readline() == b"ready\n"
            assert started, f"{name} does not start: {(self.folder / f'{name}.err').read_text()}"
            (init,) = psutil.Process(outer.pid).children()
            self._inits[i] = init.pid

    @staticmethod
    def address(i: int) -> str:
        """Of host i."""
        return f"{NET}.{10 + i}"

    def on(self, i: int, *command: object) -> list[str]:
        """The command that runs `command` on host i, in this working directory."""
        return ["nsenter", "-t", str(self._inits[i]), "--all", f"--wd={Path.cwd()}", *map(str, command)]

    def spawn(self, i: int, *command: object, log: Path) -> subprocess.Popen[bytes]:
        """Starts a process on host i."""
        with open(log, "ab") as out:
            return subprocess.Popen(self.on(i, *command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def processes(self, i: int) -> list[psutil.Process]:
        """Those of host i, whoever started them."""

        def space(pid: int) -> str:
            try:
                return os.readlink(f"/proc/{pid}/ns/pid")
            except OSError:  # it has gone
                return ""

        own = space(self._inits[i])
        return [process for process in psutil.process_iter() if space(process.pid) == own]

    def crossed(self, i: int) -> tuple[int, int]:
        """Bytes that host i has sent and received so far; what it has sent came in at the other end of its cable."""
        counted = Path(f"/sys/class/net/dqv{i}/statistics")
        sent, received = (int((counted / name).read_text()) for name in ("rx_bytes", "tx_bytes"))
        return sent, received

    def rate(self, i: int, limit: str) -> None:
        """Lets no more through the cable of host i, either way: 100mbit."""
        shape = ("root", "tbf", "rate", limit, "burst", "256kb", "latency", "50ms")
        run("tc", "qdisc", "replace", "dev", f"dqv{i}", *shape)
        run("ip", "netns", "exec", f"dqn{i}", "tc", "qdisc", "replace", "dev", "eth0", *shape)

    def cut(self, i: int) -> None:
        """Pulls the cable of host i."""
        run("ip", "link", "set", f"dqv{i}", "down")

    def mend(self, i: int) -> None:
        """Puts it back."""
        run("ip", "link", "set", f"dqv{i}", "up")

    def close(self) -> None:
        """Ends every process of every host."""
        for init in self._inits.values():
            with suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
        for outer in self._outer:
            outer.kill()
            outer.wait()
        time.sleep(0.2)
        _remove_all()
        self._lock.close()


def _remove_all() -> None:
    """Cables, bridge, networks and folders of hosts whose processes have ended."""
    for path in (*Path("/sys/class/net").glob("dqv*"), *Path("/sys/class/net").glob(BRIDGE)):
        run("ip", "link", "del", path.name, check=False)
    for path in Path("/run/netns").glob("dqn*"):
        run("ip", "netns", "del", path.name, check=False)
    for path in Path(tempfile.gettempdir()).glob("distdqn-hosts-*"):
        shutil.rmtree(path, ignore_errors=True)
