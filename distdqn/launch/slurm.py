"""A run as a Slurm job: its script, and its submission."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from distdqn.config import ConfigError
from distdqn.config.cluster import NodesConfig, SlurmConfig


def script(site: SlurmConfig, name: str, run_dir: Path, arguments: list[str], store: int) -> str:
    """The text of the job.

    Args:
        name: of the job. run_dir: absolute, on a disk that all nodes share.
        arguments: of `distdqn train`.
        store: bytes of each node's object store.
    """
    head, actors = site.head, site.actors
    steps = []
    if head.nodes > 1:
        steps.append(f'    step {head.nodes - 1} {head.cpus} --exclude="$SLURMD_NODENAME"')
    if actors.nodes:
        steps.append(f"    step {actors.nodes} {actors.cpus} --het-group=1")
    blocks = [_options(site, head, name, run_dir)]
    if actors.nodes:
        blocks += ["#SBATCH hetjob", _options(site, actors, name, run_dir)]
    return fill(
        (Path(__file__).with_name("slurm.sbatch")).read_text(),
        {
            "options": "\n".join(blocks),
            "setup": "\n".join(site.setup) or ":  # nothing to set up",
            "run": shlex.quote(str(run_dir)),
            "python": shlex.quote(sys.executable),
            "store": str(store),
            "head_cpus": str(head.cpus),
            "steps": "\n".join(steps) or "    :  # one machine",
            "nodes": str(head.nodes + actors.nodes),
            "arguments": shlex.join(arguments),
            "requeue": "yes" if site.requeue else "no",
        },
    )


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each {{name}} replaced."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _options(site: SlurmConfig, nodes: NodesConfig, name: str, run_dir: Path) -> str:
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
        "output": run_dir / "launch" / "job-%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{site.warning_s}",
    }
    flags = (["requeue"] if site.requeue else ["no-requeue"]) + ["exclusive"] * nodes.exclusive
    lines = [f"--{option}={value}" for option, value in known.items() if value is not None]
    lines += [f"--{flag}" for flag in flags]
    lines += [f"--{option}" + ("" if value is None else f"={value}") for option, value in nodes.options.items()]
    return "\n".join(f"#SBATCH {line}" for line in lines)


def submit(path: Path) -> tuple[str, list[str]]:
    """Gives the script at `path` to sbatch: the job's number, and the lines that watch, stop and fetch it. Raises
    `ConfigError` where Slurm refuses it."""
    try:
        done = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise ConfigError("cluster=slurm: there is no sbatch here; --dry-run shows the job") from None
    except subprocess.TimeoutExpired:
        raise ConfigError("cluster=slurm: sbatch gives no answer") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ConfigError(f"cluster=slurm: {said}")
    job, log = done.stdout.strip().partition(";")[0], path.parent
    watch = f"tail -F {shlex.quote(str(log / f'job-{job}.log'))}"
    return job, [watch, f"scancel --batch --signal=TERM {job}"]
