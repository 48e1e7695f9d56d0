"""What `distdqn scale --simulate` pretends: the keys of its machines and of what work costs there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import OmegaConf

from distdqn.config.overrides import change
from distdqn.config.section import ConfigError, Section, from_mapping, number


@dataclass(frozen=True)
class ScaleConfig(Section):
    """Machines that are not there. What is null is measured on this one; what Ray takes was, on a busy core of two."""

    key: ClassVar[str] = "scale"
    step_us: float | None = number(None, above=0)
    """An agent step: emulator, inference and all, microseconds of an actor."""
    add_us: float | None = number(None, 0)
    """A transition stored, microseconds of a shard."""
    sample_us: float | None = number(None, 0)
    """A window drawn."""
    priority_us: float | None = number(None, 0)
    """A priority changed."""
    update_ms: float | None = number(None, above=0)
    """A gradient step on a minibatch, milliseconds of the learner; where it is given, a GPU makes it and no core."""
    transition_bytes: float | None = number(None, 0)
    """On its way to a shard, as it travels."""
    sample_bytes: float | None = number(None, 0)
    """A window on its way to the learner."""
    weights_mb: float | None = number(None, 0)
    """A version of the weights, megabytes."""
    carry_ns: float = number(0.5, 0)
    """A byte put into the object store, nanoseconds of who makes it."""
    cores: int | None = number(None, 1)
    """Of a node, shared by what runs there; null: every component has cores of its own."""
    bandwidth: float = number(3125.0, above=0)
    """Of a node's network, megabytes per second in each direction."""
    latency_ms: float = number(0.1, 0)
    """One way, from node to node and within one."""
    ask_us: float = number(110.0, 0)
    """A call, microseconds of the coordinator inside Ray."""
    look_us: float = number(10.0, 0)
    """A look at what has been answered."""
    open_us: float = number(45.0, 0)
    """An answer opened."""
    seconds: float = number(20.0, above=0)
    """Simulated time that is measured, of each system; at least that of eight rollouts."""


def compose_scale(texts: Sequence[str]) -> ScaleConfig:
    """The section of overrides such as scale.update_ms=3. Raises `ConfigError`, which names the key."""
    values: Any = OmegaConf.to_container(change({}, texts), resolve=True)
    section = values.get("scale", {})
    if not isinstance(section, dict):
        raise ConfigError(f"scale={section}: must be a group of keys, as scale.update_ms=3")
    return from_mapping(ScaleConfig, section, "scale")


def node_counts(overrides: Sequence[str], default: tuple[int, ...] = ()) -> tuple[tuple[int, ...], list[str]]:
    """What nodes=1,8,64 says, and the other overrides. Raises `ConfigError`."""
    about = [text for text in overrides if text.startswith("nodes=")]
    if len(about) > 1:
        raise ConfigError("nodes: say it once, as nodes=1,8,64")
    if not about and not default:
        raise ConfigError("nodes: say how many machines, as nodes=1,2,4, or name runs that are there")
    others = [text for text in overrides if text not in about]
    return (_numbers(about[0]) if about else default), others


def _numbers(text: str) -> tuple[int, ...]:
    numbers = text.partition("=")[2].strip("[]").split(",")
    if not all(n.strip().isdigit() and 1 <= int(n) <= 10_000 for n in numbers):
        raise ConfigError(f"{text}: must be whole numbers from 1 to 10000, as nodes=1,8,64")
    return tuple(sorted({int(n) for n in numbers}))
