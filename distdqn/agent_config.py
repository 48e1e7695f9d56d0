"""What is learned and how actions are chosen: the part of a run's config that describes the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from distdqn.section import ConfigError, Section, choice, number

CONVOLUTIONAL = ("dqn_2015", "dqn_2013", "small", "impala", "lenet")
"""Torsos that need images."""
QUANTILE_HEADS = ("quantile", "implicit_quantile")
TRACES = ("peng", "watkins", "retrace")
"""Returns that look at every action value of the window."""


@dataclass(frozen=True)
class NetworkConfig(Section):
    """torso -> memory -> head."""

    key: ClassVar[str] = "agent.network"
    torso: str = choice("dqn_2015", *CONVOLUTIONAL, "mlp", "tabular")
    width: int = number(1, 1, 64)
    """Multiplies the channels of a convolutional torso."""
    pool: int | None = number(None, 1, 64)
    """Side that a convolutional torso's last maps are max-pooled to (adaptive); null leaves them."""
    normalize: str = choice("none", "none", "batch", "layer", "spectral")
    """Of the torso's layers. Spectral: of the convolutions inside residual blocks, or of all where there are none."""
    dropout: float = number(0.0, 0, 0.99)
    """After each hidden fully connected layer, in updates only."""
    initialize: str = choice("fan_in", "fan_in", "xavier", "he", "orthogonal", "zeros")
    contrast: float = number(0.0, 0)
    """0: pixels in [0, 1] as they are. Above: the mean frame, measured when learning starts, is subtracted and
    the difference multiplied by this, so that a small ball stands out against a bright background."""
    memory: str = choice("none", "none", "rnn", "gru", "lstm", "transformer")
    memory_size: int = number(512, 1, 8192)
    """Units of the memory (transformer: width of its tokens)."""
    memory_steps: int = number(16, 1, 512)
    """Transformer: how many of the latest steps it attends to, the present one included."""
    memory_layers: int = number(1, 1, 16)
    """Transformer: blocks on top of each other."""
    memory_heads: int = number(4, 1, 64)
    """Transformer: attention heads; must divide memory_size."""
    previous: bool = False
    """The previous action (one-hot) and reward are inputs beside the torso's features."""
    head: str = choice("scalar", "scalar", "categorical", *QUANTILE_HEADS)
    hidden: tuple[int, ...] = (512,)
    """Widths of the fully connected layers after the torso's own (dueling: of each stream)."""
    dueling: bool = False
    noisy: bool = False
    """The head's linear layers are noisy (Fortunato et al. 2018)."""
    noisy_sigma: float = number(0.5, above=0)
    atoms: int = number(51, 2, 10_000)
    """Categorical: points of the support from v_min to v_max."""
    v_min: float | None = None
    v_max: float | None = None
    quantiles: int = number(200, 1, 10_000)
    """Quantile: how many each action has."""
    online_quantiles: int = number(64, 1, 10_000)
    """Implicit quantile: drawn for each online value (N), each target value (N'), and used to act (K)."""
    target_quantiles: int = number(64, 1, 10_000)
    acting_quantiles: int = number(32, 1, 10_000)
    cosines: int = number(64, 1, 10_000)
    pretrained: str | None = None
    """File of torso weights that `distdqn pretrain` wrote; null starts from the initializer."""

    def check(self) -> None:
        if any(h < 1 for h in self.hidden):
            self.refuse("hidden", "a list of whole numbers of at least 1")
        low, high = self.v_min, self.v_max
        if self.head == "categorical" and (low is None or high is None or low >= high):
            raise ConfigError(
                f"agent.network.head=categorical: needs a range of values, agent.network.v_min={_null(low)} "
                f"below agent.network.v_max={_null(high)}"
            )
        if self.memory == "transformer" and self.memory_size % self.memory_heads:
            raise ConfigError(
                f"agent.network.memory_heads={self.memory_heads}: must divide "
                f"agent.network.memory_size={self.memory_size}"
            )
        if self.torso == "tabular" and (self.head != "scalar" or self.dueling or self.noisy):
            raise ConfigError(
                "agent.network.torso=tabular: a table has agent.network.head=scalar, neither dueling nor noisy"
            )
        if self.torso in ("mlp", "tabular"):
            for name in ("normalize", "width", "pool", "pretrained"):
                if getattr(self, name) not in ("none", 1, None):
                    raise ConfigError(
                        f"agent.network.{name}={getattr(self, name)}: is for convolutional torsos, but "
                        f"agent.network.torso={self.torso}"
                    )

    @property
    def recurrent(self) -> bool:
        """True where what the network gives depends on more than the observation."""
        return self.memory != "none" or self.previous


