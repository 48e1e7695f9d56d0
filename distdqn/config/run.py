"""The run, and every part of it that is neither agent nor learner."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from distdqn.config.agent import AgentConfig
from distdqn.config.learner import LearnerConfig
from distdqn.config.section import NO_KEY, ConfigError, Import, Section, number


@dataclass(frozen=True)
class ProtocolConfig(Section):
    """How an Atari game is played and scored (Mnih et al. 2015; Machado et al. 2018)."""

    key: ClassVar[str] = "env.protocol"
    name: str = "classic"
    sticky: float = number(0.0, 0, 1)
    """Probability that the emulator repeats the previous action."""
    full_action_set: bool = False
    life_loss_terminates: bool = True
    """A lost life ends the training episode (the game goes on)."""
    noop_max: int = number(30, 0, 1000)
    max_frames: int = number(108_000, 1)
    """Emulator frames after which a game is truncated."""


@dataclass(frozen=True)
class EnvConfig(Section):
    """Which environment, and how its observations are made."""

    key: ClassVar[str] = "env"
    kind: Literal["atari", "gym", "gridworld", "catch", "recall", "chain"] | Import = "atari"
    game: str = "pong"
    """Atari: snake_case ROM id."""
    id: str = "CartPole-v1"
    """Gymnasium: environment id, also `module:id`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to `gymnasium.make`, or to a class of one's own."""
    frame_size: int | None = number(84, 10, 512)
    """Side of the square that images are resized to; null keeps the environment's own size."""
    grayscale: bool = False
    """Gymnasium: colour images become grey; else they keep their channels. Atari's always are."""
    stack: int = number(4, 1, 32)
    frame_skip: int = number(4, 1, 32)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    size: int = number(5, 2, 50)
    """Gridworld: side of the square grid."""
    slip: float = number(0.1, 0, 1)
    """Gridworld: probability that a move goes in a random direction."""
    length: int = number(10, 2, 10_000)
    """Recall: steps between the cue and the question. Chain: states."""
    flicker: float = number(0.0, 0, 1)
    """Probability that a frame is blank (Hausknecht and Stone 2015)."""
    hide: tuple[int, ...] = ()
    """Components of a vector observation that the agent does not see; CartPole's velocities are 1 and 3."""


def played(env: Any) -> str:
    """What is played, in a word, by an `EnvConfig` or by one that is being composed."""
    name = {"atari": env.game, "gym": env.id}.get(env.kind, env.kind)
    return str(name).rpartition(":")[2].replace("/", "-")


@dataclass(frozen=True)
class ActorsConfig(Section):
    """Who plays."""

    key: ClassVar[str] = "actors"
    count: int | Literal["auto"] = number(2, 1, 100_000)
    """auto: as many as there are cores for, on a cluster at any time: machines that join get some, those that go are
    not waited for."""
    min: int = number(1, 1, 100_000)
    """With count=auto so many at the least, for which room is waited for."""
    max: int = number(1024, 1, 100_000)
    """With count=auto so many at the most, each with a place on the exploration ladder."""
    autoscale: bool = False
    """With count=auto: Ray's autoscaler is asked for machines when the learner starves, and to take some back when the
    actors wait."""
    envs_per_actor: int = number(8, 1, 4096)
    rollout_steps: int = number(64, 1, 4096)
    """Window starts in a segment, and steps of each slot in a rollout. Where nothing is said, more if the agent's
    windows need it."""
    threads: int = number(1, 1, 256)
    """Emulator and inference threads of an actor."""
    in_flight: int = number(2, 1, 16)
    """Rollouts asked of an actor ahead of time."""
    timeout_s: float = number(60.0, above=0)
    """A rollout that takes longer than this (per call in flight) means a hung emulator: the actor is replaced."""

    def check(self) -> None:
        if self.min > self.max:
            self.refuse("min", f"at most actors.max={self.max}")

    @property
    def least(self) -> int:
        """The least actors that there have to be."""
        return self.min if self.count == "auto" else self.count

    @property
    def places(self) -> int:
        """The most actors that there can be."""
        return self.max if self.count == "auto" else self.count


