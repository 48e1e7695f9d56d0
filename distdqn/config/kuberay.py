"""The keys of a Kubernetes cluster with KubeRay's operator."""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from distdqn.config.section import ConfigError, Section, number

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"[a-z0-9.-]+/[A-Za-z0-9._-]+")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTP]i?|k)?")
_UNITS = {None: 1, "k": 10**3} | {u: 10 ** (3 * (i + 1)) for i, u in enumerate("KMGTP")}
_UNITS |= {f"{u}i": 1024 ** (i + 1) for i, u in enumerate("KMGTP")}
_OURS = ("containers", "volumes", "nodeSelector", "tolerations", "terminationGracePeriodSeconds", "restartPolicy")
_CONFIDENTIAL = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


def check_environment(section: Section, name: str, values: dict[str, Any], instead: str) -> None:
    """Refuses what is no variable, and values that a rendered text, which people pass on, must not show."""
    for variable in values:
        if not _VARIABLE.fullmatch(str(variable)):
            section.wrong(name, f"{variable} is not the name of a variable")
        if _CONFIDENTIAL.search(str(variable)):
            why = "a secret's value would be in the text of the job"
            raise ConfigError(f"{section.key}.{name}.{variable}: {why}, {instead}")


@dataclass(frozen=True)
class HeadConfig(Section):
    """The pod of Ray's head, which has the driver too, and the learner where no other pod has a GPU."""

    key: ClassVar[str] = "cluster.head"
    cpus: int = number(8, 1, 4096)
    """Cores of each pod, all of which the run uses."""
    memory: str = "32Gi"
    """Of each pod, requested and the limit; shared memory is part of it."""
    gpus: int = number(0, 0, 64)
    gpu: str = "nvidia.com/gpu"
    """What Kubernetes calls these GPUs."""
    node_selector: dict[str, Any] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    pod: dict[str, Any] = field(default_factory=dict)
    """Anything else of a pod's spec, as Kubernetes has it: {priorityClassName: high}."""

    def check(self) -> None:
        if not self.bytes:
            self.refuse("memory", "a quantity of Kubernetes, such as 32Gi")
        if ours := [name for name in self.pod if name in _OURS]:
            self.wrong("pod", f"{ours[0]} is the launcher's")

    @property
    def bytes(self) -> int:
        """Memory of each pod; 0 where it is no quantity."""
        found = _QUANTITY.fullmatch(self.memory)
        return int(float(found[1]) * _UNITS[found[2]]) if found else 0


@dataclass(frozen=True)
class ActorPodsConfig(HeadConfig):
    """Further pods, for actors; none where `pods` is 0."""

    key: ClassVar[str] = "cluster.actors"
    pods: int = number(0, 0, 10_000)
    memory: str = "16Gi"


@dataclass(frozen=True)
class LearnerPodConfig(HeadConfig):
    """A pod of its own for the learner, so that the head needs no GPU; none where `pods` is 0."""

    key: ClassVar[str] = "cluster.learner"
    pods: int = number(0, 0, 1)
    gpus: int = number(1, 1, 64)


@dataclass(frozen=True)
class VolumeConfig(Section):
    """Where runs are kept."""

    key: ClassVar[str] = "cluster.runs"
    claim: str | None = None
    """Name of the PersistentVolumeClaim."""
    path: str = "/data"
    """Where pods see it; a relative run_dir lies below."""
    shared: bool = True
    """All pods may mount it (ReadWriteMany); false: only the head does, and a shard's journal goes with its pod."""

    def check(self) -> None:
        if not self.path.startswith("/"):
            self.refuse("path", "an absolute path")


@dataclass(frozen=True)
class KubeRayConfig(Section):
    """A Kubernetes cluster with KubeRay's operator."""

    key: ClassVar[str] = "cluster"
    kind: Literal["kuberay"] = "kuberay"
    image: str | None = None
    """With distdqn, and the same versions of Python and Ray as here: launch/Dockerfile."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    python: str = "python"
    """The interpreter in that image."""
    name: str | None = None
    """Of the job; null: that of the run's folder."""
    namespace: str | None = None
    runs: VolumeConfig = field(default_factory=VolumeConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    learner: LearnerPodConfig = field(default_factory=LearnerPodConfig)
    actors: ActorPodsConfig = field(default_factory=ActorPodsConfig)
    env: dict[str, Any] = field(default_factory=dict)
    """Variables of all pods."""
    secrets: dict[str, Any] = field(default_factory=dict)
    """Variables of the head's pod, out of Secrets: {WANDB_API_KEY: wandb/api-key}, as NAME/KEY."""
    queue: str | None = None
    """Kueue's LocalQueue; the job is suspended until it admits it."""
    suspend: bool = False
    """The job is made, and waits until somebody sets this to false."""
    retries: int = number(10, 0, 1000)
    """How often a job that has failed, or lost its head, goes on in a new cluster."""
    time_s: int | None = number(None, 60)
    """Limit of the job with all its retries; it ends then, and can be launched again."""
    ttl_s: int = number(300, 0)
    """Seconds for which the pods stay when the job has ended."""
    stop_s: int = number(40, 15, 3600)
    """Seconds that a run has to save when its pods are to go."""
    start_s: int = number(900, 30)
    """Seconds that the other pods have to join the head."""

    def check(self) -> None:
        if not self.image:
            self.refuse("image", "an image with distdqn in it, see launch/Dockerfile")
        if not self.runs.claim or not _NAME.fullmatch(self.runs.claim):
            self.refuse("runs.claim", "the name of a PersistentVolumeClaim: without one, a run is lost with its pods")
        if self.namespace is not None and not _NAME.fullmatch(self.namespace):
            self.refuse("namespace", "the name of a namespace")
        if self.name is not None and not re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", self.name):
            self.refuse("name", "up to 47 lower-case letters, digits and dashes, a letter first")
        check_environment(self, "env", self.env, "name it: cluster.secrets={VARIABLE: SECRET/KEY}")
        for variable, source in self.secrets.items():
            if not _VARIABLE.fullmatch(str(variable)) or not _SECRET.fullmatch(str(source)):
                self.wrong("secrets", f"{variable} must be a variable, and come from SECRET/KEY")

    @property
    def groups(self) -> dict[str, LearnerPodConfig | ActorPodsConfig]:
        """Pods beside the head, by what they are for."""
        kinds: dict[str, LearnerPodConfig | ActorPodsConfig] = {"learner": self.learner, "actors": self.actors}
        return {name: group for name, group in kinds.items() if group.pods}

    @property
    def machines(self) -> int:
        """Pods in all."""
        return 1 + sum(group.pods for group in self.groups.values())

    @property
    def cpus(self) -> int:
        """Cores of all pods."""
        return self.head.cpus + sum(group.pods * group.cpus for group in self.groups.values())

    @property
    def gpus(self) -> int:
        """GPUs of all pods."""
        return self.head.gpus + sum(group.pods * group.gpus for group in self.groups.values())

    @property
    def bytes(self) -> int:
        """Memory of all pods."""
        return self.head.bytes + sum(group.pods * group.bytes for group in self.groups.values())
