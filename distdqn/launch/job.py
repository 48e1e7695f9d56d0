"""A run that is to be sent to machines which do not share this one's disk."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distdqn.config import ConfigError, RunConfig, to_mapping
from distdqn.config.compose import compose
from distdqn.types import EnvSpec

LONGEST = 47
"""Characters of a job's name that KubeRay takes."""


@dataclass(frozen=True)
class Typed:
    """A run as it was asked for.

    Attributes:
        texts: its overrides, without its folder. config: its `run_dir` is absolute. spec: what is played.
        config_dir: the folder of groups of one's own. sweep: it is one of several.
    """

    texts: list[str]
    config: RunConfig
    spec: EnvSpec
    config_dir: str | None = None
    sweep: bool = False


@dataclass(frozen=True)
class Job:
    """A run as it is sent.

    Attributes:
        config: with as many actors as there are cores, where nobody says how many.
        name: lower-case letters, digits and dashes, a letter first, at most `LONGEST`.
        run_dir: its folder here, absolute, where what was sent is kept. path: the same below the site's folder there,
            or absolute where the disk is shared.
        arguments: of `distdqn train`, apart from `engine.address` and `run_dir`.
        store: bytes of each machine's object store. replay: bytes of all transitions.
    """

    config: RunConfig
    name: str
    run_dir: Path
    path: str
    arguments: list[str]
    store: int
    replay: int

    def train(self, python: str, run_dir: str, address: str) -> list[str]:
        """The command of the driver: starts the run, or goes on with it."""
        last = [f"engine.address={address}", f"run_dir={run_dir}"]
        return [python, "-m", "distdqn.cli", "train", "--or-resume", *self.arguments, *last]

    def waiting(self, python: str, run_dir: str, address: str, machines: int, seconds: int) -> list[str]:
        """The same, once so many machines have joined."""
        wait = [python, "-m", "distdqn.launch.wait", address, str(machines), str(seconds)]
        return [*wait, *self.train(python, run_dir, address)]


def key_of(text: str) -> str:
    """The key of an override."""
    return text.lstrip("+").partition("=")[0]


def with_actors(texts: list[str], config: RunConfig, cpus: int) -> tuple[list[str], RunConfig]:
    """With so many actors that all `cpus` are used, unless `texts` says how many. Raises `ConfigError` where there is
    not enough for one."""
    if "actors.count" in map(key_of, texts) and config.actors.count != "auto":
        return texts, config
    count = (cpus - config.other_cpus) // config.actors.threads
    if count < 1:
        least = config.other_cpus + config.actors.threads
        raise ConfigError(f"cluster.head.cpus: {cpus} cores in all, this run takes at least {least}")
    actors = replace(config.actors, count=count)
    told = [] if config.actors.count == "auto" else [f"actors.count={count}"]
    return [*texts, *told], replace(config, actors=actors)


def with_journals_in(folder: str, run: Typed) -> Typed:
    """The run with its shards' journals in a folder of each machine, where they do not share a disk, unless it says
    anything of them."""
    if {"replay.journal", "replay.journal_dir"} & set(map(key_of, run.texts)):
        return run
    config = replace(run.config, replay=replace(run.config.replay, journal_dir=folder))
    return replace(run, texts=[*run.texts, f"replay.journal_dir={folder}"], config=config)


def prepare(run: Typed, cpus: int, gpus: int, name: str | None, there: str | None) -> Job:
    """The job of a run on machines with so many cores and GPUs in all.

    Args:
        name: of the job; None: that of the run's folder.
        there: the folder of runs there; None: the disk is this one's, where all paths are the same.
    Raises:
        ConfigError: there is not enough for one actor, or the run needs what is not there.
    """
    from distdqn.runtime.preflight import bytes_per_transition, object_store_bytes

    run_dir = Path(run.config.run_dir)
    path = str(run_dir)
    texts = run.texts
    if there is not None:
        path = _below(run_dir, there)
        if run.config_dir is not None:
            _refuse_what_stays_here(run, run.config_dir)
    elif run.config_dir is not None:
        texts = ["--config-dir", str(Path(run.config_dir).absolute()), *texts]
    texts, config = with_actors(texts, run.config, cpus)
    if gpus and "learner.device" not in map(key_of, texts):
        texts = [*texts, "learner.device=cuda"]  # rather than a CPU, where PyTorch cannot use it
    # DATE/TIME/NUMBER/NAME in a sweep
    own = "-".join(run_dir.parts[i] for i in (-1, -3, -2)) if run.sweep else run_dir.name
    replay = int(bytes_per_transition(config, run.spec) * config.replay.capacity)
    return Job(config, name or named(own), run_dir, path, texts, object_store_bytes(config, run.spec), replay)


def _below(run_dir: Path, there: str) -> str:
    """`run_dir` as it is below the working directory, and below `there`."""
    try:
        return str(run_dir.relative_to(Path.cwd()))
    except ValueError:
        why = f"must be below the working directory here, since it has the same place in {there} there"
        raise ConfigError(f"run_dir={run_dir}: {why}") from None


def named(text: str) -> str:
    """`text` as the name of a job; its end where it is too long, since that tells runs apart."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[-LONGEST:].lstrip("-0123456789").rstrip("-")
    return name or "run"


def _refuse_what_stays_here(run: Typed, config_dir: str) -> None:
    def plain(config: RunConfig) -> dict[str, object]:
        return {**to_mapping(config), "run_dir": ""}

    try:
        same = plain(compose([*run.texts, "engine.address=auto"])) == plain(run.config)
    except ConfigError:
        same = False
    if not same:
        why = "the run takes something from there, which is not where it is sent"
        raise ConfigError(f"--config-dir={config_dir}: {why}; say it as KEY=VALUE, or keep it in the package's conf")


@contextmanager
def kept(run_dir: Path, texts: Mapping[str, str]) -> Iterator[Path]:
    """The folder RUN/launch with these files; where what follows is refused, nothing of it is left that was not there
    before."""
    new = next((path for path in reversed([run_dir, *run_dir.parents]) if not path.exists()), None)
    folder = run_dir / "launch"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    try:
        yield folder
    except ConfigError:
        if new:
            shutil.rmtree(new)
        raise


def tool(name: str, kind: str) -> str:
    """The path of a program: beside this interpreter, or in the PATH. Raises `ConfigError` where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigError(f"cluster={kind}: there is no {name} here; --dry-run shows the job")
    return found


def said_by(command: Sequence[str], kind: str, seconds: float = 120) -> str:
    """What a site's own tool answers. Raises `ConfigError` with the last line that it says where it refuses."""
    program = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise ConfigError(f"cluster={kind}: {program} cannot be run ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"cluster={kind}: {program} gives no answer") from None
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ConfigError(f"cluster={kind}: {lines[-1] if lines else f'{program} left with {done.returncode}'}")
    return done.stdout