@dataclass(frozen=True)
class ReplayConfig(Section):
    """Where experience is kept and how it is drawn."""

    key: ClassVar[str] = "replay"
    kind: Literal["prioritized", "uniform"] = "prioritized"
    shards: int = number(1, 1, 4096)
    shards_per_draw: int = number(16, 1, 4096)
    """Shards that one draw asks at the most. Of more shards, so many are drawn by their sampling mass each time."""
    capacity: int = number(1_000_000, 1)
    """Transitions, whole system."""
    min_size: int = number(50_000, 1)
    """Transitions stored before learning starts."""
    alpha: float = number(0.6, 0, 1)
    beta: float = number(0.4, 0, 1)
    beta_final: float = number(0.4, 0, 1)
    """beta moves in a straight line from `beta` to this over the budget."""
    pack: bool = True
    """Segments travel compressed."""
    journal: bool = True
    """Shards write down what they are given: a killed one loses nothing, a resumed run has its replay again."""
    journal_dir: str | None = None
    """A folder on every machine for the journals, such as a scratch disk; null: the run's folder."""


@dataclass(frozen=True)
class BudgetConfig(Section):
    """When a run is done: whichever comes first."""

    key: ClassVar[str] = "budget"
    env_frames: int | None = number(200_000_000, 1)
    seconds: float | None = number(None, above=0)
    updates: int | None = number(None, 1)

    def check(self) -> None:
        if self.env_frames is None and self.seconds is None and self.updates is None:
            raise ConfigError("budget: one of budget.env_frames, budget.seconds, budget.updates must be set")


@dataclass(frozen=True)
class EngineConfig(Section):
    """Where the components run."""

    key: ClassVar[str] = "engine"
    kind: Literal["ray", "local"] = "ray"
    lockstep: bool = False
    """One fixed order of calls, so that both engines and two runs of a seed give the same bits on a CPU."""
    address: str | None = None
    """Ray cluster to join; null starts one that ends with the run. Where nobody says anything, a job of a cluster joins
    that one (auto)."""
    unauthenticated: bool = False
    """Join a cluster that asks for no token: whoever reaches it can run code in it, and in what runs on it."""
    nodes: int | None = number(None, 1)
    """Machines of that cluster that are used at most: this one, then those with a GPU; null: all."""
    timeout_s: float = number(120.0, above=0)
    """A shard, learner or evaluator that gives no answer for this long is replaced."""


@dataclass(frozen=True)
class EvaluationConfig(Section):
    """Games played without exploration and without being trained on."""

    key: ClassVar[str] = "evaluation"
    every_seconds: float | None = number(300.0, above=0)
    episodes: int = number(5, 1, 10_000)
    final_episodes: int = number(30, 0, 10_000)
    epsilon: float = number(0.001, 0, 1)
    max_frames: int = number(108_000, 1)
    """Emulator frames after which a game is cut and counted as it stands."""
    envs: int = number(5, 1, 1024)
    threads: int = number(1, 1, 256)
    video: bool = True


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """When the run is saved, and how many saves are kept beside the best."""

    key: ClassVar[str] = "checkpoint"
    every_seconds: float = number(30.0, above=0)
    keep: int = number(3, 1, 1000)


