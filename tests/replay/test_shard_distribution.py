"""Several shards, drawn from by their mass, are one replay: the same frequencies, the same importance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from distdqn.config import ReplayConfig
from distdqn.replay.shard import ReplayShard
from distdqn.types import Segment

Make = Callable[..., Segment]
Draws = dict[tuple[int, int], tuple[int, float]]
ALPHA, BETA, STARTS = 0.6, 0.4, 4
PARTS = (1, 3, 9, 2)
"""Segments in each of the shards."""
NUMBER = 60_000


def fill(make_segments: Make, parts: tuple[int, ...]) -> tuple[list[ReplayShard], dict[tuple[int, int], float]]:
    """Shards with `parts` segments each, and every valid window's exact probability over all of them.

    Segment k's priorities are scaled by k + 1, so that the shards' masses differ by more than their sizes.
    """
    segments = [make_segments(1, k, starts=STARTS) for k in range(sum(PARTS))]
    segments = [replace(s, priority=s.priority * np.float32(k + 1)) for k, s in enumerate(segments)]
    config = ReplayConfig(kind="prioritized", alpha=ALPHA)
    shards = [ReplayShard(config, 100, STARTS, epoch=0, seed=index) for index in range(len(parts))]
    owners = np.repeat(np.arange(len(parts)), parts)
    for owner, segment in zip(owners, segments, strict=True):
        shards[owner].add(segment)
    weight = {
        (k, t): (float(s.priority[0, t]) + 1e-6) ** ALPHA
        for k, s in enumerate(segments)
        for t in range(STARTS)
        if s.valid[0, t]
    }
    return shards, {window: p / sum(weight.values()) for window, p in weight.items()}


def draw(shards: list[ReplayShard], split: np.ndarray) -> Draws:
    """Samples `split[s]` windows from shard s: how often each came, and its importance."""
    mass = np.array([shard.stats().mass for shard in shards])
    seen: Draws = {}
    for shard, number, share in zip(shards, split, mass / mass.sum(), strict=True):
        batch, _ = shard.sample((int(number),), BETA, float(share))
        for slot, offset, importance in zip(batch.origin[:, 2], batch.origin[:, 5], batch.importance, strict=True):
            window = (int(slot), int(offset))
            count, before = seen.get(window, (0, float(importance)))
            assert before == importance
            seen[window] = (count + 1, before)
    return seen


def chi_square(seen: Draws, probability: dict[tuple[int, int], float]) -> float:
    """Pearson's statistic of the counts against NUMBER times the probabilities."""
    assert set(seen) <= set(probability)
    return sum((seen.get(w, (0, 0.0))[0] - NUMBER * p) ** 2 / (NUMBER * p) for w, p in probability.items())


def critical(freedom: int, z: float = 3.09) -> float:
    """The chi-square quantile of the normal quantile z, 0.999 by default (Wilson and Hilferty 1931)."""
    scale = 2 / (9 * freedom)
    return float(freedom * (1 - scale + z * scale**0.5) ** 3)


def by_mass(shards: list[ReplayShard]) -> np.ndarray:
    mass = np.array([shard.stats().mass for shard in shards])
    return np.random.default_rng(5).multinomial(NUMBER, mass / mass.sum())


def test_the_critical_value_is_that_of_the_tables() -> None:
    assert critical(50) == pytest.approx(86.66, abs=0.1)  # chi-square table: 50 degrees of freedom, 0.999


def test_frequencies_are_those_of_the_union(make_segments: Make) -> None:
    shards, probability = fill(make_segments, PARTS)
    assert min(probability.values()) * NUMBER > 5  # the usual condition of the test
    assert chi_square(draw(shards, by_mass(shards)), probability) < critical(len(probability) - 1)
    union, _ = fill(make_segments, (sum(PARTS),))
    assert chi_square(draw(union, np.array([NUMBER])), probability) < critical(len(probability) - 1)


@pytest.mark.parametrize("wrong", ["equal", "by size"])
def test_the_test_sees_a_wrong_split(make_segments: Make, wrong: str) -> None:
    shards, probability = fill(make_segments, PARTS)
    held = np.array([shard.stats().transitions for shard in shards])
    weights = np.ones(len(shards)) if wrong == "equal" else held
    split = np.random.default_rng(5).multinomial(NUMBER, weights / weights.sum())
    assert chi_square(draw(shards, split), probability) > 10 * critical(len(probability) - 1)


def test_importance_is_that_of_the_union(make_segments: Make) -> None:
    shards, probability = fill(make_segments, PARTS)
    union, _ = fill(make_segments, (sum(PARTS),))
    several, one = draw(shards, by_mass(shards)), draw(union, np.array([NUMBER]))
    assert set(several) == set(one) == set(probability)
    windows = sorted(probability)
    exact = np.array([probability[w] ** -BETA for w in windows])
    for seen in (several, one):
        importance = np.array([seen[w][1] for w in windows])
        np.testing.assert_allclose(importance / importance.max(), exact / exact.max(), rtol=1e-5)
