"""The epsilon ladder, the annealed epsilon, the actions drawn, and the mixture of discounts."""

from __future__ import annotations

import numpy as np
import pytest

from distdqn.algo.exploration import annealed, boltzmann, epsilon_greedy, ladder, ngu_mixture, spread


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


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_boltzmann_frequencies(temperature: float) -> None:
    q = np.array([[0.0, 1.0, -1.0], [1e6, 1e6 + 1, 1e6 - 1]], np.float32)
    draws = 20_000
    actions = boltzmann(np.repeat(q, draws, axis=0), temperature, np.random.default_rng(0))
    assert actions.dtype == np.int64
    weights = np.exp(q[0] / temperature)
    for row in actions.reshape(2, draws):  # a constant added to all values changes nothing
        # five standard deviations of a share of 20,000 are at most 0.018
        np.testing.assert_allclose(np.bincount(row, minlength=3) / draws, weights / weights.sum(), atol=0.018)


def test_a_cold_boltzmann_is_greedy() -> None:
    q = 100 * np.eye(5, dtype=np.float32)[[3, 0, 4, 1]]
    with np.errstate(all="raise"):
        assert boltzmann(q, 1e-6, np.random.default_rng(0)).tolist() == [3, 0, 4, 1]


def test_ngu_mixture_of_the_paper() -> None:
    betas, discounts = ngu_mixture(32, 0.3, 0.997, 0.99)
    assert betas.shape == discounts.shape == (32,)
    for j in range(32):
        beta = 0.3 / (1 + np.exp(-10 * (2 * j - 30) / 30))
        gamma = 1 - np.exp(((31 - j) * np.log(1 - 0.997) + j * np.log(1 - 0.99)) / 31)
        assert betas[j] == pytest.approx({0: 0.0, 31: 0.3}.get(j, beta))
        assert discounts[j] == pytest.approx(gamma)
    assert betas[15] == pytest.approx(0.3 / 2)


def test_small_ngu_mixtures() -> None:
    for mixtures, betas, discounts in (
        (1, [0.3], [0.997]),
        (2, [0, 0.3], [0.997, 0.97]),
        (3, [0, 0.3 / (1 + np.exp(-10)), 0.3], [0.997, 1 - (0.003 * 0.03) ** 0.5, 0.97]),
    ):
        got = ngu_mixture(mixtures, 0.3, 0.997, 0.97)
        np.testing.assert_allclose(got[0], betas)
        np.testing.assert_allclose(got[1], discounts)
    # without discounting, 1 - gamma has no logarithm
    assert ngu_mixture(3, 0.3, 1.0, 0.5)[1].tolist() == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100])
def test_every_beginning_of_the_spread_covers_the_places_evenly(count: int) -> None:
    order = spread(count)
    assert sorted(order) == list(range(count)) and order[0] == 0
    for n in range(1, count + 1):
        edges = [0, *sorted(order[:n]), count]
        assert max(np.diff(edges)) <= max(1, 2 * 2 * count / n)  # no gap is much wider than an even one


def test_the_spread_is_van_der_corputs() -> None:
    assert spread(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert spread(6).tolist() == [0, 4, 2, 1, 5, 3]
