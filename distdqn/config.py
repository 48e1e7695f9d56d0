"""What a run is made of: one frozen dataclass per component, checked on construction.

Every field states what it may be; a value outside raises `ConfigError`, whose one line names the key and what
is allowed. Nothing here imports more than the standard library, so a bad key costs no time to find.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar


class ConfigError(ValueError):
    """A setting that cannot be; the message is one line that names the key and what it may be."""


def _number(default: Any, low: float | None = None, high: float | None = None, above: float | None = None) -> Any:
    """A field that holds a number in [low, high], or above `above`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


def _choice(default: Any, *allowed: Any) -> Any:
    """A field that holds one of `allowed`."""
    return field(default=default, metadata={"allowed": allowed})


def _describe(kind: Any, meta: Mapping[str, Any]) -> str:
    if allowed := meta.get("allowed"):
        return "one of " + ", ".join("null" if a is None else str(a) for a in allowed)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    optional = type(None) in typing.get_args(kind)
    base = next((a for a in typing.get_args(kind) if a is not type(None)), kind) if optional else kind
    text = names.get(base, "a list of whole numbers" if typing.get_origin(base) is tuple else "a mapping")
    low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
    if low is not None and high is not None:
        text += f" from {low} to {high}"
    elif low is not None:
        text += f" of at least {low}"
    elif above is not None:
        text += f" above {above}"
    return text + (" or null" if optional else "")


