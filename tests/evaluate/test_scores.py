"""Scores by hand arithmetic and against SciPy's definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.envs.atari import games
from distdqn.evaluate.scores import bootstrap_interval, human_normalised, interquartile_mean, random_and_human


def test_human_normalised_by_hand() -> None:
    # Wang et al. 2016, table 2: Pong random -20.7, human 14.6; Breakout random 1.7, human 30.5
    assert human_normalised("pong", -20.7) == pytest.approx(0)
    assert human_normalised("pong", 14.6) == pytest.approx(1)
    assert human_normalised("pong", 21.0) == pytest.approx((21 + 20.7) / (14.6 + 20.7))
    assert human_normalised("breakout", 400.0) == pytest.approx((400 - 1.7) / (30.5 - 1.7))
    assert human_normalised("no_such_game", 1.0) is None


def test_the_table_has_57_games_that_can_be_played() -> None:
    table = random_and_human()
    assert len(table) == 57
    assert set(table) <= set(games())
    assert all(human != random for random, human in table.values())


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean(np.array([100.0, 3, -50, 5])) == (3 + 5) / 2
    assert interquartile_mean(np.array([[1.0, 2, 3, 4], [5, 6, 7, 1000]])) == (3 + 4 + 5 + 6) / 4
    # of five, a quarter rounded down is one from each end
    assert interquartile_mean(np.array([9.0, 1, 2, 3, 4])) == (2 + 3 + 4) / 3
    assert interquartile_mean(np.array([1.0, 5, 9])) == 5
    assert interquartile_mean(np.array([7])) == 7


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_interquartile_mean_equals_a_loop(scores: list[float]) -> None:
    left = sorted(scores)
    for _ in range(len(scores) // 4):
        left = left[1:-1]
    assert interquartile_mean(np.array(scores)) == pytest.approx(sum(left) / len(left), rel=1e-9, abs=1e-6)


def test_bootstrap_interval() -> None:
    scores = np.random.default_rng(1).normal(50, 10, 40)
    low, high = bootstrap_interval(scores)
    assert low < interquartile_mean(scores) < high
    # the standard error of a mean of 40 is 1.6, that of the interquartile mean somewhat more
    assert 3 < high - low < 12
    narrow, wide = bootstrap_interval(scores, confidence=0.5), bootstrap_interval(scores, confidence=0.99)
    assert wide[0] < low < narrow[0] < narrow[1] < high < wide[1]
    assert bootstrap_interval(scores) == (low, high), "the draws are seeded"
    assert bootstrap_interval(np.full(10, 3.0)) == (3.0, 3.0)
    assert bootstrap_interval(np.array([2.5])) == (2.5, 2.5)


def test_the_interval_covers_what_it_should() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        low, high = bootstrap_interval(rng.normal(7, 2, 30), draws=200)
        hits += low < 7 < high
    assert hits >= 50, "57 of 60 are expected of a 95% interval"
