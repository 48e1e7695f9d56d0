"""Segments compressed: what travels from actors to shards, and what is written to disk."""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distdqn.types import Segment, named_arrays, nbytes

try:
    import zstandard
except ModuleNotFoundError:  # a machine that was set up without it: zlib packs as well, at a sixth of the speed
    zstandard = None  # type: ignore[assignment]

ZLIB, ZSTD = 1, 2
LEVEL = 1
_HEAD = struct.Struct("<4sBIIQ")  # mark, codec, CRC-32 of all else, bytes of the layout, bytes unpacked
_MARK = b"SEG1"
_OF_A_SEGMENT = ("frames", "valid", "memory", "priority", "origin")


class PackedError(ValueError):
    """Bytes that are not what `pack` gave."""


@dataclass(frozen=True)
class Packed:
    """K segments in one piece: `data` uint8 `[n]`, a head with a checksum, then the arrays, bit for bit.

    At 84 x 84 a rollout of an untrained policy is a fiftieth of its size, since most of a frame is that before.
    """

    data: np.ndarray = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.data.nbytes

    def __len__(self) -> int:
        return int(self._head()[0][0][2][0])

    def _head(self) -> tuple[list[tuple[str, str, list[int]]], int, int, memoryview]:
        """Names, dtypes and shapes, the codec, the size of all arrays, and what is compressed."""
        data = self.data.data
        if len(data) < _HEAD.size:
            raise PackedError(f"{len(data)} bytes are no packed segments")
        mark, codec, crc, layout_bytes, size = _HEAD.unpack_from(data)
        if mark != _MARK or crc != _checksum(codec, layout_bytes, size, data[_HEAD.size :]):
            raise PackedError("these packed segments are damaged: the checksum differs")
        layout = json.loads(bytes(data[_HEAD.size : _HEAD.size + layout_bytes]))
        return layout, codec, size, data[_HEAD.size + layout_bytes :]

    def unpack(self) -> Segment:
        """The segments, arrays read-only. Raises `PackedError` where a byte was changed, lost or added."""
        layout, codec, size, body = self._head()
        arrays = _cut(_decompress(codec, body, size), layout)
        whole = {name: arrays.pop(name) for name in _OF_A_SEGMENT}
        return Segment(**whole, steps=arrays)


def pack(segments: Segment) -> Packed:
    """`segments` compressed, with zstd where it is installed."""
    arrays = {name: np.ascontiguousarray(array) for name, array in named_arrays(segments).items()}
    layout = json.dumps([[name, a.dtype.str, a.shape] for name, a in arrays.items()]).encode()
    size = nbytes(segments)
    codec = ZLIB if zstandard is None else ZSTD
    compressor: Any = zlib.compressobj(LEVEL)
    if codec == ZSTD:
        compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj(size=size)
    pieces = [layout, *(compressor.compress(a.reshape(-1).view(np.uint8)) for a in arrays.values()), compressor.flush()]
    body = b"".join(pieces)
    head = _HEAD.pack(_MARK, codec, _checksum(codec, len(layout), size, body), len(layout), size)
    return Packed(np.frombuffer(head + body, np.uint8))


def _checksum(codec: int, layout_bytes: int, size: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(b"%d %d %d" % (codec, layout_bytes, size)))


def _decompress(codec: int, body: memoryview, size: int) -> bytes:
    if codec == ZSTD and zstandard is None:
        raise PackedError("these segments were packed with zstd: install zstandard")
    out = zstandard.ZstdDecompressor().decompress(body, size) if codec == ZSTD else zlib.decompress(body)
    if len(out) != size:
        raise PackedError(f"{len(out)} bytes were unpacked instead of {size}")
    return out


def _cut(data: bytes, layout: list[tuple[str, str, list[int]]]) -> dict[str, np.ndarray]:
    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        at = 0
        for name, dtype, shape in layout:
            array = np.frombuffer(data, dtype, int(np.prod(shape, dtype=np.int64)), at).reshape(shape)
            at += array.nbytes
            yield name, array

    return dict(arrays())
