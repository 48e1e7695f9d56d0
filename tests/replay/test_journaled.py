"""A shard's successor has what its journal holds: all that counts, nothing else, whatever was cut off."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn.config import ReplayConfig
from distdqn.packed import PackedError, pack
from distdqn.replay import journal
from distdqn.replay.journal import Added, JournalPlace, Reprioritized, files, read
from distdqn.replay.journaled import JournaledShard
from distdqn.types import Batch, Priorities, Segment, named_arrays

Make = Callable[..., Segment]
FITS = "T=4"
CAPACITY = 6
"""Segments of four starts."""


def shard(folder: Path, number: int = 0, *, capacity: int = CAPACITY, epoch: int = 1, **more: Any) -> JournaledShard:
    """The next life of the shard whose changes up to `number` were acknowledged."""
    place = JournalPlace(str(folder), FITS, number, **more)
    return JournaledShard(place, ReplayConfig(alpha=0.6), 4 * capacity, 4, epoch, 0)


def change(shard: JournaledShard, make: Make, first: int, last: int) -> None:
    """Changes `first` to `last`, of which every third gives what was drawn new priorities."""
    for number in range(first, last + 1):
        if number % 3:
            shard.add(pack(make(2, 2 * number)), number)
        else:
            key = shard.sample((5,), 0.4, 1.0, number)[0].key
            shard.update_priorities(Priorities(key, np.arange(5, dtype=np.float32) + number), number)


def drawn(shard: JournaledShard) -> Batch:
    return shard.sample((64,), 0.4, 1.0, 1000)[0]


def assert_alike(one: JournaledShard, other: JournaledShard) -> None:
    """The same windows with the same keys and probabilities, and the same figures."""
    a, b = named_arrays(drawn(one)), named_arrays(drawn(other))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    kept = ("transitions", "mass", "nbytes", "trouble")
    assert [getattr(one.stats(), n) for n in kept] == [getattr(other.stats(), n) for n in kept]


@pytest.mark.parametrize("number", range(1, 21))
def test_a_successor_goes_on_as_if_nothing_had_been(tmp_path: Path, make_segments: Make, number: int) -> None:
    undisturbed, first = shard(tmp_path / "a"), shard(tmp_path / "b")
    change(undisturbed, make_segments, 1, number)
    change(first, make_segments, 1, number)
    in_flight = drawn(first).key
    second = shard(tmp_path / "b", number, epoch=2)
    assert_alike(second, undisturbed)
    for each in (second, undisturbed):
        each.update_priorities(Priorities(in_flight, np.ones(len(in_flight), np.float32)), number + 1)
        change(each, make_segments, number + 2, 24)
    assert second.stats().stale == 0, "its predecessor's keys stay valid"
    assert_alike(second, undisturbed)
    assert_alike(shard(tmp_path / "b", 24, epoch=3), undisturbed)


@pytest.mark.parametrize("acknowledged", [4, 5, 6, 7, 8])
def test_what_was_not_acknowledged_comes_once(tmp_path: Path, make_segments: Make, acknowledged: int) -> None:
    undisturbed, first = shard(tmp_path / "a"), shard(tmp_path / "b")
    change(undisturbed, make_segments, 1, 12)
    change(first, make_segments, 1, 8)
    second = shard(tmp_path / "b", acknowledged, epoch=2)
    change(second, make_segments, acknowledged + 1, 10)
    third = shard(tmp_path / "b", 10, epoch=3)
    change(third, make_segments, 11, 12)
    assert_alike(third, undisturbed)


def test_a_torn_tail_is_cut_at_whatever_byte(tmp_path: Path, make_segments: Make) -> None:
    undisturbed, first = shard(tmp_path / "a"), shard(tmp_path / "whole")
    change(undisturbed, make_segments, 1, 5)
    change(first, make_segments, 1, 5)
    last = files(tmp_path / "whole")[-1]
    whole = last.stat().st_size
    change(first, make_segments, 6, 6)
    assert files(tmp_path / "whole")[-1] == last
    for size in range(whole, last.stat().st_size):
        torn = tmp_path / f"torn-{size}"
        shutil.copytree(tmp_path / "whole", torn)
        os.truncate(torn / last.name, size)
        assert_alike(shard(torn, 5, epoch=2), undisturbed)
        shutil.rmtree(torn)


def test_a_file_without_a_head_holds_nothing(tmp_path: Path, make_segments: Make) -> None:
    first = shard(tmp_path)
    change(first, make_segments, 1, 4)
    (tmp_path / "00000099.journal").write_bytes(b'{"format"')
    second = shard(tmp_path, 4, epoch=2)
    assert_alike(second, first)
    change(second, make_segments, 5, 6)
    assert_alike(shard(tmp_path, 6, epoch=3), second)


def test_a_damaged_byte_costs_what_stands_after_it_in_its_file(tmp_path: Path, make_segments: Make) -> None:
    first = shard(tmp_path)
    for number in range(1, 4):
        first.add(pack(make_segments(1, number, all_valid=True)), number)
    path = files(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)
    second = shard(tmp_path, 3, epoch=2)
    assert set(drawn(second).origin[:, 2]) == {1, 3}
    assert second.stats().transitions == 8
    assert [c.insertion for c in read(tmp_path) if isinstance(c, Added)] == [0, 2]


def test_files_go_once_nothing_in_them_is_needed(tmp_path: Path, make_segments: Make) -> None:
    first = shard(tmp_path)
    for number in range(1, 60):
        first.add(pack(make_segments(1, number)), number)
        if number % 4 == 0:
            first.cut(saved=number > 20)
            assert first.stats().journal_bytes == sum(p.stat().st_size for p in files(tmp_path))
            held = [c.insertion for c in read(tmp_path) if isinstance(c, Added)]
            wanted = max(0, number - CAPACITY - 4) if number > 20 else 0
            assert held == list(range(wanted, number)), "from the cut of the last saved one on, and no more"
    without = shard(tmp_path / "without")
    for number in range(1, 200):
        without.add(pack(make_segments(1, number % 30)), number)
        kept = len(files(tmp_path / "without"))
        assert kept <= journal.MOST_RINGS * CAPACITY + 2, "where no checkpoint comes the disk is not filled"
    assert_alike(shard(tmp_path / "without", 199), without)


def test_a_ring_that_turns_over_between_checkpoints_leaves_what_the_last_one_needs(
    tmp_path: Path, make_segments: Make
) -> None:
    undisturbed, first = shard(tmp_path / "a"), shard(tmp_path / "b")
    for number in range(1, 9):
        undisturbed.add(pack(make_segments(1, number)), number)
        first.add(pack(make_segments(1, number)), number)
    first.cut(True)
    for number in range(9, 9 + 5 * CAPACITY):
        first.add(pack(make_segments(1, number)), number)
    assert_alike(shard(tmp_path / "b", 8, epoch=2), undisturbed)


def test_a_predecessor_that_still_writes_gives_way(tmp_path: Path, make_segments: Make) -> None:
    first = shard(tmp_path)
    change(first, make_segments, 1, 4)
    second = shard(tmp_path, 4, epoch=2)
    change(first, make_segments, 5, 20)  # the successor does not know of these
    change(second, make_segments, 5, 8)
    assert_alike(shard(tmp_path, 8, epoch=3), second)


def test_a_disk_that_cannot_be_read_costs_the_replay_and_no_more(
    tmp_path: Path, make_segments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(shard(tmp_path), make_segments, 1, 4)

    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("distdqn.replay.journaled.read", broken)
    second = shard(tmp_path, 4, epoch=2)
    assert second.stats().transitions == 0 and os.strerror(errno.EIO) in second.stats().trouble
    change(second, make_segments, 5, 8)
    assert second.stats().transitions > 0


def test_a_full_disk_turns_it_off_and_the_shard_goes_on(
    tmp_path: Path, make_segments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, first = shard(tmp_path / "a"), shard(tmp_path / "b")
    change(undisturbed, make_segments, 1, 8)
    change(first, make_segments, 1, 4)
    write, room = os.writev, [100]

    def writev(descriptor: int, buffers: list[Any]) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, b"".join(buffers)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "writev", writev)
    change(first, make_segments, 5, 8)
    monkeypatch.setattr(os, "writev", write)
    assert "given up" in first.stats().trouble and first.stats().journal_bytes == 0
    assert files(tmp_path / "b") == []
    assert_alike(replace_trouble(first), undisturbed)
    second = shard(tmp_path / "b", 8, epoch=2)
    assert second.stats().transitions == 0 and "ends with change 0 of 8" in second.stats().trouble
    change(second, make_segments, 10, 11)
    assert drawn(second).key[0] >> 51 == 2, "other contents have keys of their own"


def replace_trouble(shard: JournaledShard) -> JournaledShard:
    shard._journal.trouble = ""
    return shard


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, make_segments: Make) -> None:
    (tmp_path / "file").write_text("")
    first = shard(tmp_path / "file" / "shard")
    change(first, make_segments, 1, 2)
    assert "given up" in first.stats().trouble and first.stats().transitions > 0


def test_segments_of_another_kind_are_left(tmp_path: Path, make_segments: Make) -> None:
    change(shard(tmp_path), make_segments, 1, 4)
    place = JournalPlace(str(tmp_path), "T=8", 4)
    other = JournaledShard(place, ReplayConfig(), 4 * CAPACITY, 4, 2, 0)
    assert other.stats().transitions == 0 and "of another kind" in other.stats().trouble
    change(other, make_segments, 5, 5)
    assert len(list(read(tmp_path, fits="T=8"))) == 1


def test_without_what_unpacks_it_a_journal_stays_and_says_what_is_missing(
    tmp_path: Path, make_segments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(shard(tmp_path), make_segments, 1, 4)
    with monkeypatch.context() as without:
        without.setattr("distdqn.packed.zstandard", None)
        with pytest.raises(PackedError, match="install zstandard"):
            shard(tmp_path, 4, epoch=2)
    assert shard(tmp_path, 4, epoch=3).stats().transitions > 0


@pytest.mark.parametrize("number", [1, 2, 5])
def test_another_number_of_shards_takes_over_everything(tmp_path: Path, make_segments: Make, number: int) -> None:
    before = [shard(tmp_path / f"shard-{i}-of-9", epoch=i) for i in range(2)]
    for i, each in enumerate(before):
        change(each, make_segments, 1 + 6 * i, 6 + 6 * i)
    sources = tuple((str(tmp_path / f"shard-{i}-of-9"), 6 + 6 * i) for i in range(2))
    args = [{"sources": sources, "share": (i, number), "capacity": 2 * CAPACITY} for i in range(number)]
    after = [shard(tmp_path / f"shard-{i}-of-{number}", 1, epoch=9, **more) for i, more in enumerate(args)]
    assert [s.stats().trouble for s in after] == [""] * number
    assert contents(after) == contents(before)
    change(after[0], make_segments, 2, 5)
    assert_alike(shard(tmp_path / f"shard-0-of-{number}", 5, capacity=2 * CAPACITY, epoch=10), after[0])
    again = [shard(tmp_path / f"shard-{i}-of-{number}", 1, epoch=9, **more) for i, more in enumerate(args)]
    assert contents(again) == contents(before), "one that was killed over it begins anew"
    again[0].cut(True, taken_over=True)
    assert {p.name.partition("-of-")[2] for p in tmp_path.iterdir()} == {str(number)}


def contents(shards: list[JournaledShard]) -> list[tuple[list[int], list[float]]]:
    """Provenance and weights of every segment held, in whatever order."""
    found = []
    for each in shards:
        weights = each._tree.leaves.reshape(-1, 4)
        origin = each._ring._arrays["origin"]
        found += [(origin[place].tolist(), weights[place].tolist()) for place in range(len(each._ring))]
    return sorted(found)


def test_who_reads_it_gets_what_was_added_and_given(tmp_path: Path, make_segments: Make) -> None:
    first = shard(tmp_path)
    segments = replace(make_segments(2, 7, all_valid=True), priority=np.ones((2, 4), np.float32))
    first.add(segments, 1)
    first.update_priorities(Priorities(np.array([(1 << 51) | (1 << 15) | 3]), np.array([9.0], np.float32)), 2)
    added, given = read(tmp_path)
    assert isinstance(added, Added) and isinstance(given, Reprioritized)
    np.testing.assert_array_equal(added.segments.frames, segments.frames)
    assert (added.number, added.insertion, given.number) == (1, 0, 2)
    assert (given.insertion.tolist(), given.offset.tolist(), given.priority.tolist()) == ([1], [3], [9.0])
    assert journal.FILES == 64
