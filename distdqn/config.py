"""What a run is made of: one frozen dataclass per component, checked on construction.

Every field states what it may be; a value outside raises `ConfigError`, whose one line names the key and what
is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from distdqn.agent_config import AgentConfig, BonusConfig, ExplorationConfig, NetworkConfig, SequenceConfig
from distdqn.section import ConfigError, Section, choice, from_mapping, number, to_mapping

__all__ = [
    "AgentConfig",
    "BonusConfig",
    "ConfigError",
    "ExplorationConfig",
    "NetworkConfig",
    "RunConfig",
    "SequenceConfig",
    "from_mapping",
    "to_mapping",
]


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
    kind: str = choice("atari", "atari", "gym", "gridworld", "catch", "recall", "chain")
    game: str = "pong"
    """Atari: snake_case ROM id."""
    id: str = "CartPole-v1"
    """Gymnasium: environment id, also `module:id`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Gymnasium: passed to `gymnasium.make`."""
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


@dataclass(frozen=True)
class ActorsConfig(Section):
    """Who plays."""

    key: ClassVar[str] = "actors"
    count: int = number(2, 1, 100_000)
    envs_per_actor: int = number(8, 1, 4096)
    rollout_steps: int = number(64, 1, 4096)
    """Window starts in a segment, and steps of each slot in a rollout."""
    threads: int = number(1, 1, 256)
    """Emulator and inference threads of an actor."""
    in_flight: int = number(2, 1, 16)
    """Rollouts asked of an actor ahead of time."""
    timeout_s: float = number(60.0, above=0)
    """A rollout that takes longer than this (per call in flight) means a hung emulator: the actor is replaced."""


@dataclass(frozen=True)
class ReplayConfig(Section):
    """Where experience is kept and how it is drawn."""

    key: ClassVar[str] = "replay"
    kind: str = choice("prioritized", "prioritized", "uniform")
    shards: int = number(1, 1, 4096)
    capacity: int = number(1_000_000, 1)
    """Transitions, whole system."""
    min_size: int = number(50_000, 1)
    """Transitions stored before learning starts."""
    alpha: float = number(0.6, 0, 1)
    beta: float = number(0.4, 0, 1)
    beta_final: float = number(0.4, 0, 1)
    """beta moves in a straight line from `beta` to this over the budget."""


@dataclass(frozen=True)
class LearnerConfig(Section):
    """How the Q-network is updated."""

    key: ClassVar[str] = "learner"
    device: str = "auto"
    batch_size: int = number(512, 1, 1_000_000)
    samples_per_insert: float = number(8.0, above=0)
    """Windows sampled for each transition stored."""
    updates_per_call: int = number(4, 1, 1000)
    """Gradient steps that one call feeds."""
    in_flight: int = number(2, 1, 16)
    """Calls asked of the learner ahead of time."""
    optimizer: str = choice("adam", "adam", "adamw", "rmsprop", "sgd")
    step_size: float = number(1e-4, above=0)
    schedule: str = choice("constant", "constant", "linear", "cosine", "inverse")
    """Step size over the budget: constant, to zero in a line or a half cosine, or as 1/(1 + decay k)."""
    schedule_decay: float = number(0.0, 0)
    adam_epsilon: float = number(1.5e-4, above=0)
    rmsprop_decay: float = number(0.95, 0, 1)
    rmsprop_epsilon: float = number(0.01, above=0)
    rmsprop_centered: bool = True
    momentum: float = number(0.0, 0, 1)
    """SGD, and RMSProp that is not centered."""
    weight_decay: float = number(0.0, 0)
    """AdamW: decoupled, of weights alone."""
    l1: float = number(0.0, 0)
    """Penalties l1 sum |w| + l2 sum w^2 of the weights; biases and normalization are left alone."""
    l2: float = number(0.0, 0)
    max_grad_norm: float | None = number(40.0, above=0)
    max_grad_value: float | None = number(None, above=0)
    """Each component of the gradient is clipped to this, before its norm is."""
    augment: str = choice("none", "none", "shift", "intensity", "both")
    """Random shifts and intensities of the images in an update (Yarats et al. 2021, DrQ)."""
    augment_pixels: int = number(4, 1, 64)
    augment_intensity: float = number(0.05, above=0)
    online_views: int = number(1, 1, 16)
    """Augmented views of each observation that the loss is averaged over (M), and of each bootstrap observation
    that the target is averaged over (K)."""
    target_views: int = number(1, 1, 16)
    reset_period: int | None = number(None, 1)
    """Gradient steps between resets: the torso is shrunk and perturbed, the rest starts anew (D'Oro et al. 2023;
    Schwarzer et al. 2023, BBF); null never resets."""
    reset_keep: float = number(0.5, 0, 1)
    """Share of the torso's old weights that a reset keeps."""
    target: str = choice("period", "period", "polyak")
    target_period: int = number(2500, 1)
    target_tau: float = number(0.005, above=0)
    publish_period: int = number(8, 1)
    """Gradient steps between two versions of the weights for the actors."""
    threads: int = number(1, 1, 256)
    """CPU threads. With two or more, a CPU learner that learns from transitions and updates its target by period has
    one of them compute the next minibatch's target values meanwhile; with two, gradients of weights too (`compile`)."""
    compile: str = choice("auto", "auto", "on", "off")
    """torch.compile of the loss: `auto` does it for pixels on the CPU, unless there are two threads and no noisy or
    spectrally normalized layers: sharing the backward pass gained more with the 2015 network, and excludes it."""
    bf16: str = choice("off", "auto", "on", "off")
    """bfloat16 autocast of the torso, faster and less exact. `auto`: for pixels, where the device computes in it."""
    max_bad_updates: int = number(10, 1)
    """Updates in a row whose loss is not finite before the run stops."""

    def check(self) -> None:
        if self.augment == "none" and (self.online_views, self.target_views) != (1, 1):
            self.refuse("augment", "shift, intensity or both where online_views or target_views is not 1")
        if self.weight_decay and self.optimizer != "adamw":
            raise ConfigError(
                f"learner.weight_decay={self.weight_decay}: is for learner.optimizer=adamw, not "
                f"{self.optimizer}; learner.l2 is for any"
            )
        without = self.optimizer in ("adam", "adamw") or (self.optimizer == "rmsprop" and self.rmsprop_centered)
        if self.momentum and without:
            raise ConfigError(
                f"learner.momentum={self.momentum}: is for learner.optimizer=sgd, or rmsprop with "
                f"learner.rmsprop_centered=false, not {self.optimizer}"
            )
        head, _, index = self.device.partition(":")
        if head not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
            self.refuse("device", "one of auto, cpu, cuda, cuda:N")


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
    kind: str = choice("ray", "ray", "local")
    lockstep: bool = False
    """One fixed order of calls, so that both engines and two runs of a seed give the same bits on a CPU."""
    address: str | None = None
    """Ray cluster to join; null starts one that ends with the run."""


