"""A shard that outlives its process: what changes it is written down before it answers."""

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from distdqn.packed import Packed, pack
from distdqn.replay.journal import Added, Journal, JournalError, JournalPlace, clear, heads, read
from distdqn.replay.recovery import taken_over
from distdqn.replay.shard import ReplayShard
from distdqn.replay.storage import INSERTION_BITS, OFFSET_BITS
from distdqn.types import Priorities, Segment, ShardStats

_WINDOW = (1 << INSERTION_BITS + OFFSET_BITS) - 1


class JournaledShard(ReplayShard):
    """A `ReplayShard` that begins with what its journal holds, up to the last change that counts, and goes on with it.
    A predecessor's keys stay valid where all of it was found; otherwise the shard has keys of its own `epoch`."""

    def __init__(self, place: JournalPlace, *args: Any) -> None:
        super().__init__(*args)
        self._place, self._trouble = place, ""
        folder, capacity = Path(place.folder), self._ring.capacity
        try:
            if place.sources or not place.number:
                clear(folder)
            found = self._redo(folder)
        except (JournalError, OSError) as error:
            self._trouble, found = f"the replay starts empty: {error}", 0
            with suppress(OSError):
                clear(folder)
        if place.number and not place.sources and not self._trouble:
            if found == place.number:
                self._epoch = heads(folder)[-1][1]["epoch"]
            else:
                self._trouble = f"its journal ends with change {found} of {place.number}"
        self._journal = Journal(place, self._epoch, self._ring.count, capacity)
        try:
            for segments in taken_over(place):
                self.add(segments, place.number)
        except (JournalError, OSError) as error:
            self._trouble = f"the replay starts empty: {error}"

    def _redo(self, folder: Path) -> int:
        """Takes in the journal; the number of the last change found."""
        number = 0
        for change in read(folder, self._place.number, self._place.fits):
            number = change.number
            if isinstance(change, Added):
                for places in self._ring.skip_to(change.insertion):
                    self._forget(places)
                self._store(change.segments)
            else:
                self._reprioritize(change.insertion, change.offset, change.priority)
        return number

    def add(self, segments: Segment | Packed, number: int = 0) -> ShardStats:
        """See `ReplayShard.add`; they are on disk once it answers."""
        packed = segments if isinstance(segments, Packed) else pack(segments)
        before = self._ring.count
        self._take(segments)
        self._journal.add(number, packed, self._ring.count - before)
        return self.stats()

    def update_priorities(self, update: Priorities, number: int = 0) -> ShardStats:
        """See `ReplayShard.update_priorities`; they are on disk once it answers."""
        self._update(update)
        own = update.key >> INSERTION_BITS + OFFSET_BITS == self._epoch
        self._journal.prioritize(number, update.key[own] & _WINDOW, update.priority[own])
        return self.stats()

    def cut(self, saved: bool, taken_over: bool = False) -> ShardStats:
        """A checkpoint is being made: see `Journal.cut`. With `taken_over` all shards have what they were to take over
        from another layout, and that can go."""
        self._journal.cut(saved)
        if taken_over:
            own = Path(self._place.folder)
            for other in own.parent.glob("shard-*-of-*"):
                if other.name.partition("-of-")[2] != own.name.partition("-of-")[2]:
                    shutil.rmtree(other, ignore_errors=True)
        return self.stats()

    def close(self) -> None:
        """Ends writing."""
        self._journal.close()

    def stats(self) -> ShardStats:
        """See `ReplayShard.stats`."""
        trouble = self._journal.trouble or self._trouble
        return replace(super().stats(), journal_bytes=self._journal.nbytes, trouble=trouble)