def _fits(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    if origin is dict:
        return isinstance(value, Mapping)
    return isinstance(value, kind)


@dataclass(frozen=True)
class _Section:
    """Checks each field's type and range by its annotation and metadata; `key` is the section's name."""

    key: ClassVar[str] = ""

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for f in fields(self):
            value, kind, meta = getattr(self, f.name), kinds[f.name], f.metadata
            ok = _fits(value, kind)
            if ok and value is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
                low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
                ok = math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
                ok = ok and (above is None or value > above)
            if not ok or ("allowed" in meta and value not in meta["allowed"]):
                self.refuse(f.name, _describe(kind, meta))
            if typing.get_origin(kind) is tuple:
                object.__setattr__(self, f.name, tuple(value))
        self.check()

    def check(self) -> None:
        """Checks that cross fields; overridden where there are any."""

    def refuse(self, name: str, allowed: str) -> typing.NoReturn:
        """Raises the one-line error for field `name`."""
        shown = getattr(self, name)
        shown = "null" if shown is None else shown
        raise ConfigError(f"{self.key}.{name}={shown}: must be {allowed}".lstrip("."))


@dataclass(frozen=True)
class ProtocolConfig(_Section):
    """How an Atari game is played and scored (Mnih et al. 2015; Machado et al. 2018)."""

    key: ClassVar[str] = "env.protocol"
    name: str = "classic"
    sticky: float = _number(0.0, 0, 1)
    """Probability that the emulator repeats the previous action."""
    full_action_set: bool = False
    life_loss_terminates: bool = True
    """A lost life ends the training episode (the game goes on)."""
    noop_max: int = _number(30, 0, 1000)
    max_frames: int = _number(108_000, 1)
    """Emulator frames after which a game is truncated."""


@dataclass(frozen=True)
class EnvConfig(_Section):
    """Which environment, and how its observations are made."""

    key: ClassVar[str] = "env"
    kind: str = _choice("atari", "atari", "gym", "gridworld", "catch")
    game: str = "pong"
    """Atari: snake_case ROM id."""
    id: str = "CartPole-v1"
    """Gymnasium: environment id, also `module:id`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Gymnasium: passed to `gymnasium.make`."""
    frame_size: int | None = _number(84, 10, 512)
    """Side of the square grey image that pixels are resized to; null keeps the environment's own size."""
    stack: int = _number(4, 1, 32)
    frame_skip: int = _number(4, 1, 32)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    size: int = _number(5, 2, 50)
    """Gridworld: side of the square grid."""
    slip: float = _number(0.1, 0, 1)
    """Gridworld: probability that a move goes in a random direction."""


@dataclass(frozen=True)
class NetworkConfig(_Section):
    """torso -> memory -> head."""

    key: ClassVar[str] = "agent.network"
    torso: str = _choice("dqn_2015", "dqn_2015", "dqn_2013", "mlp", "tabular")
    hidden: tuple[int, ...] = (512,)
    """Widths of the fully connected layers after the torso's own (dueling: of each stream)."""
    memory: str = _choice("none", "none")
    head: str = _choice("scalar", "scalar")
    dueling: bool = False
    contrast: float = _number(0.0, 0)
    """0: pixels in [0, 1] as they are. Above: the mean frame, measured when learning starts, is subtracted and
    the difference multiplied by this, so that a small ball stands out against a bright background."""
    initialise: str = _choice("torch", "torch", "xavier", "he", "orthogonal", "zeros")

    def check(self) -> None:
        if any(h < 1 for h in self.hidden):
            self.refuse("hidden", "a list of whole numbers of at least 1")


@dataclass(frozen=True)
class ExplorationConfig(_Section):
    """epsilon-greedy: the Ape-X ladder over all slots of all actors, or one epsilon annealed over agent steps."""

    key: ClassVar[str] = "agent.exploration"
    kind: str = _choice("ladder", "ladder", "annealed")
    epsilon: float = _number(0.4, 0, 1)
    """Ladder: the base epsilon. Annealed: the first epsilon."""
    alpha: float = _number(7.0, 0)
    final_epsilon: float = _number(0.1, 0, 1)
    anneal_steps: int = _number(1_000_000, 1)


@dataclass(frozen=True)
class AgentConfig(_Section):
    """What is learned and how actions are chosen."""

    key: ClassVar[str] = "agent"
    name: str = "dqn"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    discount: float = _number(0.99, 0, 1)
    n_step: int = _number(3, 1, 100)
    bootstrap: str = _choice("double", "max", "double")
    loss: str = _choice("huber", "huber", "squared")
    reward: str = _choice("clip", "clip", "none")
    """Reward transform on the learner: clipped to +-1, or as it is."""


@dataclass(frozen=True)
class ActorsConfig(_Section):
    """Who plays."""

    key: ClassVar[str] = "actors"
    count: int = _number(2, 1, 100_000)
    envs_per_actor: int = _number(8, 1, 4096)
    rollout_steps: int = _number(64, 1, 4096)
    """Window starts in a segment, and steps of each slot in a rollout."""
    threads: int = _number(1, 1, 256)
    """Emulator and inference threads of an actor."""
    in_flight: int = _number(2, 1, 16)
    """Rollouts asked of an actor ahead of time."""
    timeout_s: float = _number(60.0, above=0)
    """A rollout that takes longer than this (per call in flight) means a hung emulator: the actor is replaced."""


@dataclass(frozen=True)
class ReplayConfig(_Section):
    """Where experience is kept and how it is drawn."""

    key: ClassVar[str] = "replay"
    kind: str = _choice("prioritized", "prioritized", "uniform")
    shards: int = _number(1, 1, 4096)
    capacity: int = _number(1_000_000, 1)
    """Transitions, whole system."""
    min_size: int = _number(50_000, 1)
    """Transitions stored before learning starts."""
    alpha: float = _number(0.6, 0, 1)
    beta: float = _number(0.4, 0, 1)
    beta_final: float = _number(0.4, 0, 1)
    """beta moves in a straight line from `beta` to this over the budget."""


@dataclass(frozen=True)
class LearnerConfig(_Section):
    """How the Q-network is updated."""

    key: ClassVar[str] = "learner"
    device: str = "auto"
    batch_size: int = _number(512, 1, 1_000_000)
    samples_per_insert: float = _number(8.0, above=0)
    """Windows sampled for each transition stored."""
    updates_per_call: int = _number(4, 1, 1000)
    """Gradient steps that one call feeds."""
    in_flight: int = _number(2, 1, 16)
    """Calls asked of the learner ahead of time."""
    optimiser: str = _choice("adam", "adam", "rmsprop", "sgd")
    step_size: float = _number(1e-4, above=0)
    schedule: str = _choice("constant", "constant", "linear", "cosine", "inverse")
    """Step size over the budget: constant, to zero in a line or a half cosine, or as 1/(1 + decay k)."""
    schedule_decay: float = _number(0.0, 0)
    adam_epsilon: float = _number(1.5e-4, above=0)
    rmsprop_decay: float = _number(0.95, 0, 1)
    rmsprop_epsilon: float = _number(0.01, above=0)
    momentum: float = _number(0.0, 0, 1)
    max_grad_norm: float | None = _number(40.0, above=0)
    target: str = _choice("period", "period", "polyak")
    target_period: int = _number(2500, 1)
    target_tau: float = _number(0.005, above=0)
    publish_period: int = _number(8, 1)
    """Gradient steps between two versions of the weights for the actors."""
    threads: int = _number(1, 1, 256)
    compile: str = _choice("auto", "auto", "on", "off")
    """torch.compile of the loss: `auto` does it for pixels on the CPU."""
    bf16: str = _choice("auto", "auto", "on", "off")
    """bfloat16 autocast of the torso: `auto` does it on CUDA where the observations are pixels."""
    max_bad_updates: int = _number(10, 1)
    """Updates in a row whose loss is not finite before the run stops."""

    def check(self) -> None:
        head, _, index = self.device.partition(":")
        if head not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
            self.refuse("device", "one of auto, cpu, cuda, cuda:N")


@dataclass(frozen=True)
class BudgetConfig(_Section):
    """When a run is done: whichever comes first."""

    key: ClassVar[str] = "budget"
    env_frames: int | None = _number(200_000_000, 1)
    seconds: float | None = _number(None, above=0)
    updates: int | None = _number(None, 1)

    def check(self) -> None:
        if self.env_frames is None and self.seconds is None and self.updates is None:
            raise ConfigError("budget: one of budget.env_frames, budget.seconds, budget.updates must be set")


@dataclass(frozen=True)
class EngineConfig(_Section):
    """Where the components run."""

    key: ClassVar[str] = "engine"
    kind: str = _choice("ray", "ray", "local")
    lockstep: bool = False
    """One fixed order of calls, so that both engines and two runs of a seed give the same bits on a CPU."""
    address: str | None = None
    """Ray cluster to join; null starts one that ends with the run."""


@dataclass(frozen=True)
class EvaluationConfig(_Section):
    """Games played without exploration and without being trained on."""

    key: ClassVar[str] = "evaluation"
    every_seconds: float | None = _number(300.0, above=0)
    episodes: int = _number(5, 1, 10_000)
    final_episodes: int = _number(30, 0, 10_000)
    epsilon: float = _number(0.001, 0, 1)
    envs: int = _number(5, 1, 1024)
    threads: int = _number(1, 1, 256)
    video: bool = True


@dataclass(frozen=True)
class CheckpointConfig(_Section):
    """When the run is saved, and how many saves are kept beside the best."""

    key: ClassVar[str] = "checkpoint"
    every_seconds: float = _number(120.0, above=0)
    keep: int = _number(3, 1, 1000)


@dataclass(frozen=True)
class RunConfig(_Section):
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
    seed: int = _number(1, 0, 2**31 - 1)
    run_dir: str = "runs/run"
    log_every_seconds: float = _number(5.0, above=0)
    tensorboard: bool = True
    screen: str = _choice("auto", "auto", "live", "lines", "off")
    track: str | None = _choice(None, None, "online", "offline", "disabled")
    """Weights & Biases mode; null means online where there is a login, else off."""

    def check(self) -> None:
        if not self.run_dir.strip():
            self.refuse("run_dir", "a folder's path")
        segment, window = self.actors.rollout_steps, self.agent.n_step
        if window > segment:
            raise ConfigError(
                f"agent.n_step={window}: a window must fit into a segment, at most actors.rollout_steps={segment}"
            )
        per_shard = self.replay.capacity // self.replay.shards
        if per_shard < segment:
            raise ConfigError(
                f"replay.capacity={self.replay.capacity}: must give each of replay.shards={self.replay.shards} "
                f"room for one segment of actors.rollout_steps={segment}"
            )
        if self.learner.batch_size > self.replay.capacity:
            raise ConfigError(
                f"learner.batch_size={self.learner.batch_size}: must be at most replay.capacity={self.replay.capacity}"
            )
        whole = per_shard // segment * segment * self.replay.shards
        if self.replay.min_size > whole // 2:
            raise ConfigError(
                f"replay.min_size={self.replay.min_size}: must be at most half of the {whole} transitions that "
                f"replay.capacity={self.replay.capacity} holds in whole segments"
            )

    @property
    def slots(self) -> int:
        """Environment slots of the whole system."""
        return self.actors.count * self.actors.envs_per_actor


C = TypeVar("C", bound=_Section)


def from_mapping(cls: type[C], values: Mapping[str, Any], key: str = "") -> C:
    """Builds `cls` from nested plain values; an unknown key raises `ConfigError` with the allowed names."""
    kinds = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    built: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{key}.{name}".lstrip(".")
        if name not in known:
            raise ConfigError(f"{path}: unknown key, allowed here: {', '.join(sorted(known))}")
        kind = kinds[name]
        if isinstance(kind, type) and issubclass(kind, _Section):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}={value}: must be a group of keys: {', '.join(f.name for f in fields(kind))}")
            value = from_mapping(kind, value, path)
        built[name] = value
    missing = [n for n, f in known.items() if n not in built and f.default is f.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{key}: missing {', '.join(missing)}")
    return cls(**built)


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested plain values of a config, as `from_mapping` takes them."""
    values: dict[str, Any] = dataclasses.asdict(config)
    return values
