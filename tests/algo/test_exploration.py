"""The epsilon ladder, the annealed epsilon, and epsilon-greedy actions."""

from __future__ import annotations

import numpy as np
import pytest

from distdqn.algo.exploration import annealed, epsilon_greedy, ladder


def test_ladder_of_the_paper() -> None:
    rungs = ladder(360)
    assert rungs.shape == (360,)
    assert rungs[0] == pytest.approx(0.4)
    assert rungs[-1] == pytest.approx(0.4**8)
    assert (np.diff(rungs) < 0).all()
    assert rungs[100] == pytest.approx(0.4 ** (1 + 7 * 100 / 359))


def test_small_ladders() -> None:
    np.testing.assert_allclose(ladder(2), [0.4, 0.4**8])
    np.testing.assert_allclose(ladder(3, 0.5, 4.0), [0.5, 0.5**3, 0.5**5])
    np.testing.assert_allclose(ladder(1), [0.4])
    np.testing.assert_allclose(ladder(4, 0.0), np.zeros(4))


def test_annealed_epsilon_of_the_paper() -> None:
    at = [annealed(steps, 1.0, 0.1, 1_000_000) for steps in (-1, 0, 250_000, 1_000_000, 5_000_000)]
    assert at == pytest.approx([1.0, 1.0, 1 - 0.25 * (1 - 0.1), 0.1, 0.1])


def test_greedy_and_uniform_slots() -> None:
    rng = np.random.default_rng(0)
    q = np.tile(np.array([0.0, 3.0, 1.0], np.float32), (3, 1))
    epsilon = np.array([0.0, 1.0, 0.3])
    counts = np.zeros((3, 3))
    for _ in range(6000):
        actions = epsilon_greedy(q, epsilon, rng)
        assert actions.dtype == np.int64
        counts[np.arange(3), actions] += 1
    shares = counts / 6000
    assert shares[0].tolist() == [0, 1, 0]
    # five standard deviations of a share of 6000 are at most 0.032
    np.testing.assert_allclose(shares[1], 1 / 3, atol=0.032)
    # the exploring third of the greedy action counts too
    np.testing.assert_allclose(shares[2], [0.1, 0.7 + 0.1, 0.1], atol=0.032)


def test_each_slot_takes_its_own_values() -> None:
    q = np.eye(5, dtype=np.float32)[[3, 0, 4, 1]]
    assert epsilon_greedy(q, np.zeros(4), np.random.default_rng(0)).tolist() == [3, 0, 4, 1]
