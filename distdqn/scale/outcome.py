"""What a system does in its steady state, simulated or real."""

from dataclasses import dataclass

BUSY = 0.9
"""Who is busy for this share of the time binds."""


@dataclass(frozen=True)
class Outcome:
    """A system's steady state. `lag`: updates that rollouts are behind. `network`: bytes/s that travel. `busy`: share
    of the time that each part works, of several the mean, of network cards the busiest direction of any, of cores those
    of the busiest machine. `message`: seconds of the coordinator for each of the `messages` a second, where it was
    simulated."""

    nodes: int
    actors: int
    shards: int
    frames_per_s: float
    steps_per_s: float
    samples_per_s: float
    updates_per_s: float
    lag: float
    network: float
    busy: dict[str, float]
    message: float = 0.0
    messages: float = 0.0

    @property
    def binds(self) -> str:
        """The busiest part; where none is busy, the limiter or waiting."""
        part = max(self.busy, key=lambda name: self.busy[name])
        return part if self.busy[part] >= BUSY else "waiting"
