"""A shard's process is killed at a random moment, again and again: what was acknowledged is there, once."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distdqn.config import ReplayConfig
from distdqn.packed import pack
from distdqn.replay.journal import JournalPlace
from distdqn.replay.journaled import JournaledShard
from distdqn.replay.shard import ReplayShard
from distdqn.types import Priorities, Segment, named_arrays

KILLS = 100
SEGMENTS = 20
"""Of the ring: most kills come with it full."""
ARGS = (ReplayConfig(alpha=0.6), SEGMENTS * 4, 4, 1, 0)


def change(shard: ReplayShard, number: int, segments: list[Segment]) -> None:
    """What change `number` is, of whoever is asked for it."""
    if number % 3:
        shard.add(pack(segments[number % len(segments)]), number)
    else:
        batch, _ = shard.sample((6,), 0.4, 1.0, number)
        shard.update_priorities(Priorities(batch.key, np.arange(6, dtype=np.float32) + number % 7), number)


def live(place: JournalPlace, segments: list[Segment], acknowledge: int) -> None:
    """A shard's life: it says of each change that it is done."""
    shard = JournaledShard(place, *ARGS)
    for number in range(place.number + 1, place.number + 100_000):
        change(shard, number, segments)
        if number % 16 == 0:
            shard.cut(True)
        os.write(acknowledge, struct.pack("<Q", number))


def killed(place: JournalPlace, segments: list[Segment], changes: int, seconds: float) -> int:
    """The last change that was acknowledged by a life that is killed some time after it did so many."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        live(place, segments, write)
    os.close(write)
    with open(read, "rb") as pipe:
        seen = pipe.read(8 * changes)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen += pipe.read()
    return int(struct.unpack("<Q", seen[-8:])[0]) if seen else place.number


@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_kills_lose_nothing(tmp_path: Path, make_segments: Callable[..., Segment], seed: int) -> None:
    rng = np.random.default_rng(seed)
    segments = [make_segments(2, k, stack=2, shape=(16, 16)) for k in range(40)]
    undisturbed, done = ReplayShard(*ARGS), 0
    for _ in range(KILLS // 2):
        place = JournalPlace(str(tmp_path), "T=4", done)
        before = done
        done = killed(place, segments, int(rng.integers(1, 12)), float(rng.uniform(0, 0.003)))
        assert done > before
        for number in range(before + 1, done + 1):
            change(undisturbed, number, segments)
        successor = JournaledShard(JournalPlace(str(tmp_path), "T=4", done), *ARGS)
        assert successor.stats().trouble == ""
        assert successor.stats().transitions == undisturbed.stats().transitions
        windows, expected = (named_arrays(s.sample((50,), 0.4, 1.0, done)[0]) for s in (successor, undisturbed))
        for name in expected:
            np.testing.assert_array_equal(windows[name], expected[name], err_msg=name)
        successor.close()
    assert done > KILLS * 3
