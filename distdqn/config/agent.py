"""What is learned and how actions are chosen: the part of a run's config that describes the agent."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from distdqn.config.network import NetworkConfig
from distdqn.config.section import Import, Section, number


@dataclass(frozen=True)
class ExplorationConfig(Section):
    """How acting departs from the greedy action."""

    key: ClassVar[str] = "agent.exploration"
    kind: Literal["ladder", "annealed", "boltzmann", "greedy"] | Import = "ladder"
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
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a class of one's own."""


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
    start: Literal["stored", "zero"] = "stored"
    """Memory at a window's start: as it was when acting (Kapturowski et al. 2019), or zero
    (Hausknecht and Stone 2015)."""
    eta: float = number(0.9, 0, 1)
    """Priority of a window: eta max |TD| + (1 - eta) mean |TD|."""

    def check(self) -> None:
        if self.overlap >= self.length:
            self.refuse("overlap", f"below agent.sequence.length={self.length}")

    @property
    def stride(self) -> int:
        """Steps from one window's start to the next one's: the transitions that a window stands for."""
        return self.length - self.overlap


@dataclass(frozen=True)
class BonusConfig(Section):
    """An intrinsic reward for novelty (Badia et al. 2020, Never Give Up)."""

    key: ClassVar[str] = "agent.bonus"
    kind: Literal["none", "ngu"] = "none"
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
    learning_rate: float = number(5e-4, above=0)


@dataclass(frozen=True)
class BootstrapConfig(Section):
    """Which value the target takes from the bootstrap observation."""

    key: ClassVar[str] = "agent.bootstrap"
    kind: Literal["max", "double", "soft", "munchausen"] | Import = "double"
    temperature: float = number(0.03, above=0)
    """Soft and Munchausen: tau of the softmax policy, in units of Q."""
    alpha: float = number(0.9, 0, 1)
    """Munchausen: weight of the log-policy in the reward."""
    clip: float = number(-1.0, None, 0)
    """Munchausen: l_0, the smallest that tau log pi may be."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a class of one's own."""


@dataclass(frozen=True)
class AuxiliaryConfig(Section):
    """A loss beside Q-learning that shapes the torso."""

    key: ClassVar[str] = "agent.auxiliary"
    kind: Literal["none", "autoencoder"] | Import = "none"
    """autoencoder: reconstruction of the observation (after Lange and Riedmiller 2010)."""
    weight: float = number(1.0, above=0)
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a class of one's own."""


@dataclass(frozen=True)
class AgentConfig(Section):
    """What is learned and how actions are chosen."""

    key: ClassVar[str] = "agent"
    name: str = "dqn"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    bonus: BonusConfig = field(default_factory=BonusConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    discount: float = number(0.99, 0, 1)
    n_step: int = number(3, 1, 100)
    n_step_final: int | None = number(None, 1, 100)
    """null: n stays. Else n and the discount move to their finals over anneal_updates after each reset (BBF)."""
    discount_final: float | None = number(None, 0, 1)
    anneal_updates: int = number(10_000, 1)
    returns: Literal["n_step", "peng", "watkins", "retrace"] = "n_step"
    """n_step, or lambda-returns over the window: Peng's, Watkins' Q(lambda), Retrace (of the greedy policy)."""
    trace: float = number(0.9, 0, 1)
    """lambda."""
    loss: Literal["huber", "squared"] = "huber"
    """Of scalar errors, and kappa = 1 or (squared) kappa = 0 of quantile errors."""
    reward: Literal["clip", "none"] = "clip"
    """Reward transform on the learner: clipped to +-1, or as it is."""

    def check(self) -> None:
        network, sequence = self.network, self.sequence
        if self.returns != "n_step":
            self._check_lambda_returns()
        if sequence.burn_in and network.memory.kind == "none":
            self.wrong("sequence.burn_in", "agent.network.memory.kind=none has nothing to bring up to date")
        if sequence.burn_in > sequence.length:
            self.wrong("sequence.burn_in", f"must not be longer than agent.sequence.length={sequence.length}")
        steps = sequence.burn_in + sequence.length
        if network.memory.kind == "transformer" and network.memory.steps > steps:
            window = f"agent.sequence.burn_in + agent.sequence.length = {steps} steps"
            self.wrong("network.memory.steps", f"must fit into the window of {window}")
        if self.discount_final is not None and self.contexts > 1:
            self.wrong("discount_final", f"with {self.shown('bonus.mixtures')} each slot has a discount of its own")
        if self.exploration.kind == "greedy" and not network.head.noisy:
            self.wrong("exploration.kind", "explores only with agent.network.head.noisy=true")
        if self.auxiliary.kind == "autoencoder" and network.torso.flat:
            self.wrong("auxiliary.kind", f"needs a convolutional agent.network.torso.kind, not {network.torso.kind}")

    def _check_lambda_returns(self) -> None:
        head, bootstrap = self.network.head.kind, self.bootstrap.kind
        if head != "scalar":
            self.wrong("returns", f"needs agent.network.head.kind=scalar, not {head}")
        if bootstrap not in ("max", "double"):
            self.wrong("returns", f"needs agent.bootstrap.kind=max or double, not {bootstrap}")
        if self.n_step_final is not None:
            self.wrong("n_step_final", f"agent.returns={self.returns} uses the whole window, so n is not annealed")
        if self.sequence.length + self.n_step - 1 < 2:
            raised = f"{self.shown('n_step')} or {self.shown('sequence.length')}"
            self.wrong("returns", f"a window of one step has no lambda-return; raise {raised}")

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
