"""A real Slurm on the hosts of `hosts`, without systemd and cgroups. Needs the packages slurmctld, slurmd, slurm-client
and munge."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.cluster.hosts import NET, WITH_US, Hosts, run
from tests.runtime.helpers import wait_for

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
SETTINGS = """ClusterName=dq
SlurmctldHost=login({net}.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=60
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=2,batch_sched_delay=1,bf_hetjob_immediate
NodeName=node[1-{number}] NodeAddr={net}.[11-{last}] CPUs={cpus} RealMemory=4000
PartitionName=low Nodes=node[1-{number}] Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=high Nodes=node[1-{number}] MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    there = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    gone = [name for name in PROGRAMS if shutil.which(name, path=there) is None]
    return f"Slurm needs {', '.join(gone)}" if gone else ""


class Slurm:
    """Its controller is called login and runs on this machine; each host is a node of `cpus` cores.

    Attributes:
        environment: what sends Slurm's commands here.
    """

    def __init__(self, hosts: Hosts, cpus: int) -> None:
        self.hosts, self.folder = hosts, hosts.folder / "slurm"
        self.folder.mkdir()
        number, config = len(hosts.names), self.folder / "slurm.conf"
        last = 10 + number
        config.write_text(SETTINGS.format(net=NET, folder=self.folder, number=number, last=last, cpus=cpus))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # to look for another would fail here
        for name in ("ctld", *hosts.names.values()):
            (self.folder / name).mkdir()
        self.environment = {**os.environ, "SLURM_CONF": str(config), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        self._started: list[subprocess.Popen[bytes]] = []
        self._munge()
        login = f"hostname login; mount --bind {hosts.folder}/hosts /etc/hosts; exec slurmctld -D"
        try:
            self._start([*WITH_US, "unshare", "--uts", "--mount", "bash", "-c", login], "ctld")
            for i, name in hosts.names.items():
                self._start(hosts.on(i, "slurmd", "-D", "-N", name), name)
            wait_for(self._idle, "nodes")
        except AssertionError as error:
            self.close()
            raise AssertionError(f"Slurm does not start: {error}\n{self._said()}") from None

    def _munge(self) -> None:
        folder = Path("/run/munge")
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, "munge")
        self._munged = subprocess.run(["munge", "-n"], stdin=subprocess.DEVNULL, capture_output=True).returncode != 0
        if self._munged:  # its socket may be left of one that has gone
            run("runuser", "-u", "munge", "--", "/usr/sbin/munged", "--force")

    def _start(self, command: list[str], name: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            more: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "env": self.environment}
            self._started.append(subprocess.Popen(command, **more))

    def _said(self) -> str:
        """The last words of its daemons."""
        paths = sorted((*self.folder.glob("*.out"), *self.folder.glob("*.log")))
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-500:]}" for path in paths)

    def __call__(self, *command: object) -> str:
        """Output of one of Slurm's commands."""
        words = [str(part) for part in command]
        return subprocess.run(words, capture_output=True, text=True, env=self.environment, timeout=60).stdout

    def state(self, job: str) -> str:
        """Of a job: RUNNING, PENDING, COMPLETED and so on."""
        shown = self("scontrol", "show", "job", job)
        return shown.partition("JobState=")[2].split(maxsplit=1)[0] if "JobState=" in shown else "GONE"

    def restarts(self, job: str) -> int:
        """How often a job was put back into the queue."""
        return int(self("scontrol", "show", "job", job).partition("Restarts=")[2].split()[0])

    def minutes(self, job: str) -> int:
        """How many whole ones a job has run for."""
        hours, minutes, _ = self("scontrol", "show", "job", job).partition("RunTime=")[2].split()[0].split(":")
        return 60 * int(hours) + int(minutes)

    def limit(self, job: str, minutes: int) -> None:
        """Gives a job another time limit. It is warned when Slurm next looks, every 30 s."""
        run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}", env=self.environment)

    def _idle(self) -> bool:
        return self("sinfo", "-h", "-t", "idle", "-p", "low", "-o", "%D").strip() == str(len(self.hosts.names))

    def clear(self) -> None:
        """Ends all jobs, and waits until they have."""
        for state in ("PENDING", "RUNNING"):
            self("scancel", f"--state={state}")
        wait_for(self._idle, "idle nodes")

    def close(self) -> None:
        """Ends all jobs and daemons."""
        for state in ("PENDING", "RUNNING"):
            self("scancel", f"--state={state}")
        for process in self._started:
            process.terminate()
        for process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
            process.wait()
        if self._munged:
            with suppress(OSError, ValueError):
                os.kill(int(Path("/run/munge/munged.pid").read_text()), 15)
