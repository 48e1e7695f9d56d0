"""The door `distdqn launch`: a run on a cluster, or a sweep of runs, by one command."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distdqn.config import ConfigError, RunConfig
from distdqn.config.cluster import LocalConfig, SlurmConfig, compose_cluster
from distdqn.config.compose import compose
from distdqn.config.sweep import combinations, one_by_one
from distdqn.launch import kuberay, ray_job, ray_up, slurm
from distdqn.launch.job import Typed, with_actors
from distdqn.launch.job import key_of as _key
from distdqn.run_folder import RunFolder
from distdqn.types import EnvSpec

OURS = ("engine.address", "engine.kind", "engine")
"""Keys that the launcher sets."""
ELSEWHERE: dict[str, Callable[..., None]] = {"kuberay": kuberay.send, "ray_job": ray_job.send, "ray_up": ray_up.send}
"""Kinds of sites that need not share this machine's disk."""


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        runs: the site of each run, its overrides, without its folder, and its config, whose `run_dir` is absolute.
        folder: of the run or of the sweep, absolute.
        yaml: Hydra's `multirun.yaml` of a sweep; None where it is none.
    """

    runs: list[tuple[Any, list[str], RunConfig]]
    folder: Path
    yaml: str | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return "-".join(dict.fromkeys(config.name for *_, config in self.runs))


def launch(overrides: Sequence[str], config_dir: str | None, dry_run: bool, multirun: bool = False) -> int:
    """Sends a run to where `cluster=NAME` says, with `multirun` each of a sweep, or shows what would be sent. Gives the
    exit code.

    Raises:
        ConfigError: one line that names the key and what is allowed; then nothing was sent or left.
    """
    about_site = [text for text in overrides if _key(text).partition(".")[0] == "cluster"]
    names = [text.partition("=")[2] for text in about_site if _key(text) == "cluster"]
    if len(names) != 1:
        raise ConfigError("cluster: say once where to, as cluster=slurm")
    rest = [text for text in overrides if text not in about_site]
    texts = [text for text in about_site if _key(text) != "cluster"]
    sites = [compose_cluster(names[0], chosen, config_dir) for chosen in (one_by_one(texts) if multirun else [texts])]
    site = sites[0]
    joins = not isinstance(site, LocalConfig)
    for text in rest:
        if joins and _key(text) in OURS:
            raise ConfigError(f"{text}: the launcher says it, since the cluster begins with the job")
    asked = _asked(sites, rest, [*rest, *(["engine.address=auto"] if joins else [])], config_dir, multirun)
    specs = [_check(config) for *_, config in asked.runs]
    options = ["--config-dir", str(Path(config_dir).absolute())] if config_dir else []
    if isinstance(site, SlurmConfig):
        return _slurm(asked, specs, options, dry_run)
    if send := ELSEWHERE.get(site.kind):
        return _elsewhere(asked, specs, config_dir, dry_run, send)
    return _local(asked, [*options, *(text for text in rest if _key(text) != "run_dir")], dry_run)


def _asked(
    sites: list[Any], rest: Sequence[str], composed: Sequence[str], config_dir: str | None, multirun: bool
) -> Asked:
    """`composed` is `rest` and what the launcher adds for the config alone. Each run is made on each of the `sites`."""
    if not multirun:
        config = compose(composed, config_dir)
        folder = Path(config.run_dir).absolute()
        texts = [text for text in rest if _key(text) != "run_dir"]
        return Asked([(sites[0], texts, replace(config, run_dir=str(folder)))], folder)
    sweep = combinations(composed, config_dir)
    added = composed[len(rest) :]
    runs = []
    for texts, config in sweep.runs:
        grouped = [] if "track.group" in map(_key, texts) else [f"track.group={config.track.group}"]
        runs.append(([text for text in texts if text not in added] + grouped, config))
    if len(sites) == 1:
        return Asked([(sites[0], *run) for run in runs], sweep.folder, sweep.yaml)
    folders = _folders([Path(config.run_dir) for _, config in runs], len(sites), sweep.folder)
    product = [(site, texts, config) for site in sites for texts, config in runs]
    everything = [(*r, replace(c, run_dir=str(f))) for (*r, c), f in zip(product, folders, strict=True)]
    return Asked(everything, sweep.folder, sweep.yaml)


def _folders(found: list[Path], sites: int, sweep: Path) -> list[Path]:
    """Of each run on each of so many sites: numbered on where the folders that Hydra `found` for one are numbers."""
    if not all(path.is_relative_to(sweep) for path in found):
        raise ConfigError("run_dir: a sweep over machines has its folders below hydra.sweep.dir=DIR")
    parts = [path.relative_to(sweep).parts for path in found]
    numbers = [part[0] for part in parts] == [str(i) for i in range(len(found))]
    return [
        sweep.joinpath(str(s * len(found) + i) if numbers else f"{first}-{s}", *inside)
        for s in range(sites)
        for i, (first, *inside) in enumerate(parts)
    ]


def _check(config: RunConfig) -> EnvSpec:
    """What can be known before a machine is there, and what is played."""
    from distdqn.envs.registry import check_env

    spec = check_env(config.env)
    if RunFolder.holds_a_run(config.run_dir):
        from distdqn.config.stored import refuse_another_run

        refuse_another_run(config.run_dir, config)
    else:
        RunFolder.check(config.run_dir)
    return spec


def _elsewhere(
    asked: Asked, specs: list[EnvSpec], config_dir: str | None, dry_run: bool, send: Callable[..., None]
) -> int:
    """Each run is a job of its own."""
    for (site, texts, config), spec in zip(asked.runs, specs, strict=True):
        send(site, Typed(texts, config, spec, config_dir, asked.yaml is not None), dry_run)
    if asked.yaml and not dry_run:
        (asked.folder / "multirun.yaml").write_text(asked.yaml)
    return 0


def _slurm(asked: Asked, specs: list[EnvSpec], options: list[str], dry_run: bool) -> int:
    from distdqn.runtime.preflight import object_store_bytes

    runs, counts, nodes = list[slurm.Run](), list[int](), list[int]()
    for (site, texts, config), spec in zip(asked.runs, specs, strict=True):
        texts, config = with_actors(texts, config, site.cpus)
        store = object_store_bytes(config, spec)
        runs.append(slurm.Run(Path(config.run_dir), [*options, *texts], store, site))
        counts.append(config.actors.places)
        nodes.append(site.head.nodes + site.actors.nodes)
    folder = asked.folder / "launch"
    jobs = slurm.jobs(asked.name, folder, runs)
    if dry_run:
        print("\n".join(jobs.values()), end="")
        return 0
    numbers = []
    new = next((path for path in reversed([folder, *folder.parents]) if not path.exists()), None)
    folder.mkdir(parents=True, exist_ok=True)
    if asked.yaml:
        (asked.folder / "multirun.yaml").write_text(asked.yaml)
    try:
        for name, text in jobs.items():
            (folder / name).write_text(text)
            numbers.append(slurm.submit(folder / name))
    except ConfigError:
        if new and not numbers:
            shutil.rmtree(new)
        raise
    actors, machines = ("-".join(str(n) for n in sorted({min(x), max(x)})) for x in (counts, nodes))
    what = f"{asked.name}, {actors} actors on {machines} {'node' if machines == '1' else 'nodes'}"
    scripts = " ".join(shlex.quote(str(folder / name)) for name in jobs)
    if len(runs) == 1:
        print(f"job {numbers[0]}: {what}")
        print(f"watch  tail -F {shlex.quote(str(folder / f'job-{numbers[0]}.log'))}")
        print(f"stop   scancel --batch --signal=TERM {numbers[0]}    (saves; submitted again it goes on)")
    else:
        print(f"{'job' if len(jobs) == 1 else 'jobs'} {' '.join(numbers)}: {len(runs)} runs of {what} each")
        print(f"watch  squeue --jobs={','.join(numbers)}; tail -F {shlex.quote(str(folder))}/job-*.log")
        print(f"stop   scancel {' '.join(numbers)}    (saves; submitted again they go on)")
        print(f"table  distdqn plot {shlex.quote(str(asked.folder))}")
    again = f"for job in {scripts}; do sbatch $job; done" if len(jobs) > 1 else f"sbatch {scripts}"
    print(f"again  {again}\nfolder {asked.folder}")
    return 0


def _local(asked: Asked, arguments: list[str], dry_run: bool) -> int:
    """One process, which trains one run after the other."""
    where = f"run_dir={asked.folder}" if asked.yaml is None else f"hydra.sweep.dir={asked.folder}"
    arguments = [*(["-m"] if asked.yaml else []), *(text for text in arguments if _key(text) != "hydra.sweep.dir")]
    command = [sys.executable, "-m", "distdqn.cli", "train", "--or-resume", *arguments, where]
    if dry_run:
        print(shlex.join(command))
        return 0
    log = asked.folder / "launch" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, cwd=os.getcwd()
        )
    again = f"distdqn resume {shlex.quote(str(asked.folder))}"
    if asked.yaml:
        again = f"distdqn {shlex.join(command[3:])}"
    print(f"process {process.pid}\nwatch  tail -F {shlex.quote(str(log))}\nstop   kill {process.pid}    (saves)")
    print(f"again  {again}\nfolder {asked.folder}")
    return 0
