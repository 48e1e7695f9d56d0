"""One shard: weights, importance, priorities that arrive late, bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.config import ReplayConfig
from distdqn.packed import pack
from distdqn.replay.shard import ReplayShard
from distdqn.replay.storage import pack_keys
from distdqn.types import Priorities, Segment, named_arrays

Make = Callable[..., Segment]
PRIORITIZED, UNIFORM = ReplayConfig(kind="prioritized", alpha=0.6), ReplayConfig(kind="uniform")


def make_shard(config: ReplayConfig = PRIORITIZED, segments: int = 3, starts: int = 4, epoch: int = 1) -> ReplayShard:
    return ReplayShard(config, capacity=segments * starts, segment_steps=starts, epoch=epoch, seed=0)


def weights_of(shard: ReplayShard) -> np.ndarray:
    return shard._tree.leaves.copy()


def key(epoch: int, insertion: int, offset: int) -> np.ndarray:
    return pack_keys(epoch, np.array([insertion]), np.array([offset]))


def update(shard: ReplayShard, keys: list[np.ndarray], priorities: list[float]) -> None:
    shard.update_priorities(Priorities(np.concatenate(keys), np.array(priorities, np.float32)))


def test_mass_is_the_sum_of_weights_of_valid_starts(make_segments: Make) -> None:
    segment = replace(
        make_segments(1),
        valid=np.array([[True, False, True, True]]),
        priority=np.array([[0.0, np.nan, 1.0, 8.0]], np.float32),
    )
    eps = 1e-6
    stats = make_shard().add(segment)
    assert stats.mass == pytest.approx((0 + eps) ** 0.6 + (1 + eps) ** 0.6 + (8 + eps) ** 0.6)
    assert (stats.transitions, stats.added, stats.evicted) == (3, 3, 0)
    assert make_shard(UNIFORM).add(segment).mass == 3


def test_importance_and_the_rows_of_each_minibatch(make_segments: Make) -> None:
    segment = replace(make_segments(1, all_valid=True), priority=np.array([[1.0, 2.0, 3.0, 4.0]], np.float32))
    shard = make_shard(ReplayConfig(alpha=1.0))
    shard.add(segment)
    batch, stats = shard.sample((3, 0, 5), beta=0.5, share=0.25)
    assert batch.sizes == (3, 0, 5)
    assert len(batch) == stats.sampled == 8
    offsets = batch.origin[:, 5]
    np.testing.assert_array_equal(batch.action, segment.action[0][offsets[:, None] + np.arange(2)])
    # weights 1, 2, 3, 4 of 10, a quarter of the system's mass: P = 0.25 * p / 10, importance P^-1/2
    np.testing.assert_allclose(batch.importance, (0.25 * (offsets + 1) / 10) ** -0.5, rtol=1e-6)
    assert batch.importance.dtype == np.float32
    np.testing.assert_array_equal(batch.key, pack_keys(1, np.zeros(8, np.int64), offsets))


def test_importance_stays_finite(make_segments: Make) -> None:
    segment = replace(make_segments(1, all_valid=True), priority=np.array([[0, 0, 0, 3e38]], np.float32))
    shard = make_shard(ReplayConfig(alpha=1.0))
    shard.add(segment)
    batch, _ = shard.sample((100,), beta=1.0, share=1e-9)
    assert np.isfinite(batch.importance).all()


def test_uniform_draws_all_valid_starts_alike(make_segments: Make) -> None:
    segments = make_segments(3)
    shard = make_shard(UNIFORM)
    stats = shard.add(segments)
    batch, _ = shard.sample((4000,), beta=0.4)
    assert (batch.importance == 1).all()
    starts, counts = np.unique(batch.origin[:, [2, 5]], axis=0, return_counts=True)
    assert len(starts) == stats.transitions == segments.valid.sum()
    expected = 4000 / stats.transitions
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()
    update(shard, [batch.key[:2]], [100.0, np.nan])
    assert (shard.stats().applied, shard.stats().mass) == (2, stats.mass)


def test_an_empty_shard_says_so(make_segments: Make) -> None:
    shard = make_shard()
    with pytest.raises(ValueError, match="empty"):
        shard.sample((1,), beta=0.4)
    shard.add(replace(make_segments(1), valid=np.zeros((1, 4), np.bool_)))
    with pytest.raises(ValueError, match="empty"):
        shard.sample((1,), beta=0.4)


@pytest.mark.parametrize(("sizes", "share"), [((2, -1), 1.0), ((1,), 0.0), ((1,), 1.5), ((1,), np.nan)])
def test_refuses_impossible_draws(make_segments: Make, sizes: tuple[int, ...], share: float) -> None:
    shard = make_shard()
    shard.add(make_segments(1, all_valid=True))
    with pytest.raises(ValueError, match=r"sizes|share"):
        shard.sample(sizes, beta=0.4, share=share)


def test_new_priorities_replace_the_old_and_the_last_wins(make_segments: Make) -> None:
    shard = make_shard(ReplayConfig(alpha=1.0))
    shard.add(replace(make_segments(1, all_valid=True), priority=np.ones((1, 4), np.float32)))
    update(shard, [key(1, 0, 2), key(1, 0, 0), key(1, 0, 2)], [7.0, 5.0, 3.0])
    assert shard.stats().mass == pytest.approx(5 + 1 + 3 + 1 + 4e-6, rel=1e-12)
    assert (shard.stats().applied, shard.stats().stale) == (3, 0)


def test_late_priorities_are_counted_and_never_applied(make_segments: Make) -> None:
    shard = make_shard(segments=2)
    shard.add(make_segments(3, all_valid=True))  # insertion 0 is evicted, 1 and 2 are held
    shard.add(replace(make_segments(1), valid=np.array([[True, False, True, True]])))  # now 2 and 3
    before = weights_of(shard)
    stale = [
        key(1, 0, 1),  # evicted long ago
        key(1, 1, 1),  # evicted just now: its place holds insertion 3
        key(1, 4, 0),  # not yet added
        key(0, 2, 0),  # the shard before this one
        key(2, 2, 0),
        key(1, 3, 1),  # not a valid start
        key(1, 2, 4),  # beyond the segment's starts
        np.array([-1]),
    ]
    update(shard, stale, [9.0] * len(stale))
    np.testing.assert_array_equal(weights_of(shard), before)
    assert (shard.stats().applied, shard.stats().stale) == (0, len(stale))
    update(shard, [key(1, 2, 0)], [9.0])
    assert (shard.stats().applied, shard.stats().stale) == (1, len(stale))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_refuses_priorities_that_are_none(make_segments: Make, bad: float) -> None:
    shard = make_shard()
    shard.add(make_segments(1, all_valid=True))
    before = shard.stats()
    with pytest.raises(ValueError, match="absolute TD errors"):
        update(shard, [key(1, 0, 0), key(1, 0, 1)], [50.0, bad])
    with pytest.raises(ValueError, match="absolute TD errors"):
        shard.add(replace(make_segments(1, all_valid=True), priority=np.full((1, 4), bad, np.float32)))
    assert replace(shard.stats(), rss=0) == replace(before, rss=0)


@settings(max_examples=60, deadline=None)
@given(segments=st.integers(1, 4), adds=st.lists(st.integers(0, 9), min_size=1, max_size=10), uniform=st.booleans())
def test_counts_of_any_sequence_of_adds(make_segments: Make, segments: int, adds: list[int], uniform: bool) -> None:
    config = UNIFORM if uniform else PRIORITIZED
    shard, valid, weights = make_shard(config, segments), np.zeros((0, 4), np.bool_), np.zeros((0, 4))
    for number in adds:
        new = make_segments(number, len(valid))
        stats = shard.add(new)
        valid = np.concatenate([valid, new.valid])
        weights = np.concatenate([weights, new.valid * (new.priority.astype(np.float64) + 1e-6) ** 0.6])
        assert stats.added == valid.sum()
        assert stats.transitions == valid[-segments:].sum()
        assert stats.transitions == stats.added - stats.evicted
        assert stats.mass == pytest.approx((valid if uniform else weights)[-segments:].sum(), rel=1e-12)
        if stats.transitions:
            batch, _ = shard.sample((20,), beta=0.4)
            slots, offsets = batch.origin[:, 2], batch.origin[:, 5]
            assert (slots >= len(valid) - segments).all()
            assert valid[slots, offsets].all()


def test_sample_age_is_exact(make_segments: Make) -> None:
    shard = make_shard(segments=3)
    none, one = np.zeros((1, 4), np.bool_), np.array([[False, True, False, False]])
    shard.add(replace(make_segments(1), valid=one))
    assert shard.sample((3,), beta=0.4)[1].sample_age == 0
    shard.add(replace(make_segments(2, all_valid=True), priority=np.zeros((2, 4), np.float32)))
    # the first segment's start outweighs the eight added since, whose weight is 1e-6^0.6 each
    update(shard, [key(1, 0, 1)], [1e9])
    assert shard.sample((3,), beta=0.4)[1].sample_age == 8
    shard.add(replace(make_segments(1), valid=none))
    shard.add(replace(make_segments(1), valid=none))
    # what is left is the second of the two that came together: none were added since
    assert shard.sample((3,), beta=0.4)[1].sample_age == 0


def test_a_start_of_sequences_counts_as_its_stride(make_segments: Make) -> None:
    shard = ReplayShard(UNIFORM, capacity=2 * 6, segment_steps=6, epoch=0, seed=0, stride=3)
    every_third = np.zeros((2, 6), np.bool_)
    every_third[:, ::3] = True
    first = replace(make_segments(2, starts=6, groups=2), valid=every_third)
    stats = shard.add(first)
    assert (stats.transitions, stats.added, stats.evicted, stats.mass) == (12, 12, 0, 4)
    batch, stats = shard.sample((40,), beta=0.4)
    assert stats.sampled == 40, "windows, not steps"
    # those of the first segment came 2 starts before the second's; each start stands for 3 transitions
    slots, offsets = batch.origin[:, 2], batch.origin[:, 5]
    assert stats.sample_age == pytest.approx(3 * 2 * (slots == 0).mean())
    assert set(offsets) == {0, 3}
    np.testing.assert_array_equal(batch.memory, first.memory[slots, offsets // 3])
    one = np.zeros((1, 6), np.bool_)
    one[0, 3] = True
    stats = shard.add(replace(make_segments(1, 2, starts=6, groups=2), valid=one))
    assert (stats.transitions, stats.added, stats.evicted) == (2 * 3 + 3, 4 * 3 + 3, 2 * 3)


@pytest.mark.parametrize("segments", [16, 17])
def test_a_transition_costs_at_most_7800_bytes(make_segments: Make, segments: int) -> None:
    # 16 * 64 leaves fill their tree, 17 * 64 are the worst case: the next power of two is almost the double.
    shard = make_shard(segments=segments, starts=64)
    stats = shard.add(make_segments(segments, starts=64, steps=3, stack=4, shape=(84, 84), all_valid=True))
    frames, steps = (3 + 64 + 3) * 84 * 84, (64 + 3) * (8 + 4 + 1 + 1 + 4)
    segment = frames + steps + 64 + 3 * 4 + 5 * 8
    tree = 2 * 8 * (1024 if segments == 16 else 2048)
    assert stats.nbytes == segments * (segment + 8) + tree
    assert stats.nbytes / stats.transitions <= 7800


def test_a_draw_that_is_asked_again_gives_the_same_windows(make_segments: Make) -> None:
    shard = make_shard()
    shard.add(make_segments(3))
    keys = [shard.sample((8,), 0.4, 1.0, number)[0].key.tolist() for number in (5, 6, 5)]
    assert keys[0] == keys[2] != keys[1]
    assert shard.sample((8,), 0.4)[0].key.tolist() == keys[1], "a draw without a number follows on the last"
    with pytest.raises(ValueError, match="epoch"):
        make_shard(epoch=4096)


def test_packed_segments_are_stored_as_they_were(make_segments: Make) -> None:
    plain, packed = make_shard(), make_shard()
    for first in (0, 2):
        segments = make_segments(2, first)
        plain.add(segments)
        packed.add(pack(segments))
    for array, other in zip(
        *(named_arrays(s.sample((9,), 0.4, 1.0, 0)[0]).values() for s in (plain, packed)), strict=True
    ):
        np.testing.assert_array_equal(array, other)
    assert 0 < packed.stats().bytes_in != plain.stats().bytes_in
    assert packed.stats().bytes_out == plain.stats().bytes_out > 0


def test_a_shard_smaller_than_a_segment_holds_one(make_segments: Make) -> None:
    shard = ReplayShard(PRIORITIZED, capacity=3, segment_steps=4, epoch=0, seed=0)
    assert shard.add(make_segments(3, all_valid=True)).transitions == 4