@dataclass(frozen=True)
class ExplorationConfig(Section):
    """How acting departs from the greedy action."""

    key: ClassVar[str] = "agent.exploration"
    kind: str = choice("ladder", "ladder", "annealed", "boltzmann", "greedy")
    """ladder: epsilon-greedy, Ape-X's ladder over all slots of all actors; annealed: one epsilon on a line over
    agent steps; boltzmann: softmax of Q / temperature; greedy: none, for noisy networks."""
    epsilon: float = number(0.4, 0, 1)
    """Ladder: the base epsilon. Annealed: the first epsilon."""
    alpha: float = number(7.0, 0)
    final_epsilon: float = number(0.1, 0, 1)
    temperature: float = number(1.0, above=0)
    """Boltzmann: the first temperature, in units of Q."""
    final_temperature: float = number(0.1, above=0)
    anneal_steps: int = number(1_000_000, 1)
    """Agent steps over which epsilon or the temperature moves to its final value."""


@dataclass(frozen=True)
class SequenceConfig(Section):
    """Windows for agents that remember: burn-in steps without a loss, then loss positions."""

    key: ClassVar[str] = "agent.sequence"
    length: int = number(1, 1, 4096)
    """Loss positions of a window; 1 is a transition."""
    burn_in: int = number(0, 0, 4096)
    """Steps before them, which only bring the memory up to date."""
    overlap: int = number(0, 0, 4095)
    """Loss positions that a window shares with the next one of its slot."""
    start: str = choice("stored", "stored", "zero")
    """Memory at a window's start: as it was when acting (Kapturowski et al. 2019), or zero
    (Hausknecht and Stone 2015)."""
    eta: float = number(0.9, 0, 1)
    """Priority of a window: eta max |TD| + (1 - eta) mean |TD|."""

    def check(self) -> None:
        if self.overlap >= self.length:
            raise ConfigError(
                f"agent.sequence.overlap={self.overlap}: must be below agent.sequence.length={self.length}"
            )

    @property
    def stride(self) -> int:
        """Steps from one window's start to the next one's: the transitions that a window stands for."""
        return self.length - self.overlap


@dataclass(frozen=True)
class BonusConfig(Section):
    """An intrinsic reward for novelty (Badia et al. 2020, Never Give Up)."""

    key: ClassVar[str] = "agent.bonus"
    kind: str = choice("none", "none", "ngu")
    weight: float = number(0.3, above=0)
    """beta, the largest of the mixture: the learner adds beta times the bonus to the reward."""
    mixtures: int = number(1, 1, 256)
    """Pairs of beta and discount over the slots: from (0, agent.discount) to (weight, discount_min). 1: every
    slot has weight and agent.discount."""
    discount_min: float = number(0.97, 0, 1)
    memory: int = number(5000, 10, 1_000_000)
    """Embeddings that a slot's episodic memory holds."""
    neighbours: int = number(10, 1, 100)
    embedding: int = number(32, 1, 1024)
    """Size of the controllable-state embedding, and of the random network's output times 4."""
    lifelong_max: float = number(5.0, 1)
    """L, the largest factor of the random network distillation; 1 switches it off."""
    step_size: float = number(5e-4, above=0)


