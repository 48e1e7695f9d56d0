"""Segments come back bit for bit, and a byte that was changed is found."""

from __future__ import annotations

import numpy as np
import pytest

from distdqn import packed as module
from distdqn.packed import Packed, PackedError, pack
from distdqn.types import Segment, named_arrays


def segments(memory: int) -> Segment:
    """Two segments of four starts and a window of two, with a field of an agent's own."""
    rng = np.random.default_rng(0)
    kept = {
        "action": rng.integers(0, 18, (2, 6)),
        "reward": np.array([[0.5, -0.0, np.nan, np.inf, 1e-45, 3.0]] * 2, np.float32),
        "terminated": rng.random((2, 6)) < 0.5,
        "last": rng.random((2, 6)) < 0.5,
        "age": rng.integers(-1, 9, (2, 6), np.int32),
        "gaze": rng.integers(0, 9, (2, 6, 3), np.int16),
    }
    return Segment(
        frames=np.repeat(rng.integers(0, 256, (2, 1, 5, 5), np.uint8), 9, axis=1),
        steps=kept,
        valid=rng.random((2, 4)) < 0.5,
        memory=rng.standard_normal((2, 2, memory), np.float32),
        priority=rng.random((2, 4), np.float32),
        origin=rng.integers(0, 9, (2, 5)),
    )


def assert_same(one: Segment, other: Segment) -> None:
    """Names, dtypes, shapes and bits."""
    arrays, others = named_arrays(one), named_arrays(other)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (others[name].dtype, others[name].shape), name
        assert array.tobytes() == others[name].tobytes(), name


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("zstd", [True, False])
def test_they_come_back_bit_for_bit(memory: int, zstd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not zstd:
        monkeypatch.setattr(module, "zstandard", None)
    whole = segments(memory)
    assert_same(pack(whole).unpack(), whole)


def test_what_does_not_lie_together_is_packed_too() -> None:
    whole = segments(3)
    swapped = Segment(**{**vars(whole), "priority": np.asfortranarray(whole.priority)})
    assert_same(pack(swapped).unpack(), whole)


def test_every_byte_that_was_changed_lost_or_added_is_found() -> None:
    data = pack(segments(3)).data
    for at in range(len(data)):
        changed = data.copy()
        changed[at] ^= 1 << at % 8
        with pytest.raises(PackedError):
            Packed(changed).unpack()
    for length in (0, 10, len(data) - 1):
        with pytest.raises(PackedError):
            Packed(data[:length]).unpack()
    with pytest.raises(PackedError):
        Packed(np.append(data, np.uint8(0))).unpack()


def test_without_zstd_its_segments_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(segments(0))
    monkeypatch.setattr(module, "zstandard", None)
    with pytest.raises(PackedError, match="install zstandard"):
        packed.unpack()
