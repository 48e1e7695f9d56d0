"""The keys of clusters that Ray's own tools make or speak to: `ray up` and `ray job submit`."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from distdqn.config.kuberay import check_environment
from distdqn.config.section import ConfigError, Section, number

_FOLDER = re.compile(r"(~|/)[\w./-]*")
_PROGRAM = re.compile(r"~?[\w./+-]+")


@dataclass(frozen=True)
class UpNodesConfig(Section):
    """The machine with Ray's head, the driver and the learner."""

    key: ClassVar[str] = "cluster.head"
    cpus: int = number(8, 1, 4096)
    """Cores of each machine, all of which the run uses."""
    gpus: int = number(0, 0, 64)
    node_config: dict[str, Any] = field(default_factory=dict)
    """What the cloud is asked for, in its own words: {InstanceType: g5.2xlarge}."""


@dataclass(frozen=True)
class UpActorNodesConfig(UpNodesConfig):
    """Further machines, for actors; with provider.type=local as many as provider.worker_ips names."""

    key: ClassVar[str] = "cluster.actors"
    nodes: int = number(0, 0, 10_000)


@dataclass(frozen=True)
class RayUpConfig(Section):
    """Machines that `ray up` makes a cluster of."""

    key: ClassVar[str] = "cluster"
    kind: Literal["ray_up"] = "ray_up"
    provider: dict[str, Any] = field(default_factory=dict)
    """As `ray up` has it: {type: aws, region: us-west-2}, {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2]}."""
    auth: dict[str, Any] = field(default_factory=dict)
    """As `ray up` has it: {ssh_user: ubuntu, ssh_private_key: ~/.ssh/key}."""
    head: UpNodesConfig = field(default_factory=UpNodesConfig)
    actors: UpActorNodesConfig = field(default_factory=UpActorNodesConfig)
    name: str | None = None
    """Of the cluster; null: that of the run's folder. One that is up already under this name is used again."""
    image: str | None = None
    """With distdqn, in which everything runs there; null: without containers."""
    setup: tuple[str, ...] = ()
    """Lines of shell on each machine, once: how distdqn gets there, where no image has it."""
    python: str = "python3"
    """The interpreter there that has distdqn, and the same versions of Python and Ray as here."""
    folder: str = "~/distdqn"
    """Where the run's folder lies there, on the head."""
    shared: bool = False
    """All machines see that folder; false: each has its shards' journals on its own disk."""
    files: dict[str, Any] = field(default_factory=dict)
    """What is copied to each machine, as {PATH THERE: PATH HERE}: {~/.netrc: ~/.netrc} for Weights & Biases."""
    port: int = number(6379, 1024, 65535)
    """Of Ray's head."""
    start_s: int = number(900, 30)
    """Seconds that the other machines have to join the head."""
    options: dict[str, Any] = field(default_factory=dict)
    """Anything else of the file of `ray up`: {idle_timeout_minutes: 10}."""

    def check(self) -> None:
        if not isinstance(self.provider.get("type"), str):
            self.refuse("provider", "a mapping with a type, such as {type: aws, region: us-west-2}")
        if not self.auth.get("ssh_user"):
            self.refuse("auth", "a mapping with the user to log in as: {ssh_user: ubuntu}")
        if self.local:
            self._check_machines()
        elif not self.head.node_config or not (self.actors.node_config or not self.actors.nodes):
            self.refuse(f"{'actors' if self.head.node_config else 'head'}.node_config", "what the cloud is asked for")
        elif self.image is None and not self.setup:
            self.refuse("image", "an image with distdqn in it, unless cluster.setup says how distdqn gets there")
        if not _PROGRAM.fullmatch(self.python):
            self.refuse("python", "the path of an interpreter there")
        if not _FOLDER.fullmatch(self.folder):
            self.refuse("folder", "an absolute path there, or one that begins with ~, of letters, digits and ._-")
        if self.name is not None and not re.fullmatch(r"[a-z][a-z0-9-]{0,46}", self.name):
            self.refuse("name", "up to 47 lower-case letters, digits and dashes, a letter first")

    def _check_machines(self) -> None:
        head, others = self.provider.get("head_ip"), self.provider.get("worker_ips", ())
        if not isinstance(others, (list, tuple)):
            raise ConfigError(f"cluster.provider.worker_ips={others}: must be a list of addresses")
        for name, address in (("head_ip", head), *(("worker_ips", other) for other in others)):
            try:
                ipaddress.IPv4Address(address)
            except ValueError:
                raise ConfigError(f"cluster.provider.{name}={address}: must be an address, such as 10.0.0.1") from None
        if self.actors.nodes not in (0, len(others)):
            self.wrong("actors.nodes", f"cluster.provider.worker_ips names {len(others)}")

    @property
    def local(self) -> bool:
        """Whether the machines are there already, and only Ray is started on them."""
        return bool(self.provider["type"] == "local")

    @property
    def others(self) -> int:
        """Machines beside the head."""
        return len(self.provider.get("worker_ips", ())) if self.local else self.actors.nodes

    @property
    def machines(self) -> int:
        """Machines in all."""
        return 1 + self.others

    @property
    def cpus(self) -> int:
        """Cores of all machines."""
        return self.head.cpus + self.others * self.actors.cpus

    @property
    def gpus(self) -> int:
        """GPUs of all machines."""
        return self.head.gpus + self.others * self.actors.gpus


@dataclass(frozen=True)
class RayJobConfig(Section):
    """A Ray cluster that is there, to which the run is given as a job."""

    key: ClassVar[str] = "cluster"
    kind: Literal["ray_job"] = "ray_job"
    address: str | None = None
    """Of its dashboard: http://HEAD:8265."""
    cpus: int | None = number(None, 1)
    """Cores that the run uses; null: all that the cluster has, which is asked."""
    gpus: int = number(0, 0)
    """GPUs there; with one, the learner is on a machine that has it."""
    python: str = "python"
    """The interpreter there that has distdqn."""
    folder: str | None = None
    """Where relative run_dirs lie there, on a disk that its machines share; null: that of the same path as here."""
    runtime_env: dict[str, Any] = field(default_factory=dict)
    """As Ray has it: {working_dir: ., env_vars: {NAME: value}}."""

    def check(self) -> None:
        if not re.fullmatch(r"https?://[^\s/]+/?", self.address or ""):
            self.refuse("address", "that of the cluster's dashboard, such as http://HEAD:8265")
        if self.folder is not None and not self.folder.startswith("/"):
            self.refuse("folder", "an absolute path there")
        variables = self.runtime_env.get("env_vars") or {}
        if isinstance(variables, dict):
            check_environment(self, "runtime_env", variables, "set it where the cluster is started")
