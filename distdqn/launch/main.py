"""The door `distdqn launch`: a run on a cluster, by one command."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distdqn.config import ConfigError, RunConfig
from distdqn.config.cluster import LocalConfig, SlurmConfig, compose_cluster
from distdqn.config.compose import compose
from distdqn.launch import slurm
from distdqn.run_folder import RunFolder
from distdqn.types import EnvSpec

OURS = ("engine.address", "engine.kind", "engine")
"""Keys that the launcher sets."""


def launch(overrides: Sequence[str], config_dir: str | None, dry_run: bool) -> int:
    """Sends a run to where `cluster=NAME` says, or shows what would be sent. Gives the exit code.

    Raises:
        ConfigError: one line that names the key and what is allowed; then nothing was sent or left.
    """
    about_site = [text for text in overrides if _key(text).partition(".")[0] == "cluster"]
    names = [text.partition("=")[2] for text in about_site if _key(text) == "cluster"]
    if len(names) != 1:
        raise ConfigError("cluster: say once where to, as cluster=slurm")
    rest = [text for text in overrides if text not in about_site]
    site = compose_cluster(names[0], [text for text in about_site if _key(text) != "cluster"], config_dir)
    joins = not isinstance(site, LocalConfig)
    for text in rest:
        if joins and _key(text) in OURS:
            raise ConfigError(f"{text}: the launcher says it, since the cluster begins with the job")
    config = compose([*rest, *(["engine.address=auto"] if joins else [])], config_dir)
    run_dir = Path(config.run_dir).absolute()
    spec = _check(config, run_dir)
    arguments = [text for text in rest if _key(text) != "run_dir"]
    if config_dir:
        arguments = ["--config-dir", str(Path(config_dir).absolute()), *arguments]
    if isinstance(site, SlurmConfig):
        return _slurm(site, config, spec, run_dir, arguments, dry_run)
    return _local(run_dir, arguments, dry_run)


def _key(text: str) -> str:
    return text.lstrip("+").partition("=")[0]


def _check(config: RunConfig, run_dir: Path) -> EnvSpec:
    """What can be known before a machine is there, and what is played."""
    from distdqn.envs.registry import check_env

    spec = check_env(config.env)
    if RunFolder.holds_a_run(run_dir):
        from distdqn.config.stored import refuse_another_run

        refuse_another_run(run_dir, config)
    else:
        RunFolder.check(run_dir)
    return spec


def actors_for(config: RunConfig, cpus: int) -> int:
    """So many that all `cpus` are used. Raises `ConfigError` where there is not enough for one."""
    from distdqn.runtime.roster import Roster

    others = Roster.cpus_of(config) - config.actors.count * config.actors.threads
    count = (cpus - others) // config.actors.threads
    if count < 1:
        least = others + config.actors.threads
        raise ConfigError(f"cluster.head.cpus: {cpus} cores in all, this run takes at least {least}")
    return count


def _slurm(
    site: SlurmConfig, config: RunConfig, spec: EnvSpec, run_dir: Path, arguments: list[str], dry_run: bool
) -> int:
    from distdqn.runtime.preflight import object_store_bytes

    if "actors.count" not in map(_key, arguments):
        count = actors_for(config, site.cpus)
        arguments = [*arguments, f"actors.count={count}"]
        config = replace(config, actors=replace(config.actors, count=count))
    store = object_store_bytes(config, spec)
    text = slurm.script(site, config.name, run_dir, arguments, store)
    if dry_run:
        print(text, end="")
        return 0
    folder = run_dir / "launch"
    new = next((path for path in reversed([run_dir, *run_dir.parents]) if not path.exists()), None)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.sbatch"
    path.write_text(text)
    try:
        job, (watch, stop) = slurm.submit(path)
    except ConfigError:
        if new:
            shutil.rmtree(new)
        raise
    nodes = site.head.nodes + site.actors.nodes
    print(f"job {job}: {config.name}, {config.actors.count} actors on {nodes} {'node' if nodes == 1 else 'nodes'}")
    print(
        f"watch  {watch}\nstop   {stop}    (saves; submitted again it goes on)\nagain  sbatch {shlex.quote(str(path))}"
    )
    print(f"folder {run_dir}")
    return 0


def _local(run_dir: Path, arguments: list[str], dry_run: bool) -> int:
    command = [sys.executable, "-m", "distdqn.cli", "train", "--or-resume", *arguments, f"run_dir={run_dir}"]
    if dry_run:
        print(shlex.join(command))
        return 0
    log = run_dir / "launch" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, cwd=os.getcwd()
        )
    print(f"process {process.pid}\nwatch  tail -F {shlex.quote(str(log))}\nstop   kill {process.pid}    (saves)")
    print(f"again  distdqn resume {shlex.quote(str(run_dir))}\nfolder {run_dir}")
    return 0