@dataclass(frozen=True)
class EvaluationConfig(Section):
    """Games played without exploration and without being trained on."""

    key: ClassVar[str] = "evaluation"
    every_seconds: float | None = number(300.0, above=0)
    episodes: int = number(5, 1, 10_000)
    final_episodes: int = number(30, 0, 10_000)
    epsilon: float = number(0.001, 0, 1)
    envs: int = number(5, 1, 1024)
    threads: int = number(1, 1, 256)
    video: bool = True


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """When the run is saved, and how many saves are kept beside the best."""

    key: ClassVar[str] = "checkpoint"
    every_seconds: float = number(120.0, above=0)
    keep: int = number(3, 1, 1000)


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
    screen: str = choice("auto", "auto", "live", "lines", "off")
    track: str | None = choice(None, None, "online", "offline", "disabled")
    """Weights & Biases mode; null means online where there is a login, else off."""

    def check(self) -> None:
        if not self.run_dir.strip():
            self.refuse("run_dir", "a folder's path")
        self._check_windows()
        segment = self.actors.rollout_steps
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

    def _check_windows(self) -> None:
        segment, agent = self.actors.rollout_steps, self.agent
        if agent.window > segment:
            key = f"agent.n_step={agent.n_step}"
            if agent.sequence.length > 1:
                key = f"agent.sequence.length={agent.sequence.length}"
            raise ConfigError(
                f"{key}: a window of {agent.window} steps must fit into a segment, at most "
                f"actors.rollout_steps={segment}"
            )
        if self.learner.augment != "none" and not agent.transitions:
            raise ConfigError(
                f"learner.augment={self.learner.augment}: is for single transitions, but agent.sequence.length="
                f"{agent.sequence.length}, agent.network.memory={agent.network.memory} and agent.returns="
                f"{agent.returns} need more"
            )
        if segment % agent.sequence.stride:
            raise ConfigError(
                f"actors.rollout_steps={segment}: must be a multiple of agent.sequence.length - "
                f"agent.sequence.overlap = {agent.sequence.stride}"
            )

    @property
    def slots(self) -> int:
        """Environment slots of the whole system."""
        return self.actors.count * self.actors.envs_per_actor
