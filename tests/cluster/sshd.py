"""A real sshd on each of the `hosts`, which then has a home folder of its own. Needs openssh-server and rsync."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.hosts import Hosts, run
from tests.runtime.helpers import ROOT

SETTINGS = """ListenAddress {address}
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PidFile none
SetEnv PYTHONPATH={root}
"""
HOME = """set -e
new=$(mktemp -d)
mount -t tmpfs none "$new"
case $2 in "$1"/*) mkdir -p "$new/${2#"$1"/}"; mount --bind "$2" "$new/${2#"$1"/}" ;; esac
mount --rbind "$new" "$1"
"""
"""An empty home folder in the place of $1, with the Python in $2 where that is below it."""


def missing() -> str:
    """Why nobody can log in here; empty where one can."""
    there = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    gone = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if shutil.which(name, path=there) is None]
    return f"logging in needs {', '.join(gone)}" if gone else ""


class Logins:
    """Each host lets in who has the `key`, as root."""

    def __init__(self, hosts: Hosts) -> None:
        self.folder = hosts.folder / "ssh"
        self.folder.mkdir(mode=0o700)
        self.key = self.folder / "key"
        for key in ("key", "host"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        Path("/run/sshd").mkdir(exist_ok=True)
        sshd = str(shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"))
        self._started: list[subprocess.Popen[bytes]] = []
        for i in hosts.names:
            config = self.folder / f"{i}.conf"
            config.write_text(SETTINGS.format(address=hosts.address(i), folder=self.folder, root=ROOT))
            run(*hosts.on(i, "bash", "-c", HOME, "bash", Path.home(), sys.base_prefix))
            self._started.append(hosts.spawn(i, sshd, "-D", "-e", "-f", config, log=self.folder / f"{i}.log"))

    def close(self) -> None:
        """Ends them."""
        for process in self._started:
            process.kill()
            process.wait()
