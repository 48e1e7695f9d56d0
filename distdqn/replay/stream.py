"""What a run has experienced, read from its folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distdqn.replay.journal import Added, files, read
from distdqn.replay.storage import SegmentRing
from distdqn.types import Batch


def transitions(folder: str | Path) -> Iterator[Batch]:
    """Every window in the journals in `folder`, `RUN/replay`, once, in the order in which each shard stored
    them. It may be read while the run goes on.

    Yields:
        Batches of the windows of one rollout: n steps and the observation after them, or sequences, as the agent of the
        run learned from. `origin` says of which actor, slot and step each is; `importance` is 1.
    """
    shards = sorted(Path(folder).glob("shard-*-of-*"))
    layouts = {path.name.partition("-of-")[2] for path in shards if files(path)}
    newest = max(layouts, key=lambda of: max(map(_changed, Path(folder).glob(f"*-of-{of}/*"))), default="")
    for shard in shards:
        if shard.name.endswith(f"-of-{newest}"):
            for change in read(shard):
                if isinstance(change, Added):
                    segments = change.segments
                    ring = SegmentRing(len(segments), segments.valid.shape[1])
                    ring.add(segments)
                    windows = ring.windows(*np.nonzero(segments.valid))
                    key = np.arange(len(windows["origin"]))
                    yield Batch(**windows, importance=np.ones(len(key), np.float32), key=key, sizes=(len(key),))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # of a run that goes on
        return 0.0
