"""How the Q-network is updated."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from distdqn.config.section import Section, number


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """From gradients to steps."""

    key: ClassVar[str] = "learner.optimizer"
    kind: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: float = number(1e-4, above=0)
    schedule: Literal["constant", "linear", "cosine", "inverse"] = "constant"
    """Learning rate over the budget: constant, to zero in a line or a half cosine, or as 1/(1 + decay k)."""
    schedule_decay: float = number(0.0, 0)
    epsilon: float | None = number(None, above=0)
    """Keeps the step finite; null: 1.5e-4 for adam and adamw, 0.01 for rmsprop."""
    decay: float = number(0.95, 0, 1)
    """RMSProp: of the running means."""
    centered: bool = True
    """RMSProp as in DQN 2015: g / sqrt(E[g^2] - E[g]^2 + epsilon)."""
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

    def check(self) -> None:
        if self.weight_decay and self.kind != "adamw":
            alternative = f"not {self.kind}; learner.optimizer.l2 is for any"
            self.wrong("weight_decay", f"is for learner.optimizer.kind=adamw, {alternative}")
        if self.momentum and (self.kind in ("adam", "adamw") or (self.kind == "rmsprop" and self.centered)):
            kinds = "learner.optimizer.kind=sgd, or rmsprop with learner.optimizer.centered=false"
            self.wrong("momentum", f"is for {kinds}, not {self.kind}")


@dataclass(frozen=True)
class TargetConfig(Section):
    """How the target network follows the online network."""

    key: ClassVar[str] = "learner.target"
    kind: Literal["period", "polyak"] = "period"
    period: int = number(2500, 1)
    """Gradient steps between copies."""
    tau: float = number(0.005, above=0)
    """Polyak: share of the online network that each gradient step mixes in."""


@dataclass(frozen=True)
class AugmentConfig(Section):
    """Random shifts and intensities of the images in an update (Yarats et al. 2021, DrQ)."""

    key: ClassVar[str] = "learner.augment"
    kind: Literal["none", "shift", "intensity", "both"] = "none"
    pixels: int = number(4, 1, 64)
    intensity: float = number(0.05, above=0)
    online_views: int = number(1, 1, 16)
    """Augmented views of each observation that the loss is averaged over (M), and of each bootstrap observation
    that the target is averaged over (K)."""
    target_views: int = number(1, 1, 16)

    def check(self) -> None:
        if self.kind == "none" and (self.online_views, self.target_views) != (1, 1):
            self.refuse("kind", "shift, intensity or both where online_views or target_views is not 1")


@dataclass(frozen=True)
class ResetConfig(Section):
    """Resets: the torso is shrunk and perturbed, the rest starts anew (D'Oro et al. 2023; Schwarzer et al. 2023)."""

    key: ClassVar[str] = "learner.reset"
    period: int | None = number(None, 1)
    """Gradient steps between resets; null never resets."""
    keep: float = number(0.5, 0, 1)
    """Share of the torso's old weights that a reset keeps."""


@dataclass(frozen=True)
class LearnerConfig(Section):
    """How the Q-network is updated."""

    key: ClassVar[str] = "learner"
    device: str = "auto"
    """auto takes the GPU if there is one; cpu, cuda, cuda:N."""
    batch_size: int = number(512, 1, 1_000_000)
    samples_per_insert: float = number(8.0, above=0)
    """Windows sampled for each transition stored."""
    updates_per_call: int = number(4, 1, 1000)
    """Gradient steps that one call feeds."""
    in_flight: int = number(2, 1, 16)
    """Calls asked of the learner ahead of time."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    reset: ResetConfig = field(default_factory=ResetConfig)
    publish_period: int = number(8, 1)
    """Gradient steps between two versions of the weights for the actors, at least."""
    publish_seconds: float = number(0.0, 0)
    """Seconds between them, at least: a fast learner need not hand out more versions than its actors can use. Lockstep
    goes by gradient steps alone."""
    threads: int = number(1, 1, 256)
    """CPU threads. With a GPU they put together its minibatches. With two or more, a CPU learner that learns from
    transitions and updates its target by period has one of them compute the next minibatch's target values meanwhile;
    with two, gradients of weights too (`compile`)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the loss: `auto` does it for pixels, on a GPU where Triton and a C compiler are there, on a CPU
    unless there are two threads and no noisy or spectrally normalized layers: sharing the backward pass gained more
    with the 2015 network, and excludes it."""
    capture: Literal["auto", "on", "off"] = "auto"
    """Runs all updates of a call without waiting for the device; on a GPU, where `auto` does it, each is one captured
    CUDA graph. One that is not finite is found at the end of the call, and made again with a look at each step."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "float32"
    """tf32: on a GPU convolutions, matrix products and recurrent layers round their inputs to 10 bits. bfloat16: that
    and autocast of all but the last layers, faster and less exact. `auto`: for pixels, where the device computes in
    it, else float32."""
    max_bad_updates: int = number(10, 1)
    """Updates in a row whose loss is not finite before the run stops."""

    def check(self) -> None:
        head, _, index = self.device.partition(":")
        if head not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
            self.refuse("device", "one of auto, cpu, cuda, cuda:N")
