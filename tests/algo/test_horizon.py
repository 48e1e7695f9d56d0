"""Annealed discounts and horizons."""

from __future__ import annotations

import pytest

from distdqn.algo.horizon import anneal_discount, anneal_horizon, annealed_exponentially


def test_every_step_multiplies_by_the_same_factor() -> None:
    at = [annealed_exponentially(step, 16.0, 1.0, 4) for step in (-1, 0, 1, 2, 3, 4, 100)]
    assert at == pytest.approx([16, 16, 8, 4, 2, 1, 1])
    assert annealed_exponentially(3, 7.0, 7.0, 10) == pytest.approx(7)


def test_the_horizon_of_the_paper() -> None:
    at = [anneal_horizon(step, 10, 3, 10_000) for step in (0, 5000, 10_000, 40_000)]
    assert at == [10, round((10 * 3) ** 0.5), 3, 3]
    assert all(isinstance(n, int) for n in at)


def test_the_discount_of_the_paper() -> None:
    at = [anneal_discount(step, 0.97, 0.997, 10_000) for step in (0, 2500, 5000, 10_000, 40_000)]
    assert at == pytest.approx([0.97, 1 - 0.03**0.75 * 0.003**0.25, 1 - (0.03 * 0.003) ** 0.5, 0.997, 0.997])
    # 1 - gamma = 0 has no logarithm
    assert anneal_discount(10, 0.9, 1.0, 10) == 1.0