@dataclass(frozen=True)
class TrackConfig(Section):
    """Weights & Biases: one run there for each run here, whose only writer is the driver."""

    key: ClassVar[str] = "track"
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where there is a login, else off. `track=offline` is short for `track.mode=offline`."""
    group: str = ""
    """Runs that belong together, as those of a sweep or of a scaling experiment; empty: those of one name,
    in a sweep all of it."""
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    artifacts: bool = False
    """The best checkpoint of a run that is done goes there, too."""

    def check(self) -> None:
        for name, texts in (("group", [self.group or "-"]), ("job_type", [self.job_type]), ("tags", self.tags)):
            if not all(0 < len(text.strip()) <= 64 or "${" in text for text in texts):
                self.refuse(name, "texts of 1 to 64 characters" if name == "tags" else "1 to 64 characters")


@dataclass(frozen=True)
class RunConfig(Section):
    """Everything about a run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    actors: ActorsConfig = field(default_factory=ActorsConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    name: str = "run"
    note: str = ""
    """One line for the screen: what this form of the experiment is."""
    seed: int = number(1, 0, 2**31 - 1)
    run_dir: str = "runs/run"
    log_every_seconds: float = number(5.0, above=0)
    tensorboard: bool = True
    screen: Literal["auto", "live", "lines", "off"] = "auto"
    metrics_port: int | None = number(None, 0, 65535)
    """Port on which Prometheus finds the newest metrics, at /metrics; 0: any that is free; null: none."""
    metrics_host: str = "127.0.0.1"
    """Address that it listens on: as it is, this machine alone; 0.0.0.0: whoever reaches it may read."""
    track: TrackConfig = field(default_factory=TrackConfig)
    typed: dict[str, Any] = field(default_factory=dict, compare=False, repr=False, metadata=NO_KEY)
    """Nested as the keys are: what was typed, as `${oc.env:NAME}`, of values that came out of the environment."""
    named_by_chance: bool = field(default=False, compare=False, repr=False, metadata=NO_KEY)
    """Nobody asked for this `run_dir`, so that another is as good."""

    def check(self) -> None:
        if not self.run_dir.strip():
            self.refuse("run_dir", "a folder's path")
        if not self.metrics_host.strip():
            self.refuse("metrics_host", "an address or a host's name")
        self._check_windows()
        segment, replay = self.actors.rollout_steps, self.replay
        per_shard = replay.capacity // replay.shards
        if per_shard < segment:
            room = f"room for one segment of actors.rollout_steps={segment}"
            self.wrong("replay.capacity", f"must give each of replay.shards={replay.shards} {room}")
        if self.learner.batch_size > replay.capacity:
            self.refuse("learner.batch_size", f"at most replay.capacity={replay.capacity}")
        whole = per_shard // segment * segment * replay.shards
        if replay.min_size > whole // 2:
            held = f"transitions that replay.capacity={replay.capacity} holds in whole segments"
            self.refuse("replay.min_size", f"at most half of the {whole} {held}")

        if self.engine.nodes is not None and self.engine.address is None:
            self.wrong("engine.nodes", "is for engine.address, the cluster of which so many machines are used")
        if self.actors.count == "auto" and self.engine.lockstep:
            self.wrong("actors.count", "with engine.lockstep a number, since what is learned would depend on it")

    def _check_windows(self) -> None:
        segment, agent = self.actors.rollout_steps, self.agent
        if agent.window > segment:
            name = "agent.sequence.length" if agent.sequence.length > 1 else "agent.n_step"
            fit = f"must fit into a segment, at most actors.rollout_steps={segment}"
            self.wrong(name, f"a window of {agent.window} steps {fit}")
        first, second, third = map(agent.shown, ("returns", "sequence.length", "network.memory.kind"))
        why = f"is for single transitions, but {first}, {second} and {third} need more"
        if self.learner.augment.kind != "none" and not agent.transitions:
            self.wrong("learner.augment.kind", why)
        if self.learner.compile == "on" and not agent.transitions:
            self.wrong("learner.compile", why)
        if segment % agent.sequence.stride:
            stride = f"agent.sequence.length - agent.sequence.overlap = {agent.sequence.stride}"
            self.refuse("actors.rollout_steps", f"a multiple of {stride}")

    @property
    def slots(self) -> int:
        """Environment slots of the whole system."""
        return self.actors.places * self.actors.envs_per_actor

    @property
    def other_cpus(self) -> int:
        """Logical CPUs that all components but the actors ask for together."""
        return self.replay.shards + self.learner.threads + self.evaluation.threads

    def on(self, cores: int) -> "RunConfig":
        """With as many actors as `cores` of one machine are enough for, where their number is open and there is no
        cluster of which it could depend."""
        actors = self.actors
        if actors.count != "auto" or self.engine.address is not None:
            return self
        count = min(max((cores - self.other_cpus) // actors.threads, actors.min), actors.max)
        return replace(self, actors=replace(actors, count=count))