@dataclass(frozen=True)
class AgentConfig(Section):
    """What is learned and how actions are chosen."""

    key: ClassVar[str] = "agent"
    name: str = "dqn"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    bonus: BonusConfig = field(default_factory=BonusConfig)
    discount: float = number(0.99, 0, 1)
    n_step: int = number(3, 1, 100)
    n_step_final: int | None = number(None, 1, 100)
    """null: n stays. Else n and the discount move to their finals over anneal_updates after each reset (BBF)."""
    discount_final: float | None = number(None, 0, 1)
    anneal_updates: int = number(10_000, 1)
    returns: str = choice("n_step", "n_step", *TRACES)
    """n_step, or lambda-returns over the window: Peng's, Watkins' Q(lambda), Retrace (of the greedy policy)."""
    trace: float = number(0.9, 0, 1)
    """lambda."""
    bootstrap: str = choice("double", "max", "double", "soft", "munchausen")
    temperature: float = number(0.03, above=0)
    """Soft and Munchausen: tau of the softmax policy, in units of Q."""
    munchausen_alpha: float = number(0.9, 0, 1)
    munchausen_clip: float = number(-1.0, None, 0)
    """l_0, the smallest that tau log pi may be."""
    loss: str = choice("huber", "huber", "squared")
    """Of scalar errors, and kappa = 1 or (squared) kappa = 0 of quantile errors."""
    reward: str = choice("clip", "clip", "none")
    """Reward transform on the learner: clipped to +-1, or as it is."""
    rescale: bool = False
    """Values are learned on the scale h(x) = sign(x)(sqrt(|x| + 1) - 1) + rescale_epsilon x."""
    rescale_epsilon: float = number(1e-3, above=0)
    autoencoder: float = number(0.0, 0)
    """Weight of the reconstruction loss beside Q-learning; 0 is none."""

    def check(self) -> None:
        network, sequence = self.network, self.sequence
        if self.rescale and network.head != "scalar":
            raise ConfigError(f"agent.rescale=true: is for agent.network.head=scalar, not {network.head}")
        if self.returns != "n_step":
            if network.head != "scalar":
                raise ConfigError(f"agent.returns={self.returns}: needs agent.network.head=scalar, not {network.head}")
            if self.bootstrap not in ("max", "double"):
                raise ConfigError(
                    f"agent.returns={self.returns}: needs agent.bootstrap=max or double, not {self.bootstrap}"
                )
            if self.n_step_final is not None:
                raise ConfigError(
                    f"agent.n_step_final={self.n_step_final}: agent.returns={self.returns} uses the "
                    "whole window, so n is not annealed"
                )
            if sequence.length + self.n_step - 1 < 2:
                raise ConfigError(
                    f"agent.returns={self.returns}: a window of one step has no lambda-return; raise agent.n_step="
                    f"{self.n_step} or agent.sequence.length={sequence.length}"
                )
        if sequence.burn_in and network.memory == "none":
            raise ConfigError(
                f"agent.sequence.burn_in={sequence.burn_in}: agent.network.memory=none has nothing to bring up to date"
            )
        if sequence.burn_in > sequence.length:
            raise ConfigError(
                f"agent.sequence.burn_in={sequence.burn_in}: must not be longer than the sequence, "
                f"agent.sequence.length={sequence.length}"
            )
        if network.memory == "transformer" and network.memory_steps > sequence.burn_in + sequence.length:
            raise ConfigError(
                f"agent.network.memory_steps={network.memory_steps}: must fit into the window of "
                f"agent.sequence.burn_in + agent.sequence.length = {sequence.burn_in + sequence.length} steps"
            )
        if self.discount_final is not None and self.contexts > 1:
            raise ConfigError(
                f"agent.discount_final={self.discount_final}: with agent.bonus.mixtures="
                f"{self.bonus.mixtures} each slot has a discount of its own"
            )
        if self.exploration.kind == "greedy" and not network.noisy:
            raise ConfigError("agent.exploration.kind=greedy: explores only with agent.network.noisy=true")
        if self.autoencoder and network.torso not in CONVOLUTIONAL:
            raise ConfigError(
                f"agent.autoencoder={self.autoencoder}: needs a convolutional agent.network.torso, not {network.torso}"
            )

    @property
    def transitions(self) -> bool:
        """True where a window is one transition, whose two observations are all that a loss needs."""
        single = self.sequence.length == 1 and self.returns == "n_step"
        return single and not self.network.recurrent and self.contexts == 1

    @property
    def contexts(self) -> int:
        """Pairs of bonus weight and discount that the slots play under, and that the network is told."""
        return self.bonus.mixtures if self.bonus.kind == "ngu" else 1

    @property
    def longest(self) -> int:
        """The largest n that is used."""
        return max(self.n_step, self.n_step_final or 0)

    @property
    def window(self) -> int:
        """L, the steps of a window."""
        return self.sequence.burn_in + self.sequence.length + self.longest - 1


def _null(value: float | None) -> str:
    return "null" if value is None else str(value)
