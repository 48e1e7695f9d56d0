"""The equations of Never Give Up's intrinsic reward, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.novelty import episodic_bonus, modulator, nearest, similarity


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_nearest_by_hand() -> None:
    memory = np.array([[3, 4], [1, 0], [0, -2]], np.float32)
    assert sorted(nearest(f32(0, 0), memory, 2)) == [1**2, 2**2]
    assert sorted(nearest(f32(0, 1), memory, 3)) == [1**2 + 1**2, 3**2 + 0**2, 3**2 + 3**2]
    assert sorted(nearest(f32(0, 0), memory, 5)) == [1, 4, 3**2 + 4**2, math.inf, math.inf]
    assert nearest(f32(0, 0), memory[:0], 2).tolist() == [math.inf, math.inf]


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 20), st.integers(0, 10_000))
def test_nearest_against_a_loop(held: int, neighbours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    memory, x = rng.integers(-3, 4, (held, 3)).astype(np.float32), rng.integers(-3, 4, 3).astype(np.float32)
    every = sorted(sum((float(a) - float(b)) ** 2 for a, b in zip(x, m, strict=True)) for m in memory)
    got = nearest(x, memory, neighbours)
    assert (got.shape, got.dtype) == ((neighbours,), np.float32)
    assert sorted(got) == (every + [math.inf] * neighbours)[:neighbours]


def test_similarity_by_hand() -> None:
    # over a mean of 2: 0, 0.5 and 1.5; less the cluster distance: 0, 0.492 and 1.492
    kernels = 1 + 0.001 / (0.492 + 0.001) + 0.001 / (1.492 + 0.001)
    got = similarity(np.array([[0, 1, 3], [0, 0, 0]], np.float32), 2.0)
    assert got == pytest.approx([math.sqrt(kernels) + 0.001, math.sqrt(3) + 0.001], rel=1e-5)


def test_neighbours_within_the_cluster_distance_are_the_same_state() -> None:
    assert similarity(f32(2 * 0.0079), 2.0) == pytest.approx(math.sqrt(1) + 0.001)
    # half an epsilon beyond it: K = 0.001 / (0.0005 + 0.001)
    assert similarity(f32(2 * 0.0085), 2.0) == pytest.approx(math.sqrt(0.001 / 0.0015) + 0.001, rel=1e-3)


def test_missing_neighbours_are_at_the_mean_distance() -> None:
    assert similarity(f32(1, np.inf, np.inf), 4.0) == pytest.approx(float(similarity(f32(1, 4, 4), 4.0)))
    at_mean = 0.001 / (1 - 0.008 + 0.001)
    assert similarity(f32(np.inf, np.inf), 0.0) == pytest.approx(math.sqrt(2 * at_mean) + 0.001, rel=1e-5)


def test_what_is_no_number_stays_so() -> None:
    assert np.isnan(episodic_bonus(similarity(f32(1, np.nan), 1.0)))


def test_a_mean_of_zero_makes_all_the_same_state() -> None:
    assert similarity(f32(0, 0), 0.0) == pytest.approx(math.sqrt(2) + 0.001)


def test_episodic_bonus() -> None:
    assert episodic_bonus(np.array([0.5, 4.0, 8.0, 8.001])).tolist() == [2.0, 0.25, 0.125, 0.0]
    # n visits of one state, the reward of a count: 1 / sqrt(n)
    for n in (1, 4, 49):
        assert episodic_bonus(similarity(np.zeros(n, np.float32), 1.0)) == pytest.approx(1 / (math.sqrt(n) + 0.001))
    assert episodic_bonus(similarity(np.zeros(64, np.float32), 1.0)) == 0


def test_modulator() -> None:
    # 1 + (5 - 3) / 4; below the mean it is 1; 1 + (43 - 3) / 4 = 11 is above L
    got = modulator(f32(5, 2, 43), 3.0, 4.0, 5.0)
    assert (got.tolist(), got.dtype) == ([1 + 2 / 4, 1.0, 5.0], np.float32)
    assert modulator(f32(3), 3.0, 0.0, 5.0).tolist() == [1.0]
    assert modulator(f32(43), 3.0, 4.0, 1.0).tolist() == [1.0]
