"""Where `distdqn launch` sends a run: the keys of a site, apart from those of a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import hydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distdqn.config.keys import conf_dir
from distdqn.config.kuberay import KubeRayConfig
from distdqn.config.ray_sites import RayJobConfig, RayUpConfig
from distdqn.config.resolved import as_config_error
from distdqn.config.section import ConfigError, Section, from_mapping, number

_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


@dataclass(frozen=True)
class NodesConfig(Section):
    """Machines of one kind."""

    key: ClassVar[str] = "cluster.head"
    nodes: int = number(1, 0, 10_000)
    cpus: int = number(8, 1, 4096)
    """Cores of each, all of which the run uses."""
    memory: str | int | None = None
    """Of each, as Slurm writes it: 64G."""
    gres: str | None = None
    """As Slurm writes it: gpu:1."""
    partition: str | None = None
    constraint: str | None = None
    exclusive: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    """Any other option of sbatch, without its dashes: {mail-type: END}; null for one without a value."""

    def check(self) -> None:
        for name, value in self.options.items():
            if not _OPTION.fullmatch(str(name)) or "\n" in str(value):
                self.wrong("options", f"{name} is not an option of sbatch, such as mail-type")


@dataclass(frozen=True)
class ActorNodesConfig(NodesConfig):
    """Machines of another kind beside them, for actors alone; none where `nodes` is 0."""

    key: ClassVar[str] = "cluster.actors"
    nodes: int = number(0, 0, 10_000)


@dataclass(frozen=True)
class SlurmConfig(Section):
    """A Slurm cluster."""

    key: ClassVar[str] = "cluster"
    kind: Literal["slurm"] = "slurm"
    account: str | None = None
    qos: str | None = None
    time: str | int | None = None
    """Limit of a job, in minutes or as "12:00:00" (in quotes): the run is saved before it and goes on in the next."""
    warning_s: int = number(120, 30, 3600)
    """Seconds before that limit at which the run is told to save."""
    requeue: bool = True
    """The job is put back into the queue when its time is up, until the run is done."""
    at_once: int | None = number(None, 1)
    """So many jobs of a sweep run at the same time; null: as many as Slurm lets."""
    setup: tuple[str, ...] = ()
    """Lines of shell before anything else, on the first node: module load cuda."""
    head: NodesConfig = field(default_factory=NodesConfig)
    actors: ActorNodesConfig = field(default_factory=ActorNodesConfig)

    def check(self) -> None:
        if self.head.nodes < 1:
            self.refuse("head.nodes", "at least 1: the learner is on the first of them")
        if isinstance(self.time, int) and not 0 < self.time < 3600:  # YAML reads 12:00:00 as 43200
            self.refuse("time", 'less than 3600 as a number of minutes, or in quotes as Slurm writes it: "12:00:00"')

    @property
    def cpus(self) -> int:
        """Cores of the whole job."""
        return self.head.nodes * self.head.cpus + self.actors.nodes * self.actors.cpus


@dataclass(frozen=True)
class LocalConfig(Section):
    """This machine: the run goes on when its terminal is closed."""

    key: ClassVar[str] = "cluster"
    kind: Literal["local"] = "local"


SITES: dict[str, type[Section]] = {
    "kuberay": KubeRayConfig,
    "local": LocalConfig,
    "ray_job": RayJobConfig,
    "ray_up": RayUpConfig,
    "slurm": SlurmConfig,
}


def compose_cluster(name: str, overrides: Sequence[str], config_dir: str | None) -> Any:
    """The section of the site `name`, a file in the group `cluster` of ours or of the folder `config_dir`, with
    `overrides` such as cluster.time=60. Raises `ConfigError`: one line that names the key and what is allowed."""
    ours, own = conf_dir(), Path(config_dir).absolute() if config_dir else None
    folders = [own, ours] if own and (own / "cluster" / f"{name}.yaml").is_file() else [ours]
    if not (folders[0] / "cluster" / f"{name}.yaml").is_file():
        names = {path.stem for folder in filter(None, (ours, own)) for path in (folder / "cluster").glob("*.yaml")}
        raise ConfigError(
            f"cluster={name}: must be one of {', '.join(sorted(names))}, or a file of yours (--config-dir)"
        )
    texts = [f"++{text.lstrip('+')}" for text in overrides]
    texts += [f"hydra.searchpath=[file://{folder}]" for folder in folders[1:]]
    try:
        with hydra.initialize_config_dir(str(folders[0]), version_base="1.3"):
            values: Any = OmegaConf.to_container(hydra.compose(f"cluster/{name}", texts), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise as_config_error(error) from None
    site = values.get("cluster") or {}
    if site.get("kind") not in SITES:
        raise ConfigError(f"cluster.kind={site.get('kind')}: must be one of {', '.join(SITES)}")
    return from_mapping(SITES[site["kind"]], site, "cluster")
