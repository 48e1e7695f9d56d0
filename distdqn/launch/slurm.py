"""A run as a Slurm job: its script, and its submission."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distdqn.config import ConfigError
from distdqn.config.cluster import NodesConfig, SlurmConfig


@dataclass(frozen=True)
class Run:
    """What a job does.

    Args:
        run_dir: absolute, on a disk that all nodes share.
        arguments: of `distdqn train`.
        store: bytes of each node's object store.
        site: where.
    """

    run_dir: Path
    arguments: Sequence[str]
    store: int
    site: SlurmConfig

    def __str__(self) -> str:
        """Shell."""
        run = shlex.quote(str(self.run_dir))
        return f"run={run}\nstore={self.store}\narguments=({shlex.join(self.arguments)})"


def script(name: str, folder: Path, runs: Sequence[Run], **more: object) -> str:
    """The text of a job, of more than one run of an array of jobs on the same site.

    Args:
        name: of the job. folder: absolute, where its output goes.
        more: further options of the job.
    """
    site = runs[0].site
    head, actors = site.head, site.actors
    steps = []
    if head.nodes > 1:
        steps.append(f'    step {head.nodes - 1} {head.cpus} --exclude="$SLURMD_NODENAME"')
    if actors.nodes:
        steps.append(f"    step {actors.nodes} {actors.cpus} --het-group=1")
    one, *others = runs
    what = str(one)
    if others:
        limit = "" if site.at_once is None else f"%{site.at_once}"
        more["array"] = f"0-{len(others)}{limit}"
        cases = [f"{i})\n{run}\n;;" for i, run in enumerate(runs)]
        what = "\n".join(["case $SLURM_ARRAY_TASK_ID in", *cases, "esac"])
    log = folder / ("job-%A_%a.log" if others else "job-%j.log")
    blocks = [_options(site, head, name, log, more)]
    if actors.nodes:
        # a name of its own: jobs of one name that run one at a time would here wait for each other
        blocks += ["#SBATCH hetjob", _options(site, actors, f"{name}-actors", log, {})]
    return fill(
        (Path(__file__).with_name("slurm.sbatch")).read_text(),
        {
            "options": "\n".join(blocks),
            "setup": "\n".join(site.setup) or ":  # nothing to set up",
            "runs": what,
            "folder": shlex.quote(str(folder)),
            "python": shlex.quote(sys.executable),
            "head_cpus": str(head.cpus),
            "software": shlex.quote(str(Path(__file__).with_name("software.py"))),
            "steps": " &&\n".join(steps) or "    :  # one machine",
            "nodes": str(head.nodes + actors.nodes),
            "requeue": "yes" if site.requeue else "no",
        },
    )


def jobs(name: str, folder: Path, runs: Sequence[Run]) -> dict[str, str]:
    """The texts of the jobs, by the names of their files. More than one run is an array; where the nodes are of two
    kinds, of which Slurm makes no arrays, or others for each run, each is a job, and only one of a name runs at a
    time."""
    alike = all(run.site == runs[0].site for run in runs) and not runs[0].site.actors.nodes
    if len(runs) == 1 or alike:
        return {"job.sbatch": script(name, folder, runs)}
    texts = {}
    for i, run in enumerate(runs):
        at_once = run.site.at_once
        more = {} if at_once is None else {"dependency": "singleton"}
        slot = i if at_once is None else i % at_once
        texts[f"job-{i}.sbatch"] = script(f"{name}-{slot}", folder, [run], **more)
    return texts


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each {{name}} replaced."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _options(site: SlurmConfig, nodes: NodesConfig, name: str, log: Path, more: Mapping[str, object]) -> str:
    known: dict[str, object] = {
        "job-name": name,
        "account": site.account,
        "qos": site.qos,
        "time": site.time,
        "partition": nodes.partition,
        "constraint": nodes.constraint,
        "nodes": nodes.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": nodes.cpus,
        "mem": nodes.memory,
        "gres": nodes.gres,
        "chdir": Path.cwd(),
        "output": log,
        "open-mode": "append",
        "signal": f"B:USR1@{site.warning_s}",
        **more,
    }
    flags = (["requeue"] if site.requeue else ["no-requeue"]) + ["exclusive"] * nodes.exclusive
    lines = [f"--{option}={value}" for option, value in known.items() if value is not None]
    lines += [f"--{flag}" for flag in flags]
    lines += [f"--{option}" + ("" if value is None else f"={value}") for option, value in nodes.options.items()]
    return "\n".join(f"#SBATCH {line}" for line in lines)


def submit(path: Path) -> str:
    """Gives the script at `path` to sbatch; the job's number. Raises `ConfigError` where Slurm refuses it."""
    try:
        done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise ConfigError("cluster=slurm: there is no sbatch here; --dry-run shows the job") from None
    except subprocess.TimeoutExpired:
        raise ConfigError("cluster=slurm: sbatch gives no answer") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ConfigError(f"cluster=slurm: {said}")
    return done.stdout.strip().partition(";")[0]
