"""How many actors there are to be, where that follows the machines: `actors.count=auto`."""

from collections.abc import Callable
from dataclasses import dataclass

from distdqn.config import ActorsConfig

AT_ONCE = 64
"""Actors that start at the same time: each imports PyTorch, and a thousand at once would outlast their patience."""
STARVES, WAITS = 0.2, 0.5
"""Share of the time for which the learner waits for data, or the actors for the learner, from which on that is so."""
STARVES_S, WAITS_S = 60.0, 300.0
"""Seconds for which it is so before the cluster is asked for another size: machines are soon there and late to go."""
MORE, LESS = 1.25, 0.875
"""What the number of actors is to be then, as a multiple of what it is."""


@dataclass(frozen=True)
class Change:
    """`start` so many actors, `retire` so many, and ask the cluster for `cpus` in all; None: as before."""

    start: int = 0
    retire: int = 0
    cpus: int | None = None


class Crew:
    """Decides; others do it. With `actors.autoscale` the cluster is asked for machines as the learner needs them, and
    given back what waits; else all cores that are free are taken, for that is what they are there for.

    Args:
        clock: seconds.
    """

    def __init__(self, config: ActorsConfig, clock: Callable[[], float]) -> None:
        self.config, self._clock = config, clock
        self._starved = self._waited = clock()
        """Since when it is not so."""
        self._most = config.max
        """Who was let go is not replaced before the learner starves, so that machines get empty."""

    def change(self, room: int, playing: int, starting: int, actor_idle: float, learner_idle: float) -> Change:
        """What is to be done now.

        Args:
            room: actors for which there are cores free. playing: those that have answered. starting: those that have
                not.
            actor_idle, learner_idle: shares of the time, lately.
        """
        c, now, there = self.config, self._clock(), playing + starting
        if learner_idle < STARVES or actor_idle >= STARVES:
            self._starved = now
        if actor_idle < WAITS:
            self._waited = now
        least, most = max(0, c.min - there), max(0, self._most - there)
        if c.autoscale and now - self._waited >= WAITS_S and playing > c.min:
            self._waited = now
            keep = self._most = max(c.min, int(playing * LESS))
            return Change(retire=playing - keep, cpus=keep * c.threads)
        cpus = None
        if c.autoscale and now - self._starved >= STARVES_S and there < c.max:
            self._starved, self._most, most = now, c.max, c.max - there
            cpus = min(c.max, max(there + 1, int(there * MORE))) * c.threads
        held = c.autoscale and self._waited < now  # they wait: no more of them
        start = max(least, 0 if held else min(room, most))
        return Change(start=min(start, max(0, AT_ONCE - starting)), cpus=cpus)
