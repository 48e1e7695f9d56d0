"""The shards of a run: what is in them, whose turn it is, and the numbers of what changes them."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from distdqn.act.segmenter import agent_fields
from distdqn.config import RunConfig
from distdqn.replay.journal import JournalPlace
from distdqn.runtime.calls import Call, Task
from distdqn.runtime.engine import Handle, NoAnswer
from distdqn.runtime.system import System
from distdqn.types import STEP_FIELDS, EnvSpec, ShardStats, State

SLOWEST = 1e6
"""Bytes of a journal that a shard does again in a second at the least: packed, some fifty times less than they hold."""
LONGEST_REPLAY = 3600.0
"""Seconds, where nobody knows how long the journal is: after a resume."""


class Shards:
    """Starts them and asks for changes, each with a number. What has been acknowledged is what a successor, or a
    resumed run, finds in the journal; anything later is asked for again."""

    def __init__(self, system: System) -> None:
        self.system = system
        roster, replay = system.roster, system.config.replay
        self.number, self.journal = replay.shards, replay.journal
        own = f"{roster.run_id:016x}"
        self._folder = Path(replay.journal_dir) / own if replay.journal_dir else Path(system.config.run_dir) / "replay"
        self._fits = fits(system.config, roster.spec)
        self._asked, self._acknowledged = [0] * self.number, [0] * self.number
        self._earlier: State | None = None
        """Of another layout, that this one takes over from."""
        self._joined = set[int]()
        self._gone: dict[int, ShardStats] = {}
        self._next, self._whole = 0, False
        system.starts("shard", self.start)

    def start(self, index: int) -> None:
        """Starts shard `index`, or starts it anew with what its journal holds. Without one learning waits until the
        shards together are filled again."""
        s = self.system
        gone = s.progress.shards.pop(index, None)
        s.mass[index] = 0.0
        self._asked[index] = self._acknowledged[index]
        place = self._place(index) if self.journal else None
        if gone is not None:
            self._gone[index] = gone
            if place is None:
                self._lose(index, 0)
        handle = s.roster.shard(index, place)
        if place is not None and place.number:
            known = self._gone.get(index)
            s.watch.replays[handle.name] = known.journal_bytes / SLOWEST if known else LONGEST_REPLAY
        s.started(handle, self._join(index, handle))

    def _join(self, index: int, handle: Handle) -> Task:
        stats: ShardStats = yield self.system.calls.await_start(handle, "stats")
        first = index not in self._joined
        self._joined.add(index)
        if index in self._gone:
            self._lose(index, stats.transitions)
        limiter = self.system.limiter
        if first and stats.transitions:
            self.system.event(f"shard-{index} goes on with {stats.transitions:,} transitions")
        if limiter.filling and stats.transitions:
            limiter.refill(self.system.progress.transitions)

    def _lose(self, index: int, left: int) -> None:
        """Counts what was in a dead shard and is not in its successor, which has `left`."""
        progress = self.system.progress
        lost = max(0, self._gone.pop(index).transitions - left)
        progress.count["lost"] += lost
        progress.faults["lost_transitions"] += lost
        if lost:
            self.system.limiter.refill(progress.transitions)

    def change(self, index: int, method: str, argument: Any, tries: int = 1) -> Generator[Call, Any, None]:
        """Asks shard `index` for a change until it has been made, of a dead one's successor too, `tries` times in all.

        Raises:
            NoAnswer: it was not made.
        """
        for left in reversed(range(tries)):
            number = self._asked[index] = self._asked[index] + 1
            try:
                yield self.system.ask(f"shard-{index}", method, argument, number)
            except NoAnswer:
                if not left:
                    raise
            else:
                self._acknowledged[index] = max(self._acknowledged[index], number)
                return

    def turn(self) -> int:
        """Whose turn it is; one that is silent, or not made yet, is passed over where others are there."""
        turns = ((self._next + k) % self.number for k in range(self.number))
        chosen = next((i for i in turns if self.system.joined(f"shard-{i}")), self._next)
        self._next = (chosen + 1) % self.number
        return chosen

    def mass(self) -> np.ndarray:
        """Sampling mass of each, 0 of those that are silent."""
        mass = self.system.mass.copy()
        mass[[int(name.partition("-")[2]) for name in self.system.silent]] = 0.0
        return mass

    def cut(self, saved: bool) -> None:
        """A checkpoint is being made, and the one before it was `saved`."""
        if self.journal:
            for i in self._joined:
                if self.system.joined(f"shard-{i}"):
                    self.system.ask(f"shard-{i}", "cut", saved, saved and self._whole)
            self._whole = len(self._joined) == self.number

    def state(self) -> State:
        """What of the journals belongs to a checkpoint."""
        if self._earlier is not None and len(self._joined) < self.number:
            return self._earlier
        return {"shards": self.number, "acknowledged": list(self._acknowledged)}

    def restore(self, state: State | None) -> None:
        """Goes on from what `state` gave, also of another number of shards."""
        if state is None or not self.journal:
            return
        if int(state["shards"]) == self.number:
            self._acknowledged = [int(n) for n in state["acknowledged"]]
        else:
            self._earlier, self._acknowledged = state, [int(any(state["acknowledged"]))] * self.number

    def _place(self, index: int) -> JournalPlace:
        sources: tuple[tuple[str, int], ...] = ()
        if self._earlier is not None and index not in self._joined:
            numbers = self._earlier["acknowledged"]
            sources = tuple((str(self._of(i, len(numbers))), int(n)) for i, n in enumerate(numbers) if n)
        own, number = str(self._of(index, self.number)), self._acknowledged[index]
        return JournalPlace(own, self._fits, number, sources, (index, self.number))

    def _of(self, index: int, number: int) -> Path:
        return self._folder / f"shard-{index}-of-{number}"


def fits(config: RunConfig, spec: EnvSpec) -> str:
    """What the segments of a run are like: those of another kind do not go into the same ring."""
    agent, kept = config.agent, [*STEP_FIELDS, *agent_fields(config.agent)]
    fields = [(f.name, f.dtype, f.shape) for f in kept]
    steps = (config.actors.rollout_steps, agent.window, agent.sequence.stride)
    return json.dumps([steps, spec.stack, spec.frame_shape, spec.frame_dtype, fields])
