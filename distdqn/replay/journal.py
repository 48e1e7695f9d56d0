"""A shard's journal: what it was given, on disk before it answers, so that its successor has it again.

A folder of files `00000000.journal`, `00000001.journal`, ..., each appended to and then left alone:

    head      JSON and its CRC-32, one line: format, fits, epoch, segments, insertion, after
    records   length, CRC-32, kind, number; then `length` bytes

Every change of a shard has a number, given by who asks for it, in the order in which they are asked. A record of kind
ADD is one `Packed`, PRIORITIES are the windows (insertion and offset of their keys) int64 `[n]` and their absolute TD
errors float32 `[n]`. `insertion` is that of the file's first segment, `epoch` that of the keys given out,
`segments` what the ring holds. `after` is the last change before this file that counts: whatever stands in earlier
files with a higher number was never acknowledged, and was asked for again.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distdqn.packed import Packed
from distdqn.replay.storage import OFFSET_BITS
from distdqn.types import Segment

ADD, PRIORITIES = 1, 2
FILES = 64
"""A full ring lies in about so many files, each of which goes once nothing in it is needed any more."""
MOST_RINGS = 16
"""Where no checkpoint is saved for long, the disk is not filled with more."""
_RECORD = struct.Struct("<IIIQ")  # length, CRC-32 of the rest of the record, kind, number
_FORMAT = 1


@dataclass(frozen=True)
class JournalPlace:
    """Where a shard's journal is, and what of it counts.

    Attributes:
        folder: of this shard alone. fits: what its segments are like, as text: others are of no use.
        number: changes that count. 0: none, and what is there goes.
        sources: folders of the shards of another layout and the changes of each that count, from which this one takes
            every `share[1]`-th segment from the `share[0]`-th on.
    """

    folder: str
    fits: str
    number: int = 0
    sources: tuple[tuple[str, int], ...] = ()
    share: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class Added:
    """K segments, `packed`, whose insertion numbers begin with `insertion`."""

    number: int
    insertion: int
    packed: Packed

    @property
    def segments(self) -> Segment:
        """Unpacked."""
        return self.packed.unpack()


@dataclass(frozen=True)
class Reprioritized:
    """Absolute TD errors float32 `[n]` of the windows at `offset` int64 `[n]` of segments `insertion` int64 `[n]`."""

    number: int
    insertion: np.ndarray
    offset: np.ndarray
    priority: np.ndarray


class JournalError(ValueError):
    """A journal whose segments are of another kind; the message says which."""


class Journal:
    """Writes the journal in a folder. It never raises: where the disk refuses it is given up, its files go, `trouble`
    says why, and the shard goes on without.

    Args:
        epoch: of the shard's keys. count: segments ever added before. segments: that the ring holds.
    """

    def __init__(self, place: JournalPlace, epoch: int, count: int, segments: int) -> None:
        self.place, self.epoch, self.trouble = place, epoch, ""
        self._folder, self._each = Path(place.folder), max(1, segments // FILES)
        self._segments, self._count, self._number = segments, count, place.number
        self._file: Any = None
        self._files: list[tuple[Path, int, int]] = []
        """Path, bytes, and the insertion number after its last segment, of each earlier file."""
        self._needed = self._evicted = 0
        """Insertion numbers below which nothing is needed by the checkpoint of the last cut that was saved, and by that
        of the last cut."""
        self._first = count
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            found = heads(self._folder)
            ends = [*(head["insertion"] for _, head in found[1:]), count]
            self._files = [(p, p.stat().st_size, end) for (p, _), end in zip(found, ends, strict=False)]
            self._open()
        except OSError as error:
            self._give_up(error)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return 0 if self._file is None else sum(n for _, n, _ in self._files) + self._file.tell()

    def add(self, number: int, packed: Packed, count: int) -> None:
        """Writes down the segments of change `number`, `count` of them."""
        if self._count - self._first >= self._each:
            self._next()
        self._write(ADD, number, packed.data.data)
        self._count += count

    def prioritize(self, number: int, window: np.ndarray, priority: np.ndarray) -> None:
        """Writes down the priorities of change `number`: `window` int64 `[n]` is the keys' insertion and offset."""
        self._write(PRIORITIES, number, window.astype("<i8").tobytes() + priority.astype("<f4").tobytes())

    def cut(self, saved: bool) -> None:
        """Makes what was written outlive the machine. Where the checkpoint of the cut before was `saved`, a resume goes
        back to that at the earliest, and what was evicted by then goes."""
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            if saved:
                self._needed = self._evicted
                self._drop(self._needed)
            self._evicted = self._count - self._segments
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Ends writing; what was written stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, kind: int, number: int, payload: bytes | memoryview) -> None:
        if self._file is None:
            return
        self._number = max(self._number, number)
        head = _RECORD.pack(len(payload), _checksum(kind, number, payload), kind, number)
        try:
            if (n := os.writev(self._file.fileno(), [head, payload])) != len(head) + len(payload):
                raise OSError(f"only {n} bytes of a record were written")
        except OSError as error:
            self._give_up(error)

    def _next(self) -> None:
        """Goes on in a new file."""
        if self._file is None:
            return
        if files(self._folder)[-1:] != [Path(self._file.name)]:  # somebody has taken this one's place
            self.close()
            return
        try:
            os.fsync(self._file.fileno())
            self._files.append((Path(self._file.name), self._file.tell(), self._count))
            self._file.close()
            least = self._count - MOST_RINGS * self._segments
            self._drop(min(self._count - 2 * self._segments, max(self._needed, least)))
            self._open()
        except OSError as error:
            self._give_up(error)

    def _open(self) -> None:
        head = {"format": _FORMAT, "fits": self.place.fits, "epoch": self.epoch, "segments": self._segments}
        line = json.dumps({**head, "insertion": self._count, "after": self._number}).encode()
        index = 1 + max((int(path.stem) for path in files(self._folder)), default=-1)
        # "x": a predecessor that cannot be reached, and so was replaced, may still be writing
        self._file = open(self._folder / f"{index:08d}.journal", "xb", buffering=0)  # noqa: SIM115
        self._first = self._count
        self._file.write(line + b" %08x\n" % zlib.crc32(line))

    def _drop(self, needed: int) -> None:
        while self._files and self._files[0][2] <= needed:
            self._files.pop(0)[0].unlink(missing_ok=True)

    def _give_up(self, error: Exception) -> None:
        self.trouble = f"the replay journal is given up, the run goes on without ({error})"
        own = [path for path, *_ in self._files] + ([Path(self._file.name)] if self._file is not None else [])
        self.close()
        for path in own:
            with suppress(OSError):
                path.unlink()


