"""The Q-network: torso -> memory -> head."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from distdqn.config.section import Import, Section, number

CONVOLUTIONAL = ("dqn_2015", "dqn_2013", "small", "impala", "lenet")
"""Torsos that need images."""


@dataclass(frozen=True)
class TorsoConfig(Section):
    """From an observation to features."""

    key: ClassVar[str] = "agent.network.torso"
    kind: Literal["dqn_2015", "dqn_2013", "small", "impala", "lenet", "mlp", "tabular"] | Import = "dqn_2015"
    """Each of the convolutional ones takes any frame size; mlp and tabular pass the observation on as a vector."""
    width: int = number(1, 1, 64)
    """Multiplies the channels of a convolutional torso."""
    pool: int | None = number(None, 1, 64)
    """Side that a convolutional torso's last maps are max-pooled to (adaptive); null leaves them."""
    normalize: Literal["none", "batch", "layer", "spectral"] = "none"
    """Spectral: of the convolutions inside residual blocks, or of all where there are none."""
    pretrained: str | None = None
    """File of weights that `distdqn pretrain` wrote; null starts from the initializer."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a class of one's own."""

    def check(self) -> None:
        for name in ("normalize", "width", "pool", "pretrained") if self.flat else ():
            if getattr(self, name) not in ("none", 1, None):
                self.wrong(name, f"is for convolutional torsos, but agent.network.torso.kind={self.kind}")

    @property
    def flat(self) -> bool:
        """True where it is no network of its own: the observation as a vector."""
        return self.kind in ("mlp", "tabular")


@dataclass(frozen=True)
class MemoryConfig(Section):
    """From features to features that know the past."""

    key: ClassVar[str] = "agent.network.memory"
    kind: Literal["none", "rnn", "gru", "lstm", "transformer"] | Import = "none"
    size: int = number(512, 1, 8192)
    """Units (transformer: width of its tokens)."""
    steps: int = number(16, 1, 512)
    """Transformer: how many of the latest steps it attends to, the present one included."""
    layers: int = number(1, 1, 16)
    """Transformer: blocks on top of each other."""
    heads: int = number(4, 1, 64)
    """Transformer: attention heads; must divide the size."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a class of one's own."""

    def check(self) -> None:
        if self.kind == "transformer" and self.size % self.heads:
            self.wrong("heads", f"must divide agent.network.memory.size={self.size}")


@dataclass(frozen=True)
class HeadConfig(Section):
    """From features to action values, or to their distributions."""

    key: ClassVar[str] = "agent.network.head"
    kind: Literal["scalar", "categorical", "quantile", "implicit_quantile"] | Import = "scalar"
    hidden: tuple[int, ...] = (512,)
    """Widths of the fully connected layers after the torso's own (dueling: of each stream)."""
    bias: bool = True
    """The linear layers have one; a table has none."""
    dropout: float = number(0.0, 0, 0.99)
    """After each hidden fully connected layer, in updates only."""
    dueling: bool = False
    noisy: bool = False
    """The linear layers are noisy (Fortunato et al. 2018)."""
    noisy_sigma: float = number(0.5, above=0)
    rescale: float | None = number(None, above=0)
    """Scalar: values are learned on the scale h(x) = sign(x)(sqrt(|x| + 1) - 1) + rescale x; null leaves them."""
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
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Passed to a class of one's own."""

    def check(self) -> None:
        if any(h < 1 for h in self.hidden):
            self.refuse("hidden", "a list of whole numbers of at least 1")
        low, high = self.v_min, self.v_max
        if self.kind == "categorical" and (low is None or high is None or low >= high):
            self.wrong("kind", f"needs a range of values, {self.shown('v_min')} below {self.shown('v_max')}")
        if self.rescale is not None and self.kind != "scalar":
            self.wrong("rescale", f"is for agent.network.head.kind=scalar, not {self.kind}")


@dataclass(frozen=True)
class NetworkConfig(Section):
    """torso -> memory -> head."""

    key: ClassVar[str] = "agent.network"
    torso: TorsoConfig = field(default_factory=TorsoConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    initializer: Literal["fan_in", "xavier", "he", "orthogonal", "zeros"] = "fan_in"
    contrast: float = number(0.0, 0)
    """0: pixels in [0, 1] as they are. Above: the mean frame, measured when learning starts, is subtracted and
    the difference multiplied by this, so that a small ball stands out against a bright background."""
    previous: bool = False
    """The previous action (one-hot) and reward are inputs beside the torso's features."""

    def check(self) -> None:
        head = self.head
        plain = head.kind == "scalar" and not (head.dueling or head.noisy or head.hidden or head.bias)
        if self.torso.kind == "tabular" and not plain:
            table = "agent.network.head.kind=scalar, hidden=[], bias=false, neither dueling nor noisy"
            self.wrong("torso.kind", f"a table has {table}")

    @property
    def recurrent(self) -> bool:
        """True where what the network gives depends on more than the observation."""
        return self.memory.kind != "none" or self.previous
