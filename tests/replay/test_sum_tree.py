"""The sum tree against a plain list."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.replay.sum_tree import SumTree

WEIGHTS = st.one_of(st.just(0.0), st.floats(0, 1e6), st.floats(0, 1e-300), st.sampled_from([1e-320, 1e17, 0.1]))


def naive_sample(leaves: list[float], uniform: float) -> int:
    """The leaf in whose part of the cumulative sum `uniform * total` falls."""
    rest = uniform * math.fsum(leaves)
    for index, weight in enumerate(leaves):
        if rest < weight:
            return index
        rest -= weight
    raise AssertionError("no leaf")


@settings(max_examples=150, deadline=None)
@given(data=st.data(), capacity=st.integers(1, 70))
def test_equals_a_list_under_random_operations(data: st.DataObject, capacity: int) -> None:
    tree, leaves = SumTree(capacity), [0.0] * capacity
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            start = data.draw(st.integers(0, capacity))
            values = data.draw(st.lists(WEIGHTS, max_size=capacity - start))
            tree.set_block(start, np.array(values))
            leaves[start : start + len(values)] = values
        else:
            pairs = data.draw(st.lists(st.tuples(st.integers(0, capacity - 1), WEIGHTS), max_size=20))
            tree.set(np.array([i for i, _ in pairs], np.int64), np.array([w for _, w in pairs]))
            for index, weight in pairs:  # of equal indices the last wins
                leaves[index] = weight
        assert tree.leaves.tolist() == leaves
        assert tree.get(np.arange(capacity)).tolist() == leaves
        assert tree.total == pytest.approx(math.fsum(leaves), rel=1e-12, abs=0)
        if tree.total > 0:
            uniforms = [*data.draw(st.lists(st.floats(0, 1, exclude_max=True), max_size=10)), 0.0, 1 - 2**-53]
            drawn = tree.sample(np.array(uniforms))
            assert all(0 <= i < capacity and leaves[i] > 0 for i in drawn)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=70).filter(any), st.lists(st.integers(0, 2**20 - 1)))
def test_draws_the_leaf_of_the_cumulative_sum(weights: list[int], draws: list[int]) -> None:
    # Whole weights and dyadic uniforms: every sum and product is exact, so both walks must agree.
    tree = SumTree(len(weights))
    tree.set_block(0, np.array(weights))
    drawn = tree.sample(np.array(draws) / 2**20)
    assert drawn.tolist() == [naive_sample([float(w) for w in weights], d / 2**20) for d in draws]


def test_hand_made_tree() -> None:
    tree = SumTree(5)
    tree.set(np.array([0, 2, 4, 2]), np.array([1.0, 9.0, 3.0, 4.0]))
    assert tree.total == 1 + 4 + 3
    # cumulative sums 1, 1, 5, 5, 8: 0/8 -> 0, 1/8 -> 2, 4/8 -> 2, 5/8 -> 4, 7/8 -> 4
    assert tree.sample(np.array([0, 1, 4, 5, 7]) / 8).tolist() == [0, 2, 2, 4, 4]


@pytest.mark.parametrize("zeros", [[0], [7], [3, 4], [1, 2, 3, 4, 5, 6], [0, 1, 2, 3]])
def test_rounding_never_reaches_a_leaf_without_weight(zeros: list[int]) -> None:
    weights = np.full(8, 0.1)  # ten times 0.1 is not 1 in floating point: sums round
    weights[zeros] = 0
    tree = SumTree(8)
    tree.set_block(0, weights)
    below_one = np.nextafter(1.0, 0.0)
    edges = np.cumsum(weights)[:-1] / weights.sum()
    uniforms = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1), [0.0, below_one]])
    drawn = tree.sample(np.clip(uniforms, 0, below_one))
    assert not set(drawn.tolist()) & set(zeros)


def test_a_block_and_single_leaves_give_the_same_tree() -> None:
    values, capacity = np.random.default_rng(0).random(300), 1000
    one, other = SumTree(capacity), SumTree(capacity)
    one.set_block(123, values)
    for index in np.random.default_rng(1).permutation(300):
        other.set(np.array([123 + index]), values[[index]])
    uniforms = np.random.default_rng(2).random(1000)
    assert one.total == other.total
    assert one.sample(uniforms).tolist() == other.sample(uniforms).tolist()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_refuses_weights_that_are_none(bad: float) -> None:
    tree = SumTree(4)
    tree.set_block(0, np.ones(4))
    with pytest.raises(ValueError, match="finite"):
        tree.set(np.array([0, 1]), np.array([5.0, bad]))
    with pytest.raises(ValueError, match="finite"):
        tree.set_block(0, np.array([5.0, bad]))
    assert tree.leaves.tolist() == [1, 1, 1, 1]
    assert tree.total == 4


def test_refuses_what_lies_outside() -> None:
    tree = SumTree(5)
    with pytest.raises(ValueError, match="nothing to sample"):
        tree.sample(np.array([0.5]))
    for index in (-1, 5):
        with pytest.raises(IndexError):
            tree.set(np.array([index]), np.array([1.0]))
        with pytest.raises(IndexError):
            tree.get(np.array([index]))
    with pytest.raises(IndexError):
        tree.set_block(3, np.ones(3))
    tree.set_block(0, np.ones(5))
    for uniform in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="uniforms"):
            tree.sample(np.array([uniform]))
    with pytest.raises(ValueError, match="capacity"):
        SumTree(0)
