"""What a shard takes over from journals: its own, or those of a run with another number of shards."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from distdqn.replay.journal import Added, JournalPlace, Reprioritized, heads, read
from distdqn.types import Segment, take


def taken_over(place: JournalPlace) -> Iterator[Segment]:
    """The share of a shard in what `place.sources` hold, with the priorities of now, those of all sources in turns:
    what is oldest goes first.

    Raises:
        JournalError: they hold segments of another kind.
    """
    streams = [_share(Path(folder), number, place) for folder, number in place.sources]
    for segments in zip_longest(*streams):
        yield from (s for s in segments if s is not None)


def _share(folder: Path, number: int, place: JournalPlace) -> Iterator[Segment]:
    index, of = place.share
    latest: dict[int, dict[int, float]] = {}
    end = 0
    for change in read(folder, number, place.fits):
        if isinstance(change, Added):
            end = change.insertion + len(change.packed)
        if isinstance(change, Reprioritized):
            for insertion, offset, priority in zip(change.insertion, change.offset, change.priority, strict=True):
                if insertion % of == index:
                    latest.setdefault(int(insertion), {})[int(offset)] = priority
    held = end - heads(folder)[-1][1]["segments"] if end else 0
    for change in read(folder, number, place.fits):
        if isinstance(change, Added):
            insertions = change.insertion + np.arange(len(change.packed))
            rows = np.nonzero((insertions % of == index) & (insertions >= held))[0]
            if not len(rows):
                continue
            arrays = take(change.segments, rows)
            for priority, row in zip(arrays["priority"], rows, strict=True):
                given = latest.pop(change.insertion + int(row), {})
                priority[list(given)] = list(given.values())
            yield Segment(**arrays)