def files(folder: Path) -> list[Path]:
    """The files of a journal, oldest first."""
    return sorted(folder.glob("*.journal"))


def clear(folder: Path) -> None:
    """Removes a journal."""
    for path in files(folder):
        path.unlink(missing_ok=True)


def heads(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The files of a journal with their heads, oldest first; one whose head is not whole has nothing to tell."""
    return [(path, head) for path in files(folder) if (head := _head(path)) is not None]


def read(folder: Path, number: int | None = None, fits: str | None = None) -> Iterator[Added | Reprioritized]:
    """The changes in a journal, in order, up to change `number`. A record that was not written to its end, or is
    damaged, ends its file; the segments after it keep their insertion numbers.

    Raises:
        JournalError: its segments are others than `fits` says.
    """
    found, limits = heads(folder), [number if number is not None else 2**63]
    for _, head in reversed(found):
        limits.append(min(limits[-1], head["after"]))
    for (path, head), limit in zip(found, reversed(limits[:-1]), strict=True):
        if fits is not None and head["fits"] != fits:
            raise JournalError(f"{folder} holds segments of another kind")
        yield from _records(path, head["insertion"], limit)


def _records(path: Path, insertion: int, limit: int) -> Iterator[Added | Reprioritized]:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:  # of a run that goes on, in which it is no longer needed
        return
    with file:
        file.readline()
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            length, crc, kind, number = _RECORD.unpack(head)
            payload = file.read(length)
            if len(payload) != length or crc != _checksum(kind, number, payload) or number > limit:
                return
            if kind == PRIORITIES:
                n = length // 12
                window, priority = np.frombuffer(payload, "<i8", n), np.frombuffer(payload, "<f4", n, 8 * n)
                yield Reprioritized(number, window >> OFFSET_BITS, window & ((1 << OFFSET_BITS) - 1), priority)
                continue
            packed = Packed(np.frombuffer(payload, np.uint8))
            yield Added(number, insertion, packed)
            insertion += len(packed)


def _head(path: Path) -> dict[str, Any] | None:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        line, _, crc = file.readline(1 << 16).rstrip(b"\n").rpartition(b" ")
    if crc != b"%08x" % zlib.crc32(line):
        return None
    head: dict[str, Any] = json.loads(line)
    return head if head["format"] == _FORMAT else None


def _checksum(kind: int, number: int, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(b"%d %d" % (kind, number)))
