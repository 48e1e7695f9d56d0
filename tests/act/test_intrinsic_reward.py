"""An actor's intrinsic reward against algorithm 1 written as loops."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.act.intrinsic_reward import EpisodicMemory, IntrinsicReward, RunningMoments
from distdqn.config import BonusConfig
from distdqn.nets.novelty_network import NoveltyNetwork
from distdqn.types import EnvSpec

VECTOR = EnvSpec("vector", (4,), "float32", 1, 3)
PIXELS = EnvSpec("pixels", (12, 12), "uint8", 2, 3)
EPISODIC = BonusConfig(kind="ngu", memory=10, neighbours=3, embedding=5, lifelong_max=1.0)


def run(novelty: IntrinsicReward, observations: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Bonuses `[T, N]` of `observations` `[T, N, ...]`."""
    return np.stack([novelty.bonus(torch.from_numpy(x), s) for x, s in zip(observations, starts, strict=True)])


def naive(network: NoveltyNetwork, config: BonusConfig, observations: np.ndarray, starts: np.ndarray) -> list:
    """What `run` gives, one number at a time."""
    memories = [deque(maxlen=config.memory) for _ in range(observations.shape[1])]
    every_distance, every_error, bonuses = [], [], []
    for x, start in zip(torch.from_numpy(observations), starts, strict=True):
        with torch.no_grad():
            embeddings, errors = network.embed(x).tolist(), network.distillation_error(x).tolist()
        near = []
        for slot, embedding in enumerate(embeddings):
            if start[slot]:
                memories[slot].clear()
            distances = sorted(math.dist(embedding, m) ** 2 for m in memories[slot])[: config.neighbours]
            near.append(distances)
            every_distance += distances
            memories[slot].append(embedding)
        every_error += errors
        mean = sum(every_distance) / len(every_distance) if every_distance else math.nan
        for distances, error in zip(near, errors, strict=True):
            total = sum(0.001 / (max(d / mean - 0.008, 0) + 0.001) for d in distances)
            total += (config.neighbours - len(distances)) * 0.001 / (1 - 0.008 + 0.001)
            s = math.sqrt(total) + 0.001
            alpha = 1 + (error - np.mean(every_error)) / np.std(every_error)
            bonuses.append((0 if s > 8 else 1 / s) * min(max(alpha, 1), config.lifelong_max))
    return bonuses


@pytest.mark.parametrize("lifelong_max", [1.0, 1.5, 5.0])
@pytest.mark.parametrize("neighbours", [1, 3, 12])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_against_algorithm_1(lifelong_max: float, neighbours: int, seed: int) -> None:
    config = BonusConfig(memory=10, neighbours=neighbours, embedding=5, lifelong_max=lifelong_max)
    rng, slots, steps = np.random.default_rng(seed), 3, 30
    novelty = IntrinsicReward(config, VECTOR, slots, seed)
    # few different states, so that some come again
    states = rng.standard_normal((6, 4), np.float32)
    observations = states[rng.integers(0, 6, (steps, slots))] + 1e-3 * rng.random((steps, slots, 4), np.float32)
    starts = rng.random((steps, slots)) < 0.05
    got = run(novelty, observations, starts)
    assert (got.shape, got.dtype) == ((steps, slots), np.float32)
    expected = naive(novelty.network, config, observations, starts)
    np.testing.assert_allclose(got.ravel(), expected, rtol=5e-3)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 700))
def test_memory_holds_the_latest(capacity: int, written: int) -> None:
    memory, expected = EpisodicMemory(capacity, 2), deque(maxlen=capacity)
    for i in range(written):
        memory.add(np.full(2, i, np.float32))
        expected.append(i)
    assert sorted(memory.held[:, 0]) == list(expected)
    assert len(memory.room) <= max(min(capacity, 64), 2 * len(expected)), "no more room than twice what it holds"
    memory.clear()
    assert memory.held.shape == (0, 2)
    memory.add(np.full(2, 7, np.float32))
    assert memory.held.tolist() == [[7, 7]]


def test_running_moments_of_everything() -> None:
    moments, stream = RunningMoments(), np.random.default_rng(0).normal(3, 2, 50)
    for part in np.split(stream, [0, 1, 3, 20, 20, 49]):
        moments.add(part)
    assert moments.mean == pytest.approx(stream.mean())
    assert moments.std == pytest.approx(stream.std())


def test_running_moments_forget_beyond_the_horizon() -> None:
    moments = RunningMoments(horizon=4)
    moments.add(np.array([8.0, 8.0, 8.0, 8.0]))
    moments.add(np.array([0.0]))  # 8 + (0 - 8) / 4
    assert moments.mean == pytest.approx(6.0)
    moments.add(np.array([0.0]))  # 6 + (0 - 6) / 4
    assert moments.mean == pytest.approx(4.5)
    for _ in range(100):
        moments.add(np.array([0.0]))
    assert moments.mean == pytest.approx(0, abs=1e-3) and moments.std == pytest.approx(0, abs=1e-3)


def test_a_state_again_and_again_earns_less_and_a_new_one_more() -> None:
    novelty, rng = IntrinsicReward(EPISODIC, VECTOR, 1, 0), np.random.default_rng(0)
    no = np.array([False])
    run(novelty, rng.standard_normal((8, 1, 4), np.float32), np.zeros((8, 1), bool))
    same = torch.from_numpy(rng.standard_normal((1, 4), np.float32))
    visits = [float(novelty.bonus(same, no)[0]) for _ in range(4)]
    assert visits == sorted(visits, reverse=True)
    # after n visits, 1 / sqrt(n) and a little from the others
    assert visits[1:] == pytest.approx([1 / math.sqrt(n) for n in (1, 2, 3)], rel=0.02)
    new = float(novelty.bonus(same + 3, no)[0])
    assert new > 5 * visits[1]


def test_an_episode_empties_its_own_slot_alone() -> None:
    novelty = IntrinsicReward(EPISODIC, VECTOR, 2, 0)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4), np.float32))
    for other in (x + 1, x, x, x):
        before = novelty.bonus(other, np.array([False, False]))
    after = novelty.bonus(x, np.array([True, False]))
    assert [len(m.held) for m in novelty.memories] == [1, 5]
    assert after[0] > 5 * before[0]
    assert after[1] <= before[1]


def test_an_unusual_distillation_error_multiplies_the_bonus_up_to_its_limit() -> None:
    def novelty(lifelong_max: float) -> IntrinsicReward:
        return IntrinsicReward(BonusConfig(memory=10, embedding=5, lifelong_max=lifelong_max), VECTOR, 1, 0)

    def factor(x: float) -> float:
        observation, no = torch.full((1, 4), x), np.array([False])
        return float(both.bonus(observation, no)[0] / episodic.bonus(observation, no)[0])

    both, episodic = novelty(3.0), novelty(1.0)
    predictor, both.network.predictor = both.network.predictor, both.network.random
    assert [factor(0.1 * i) for i in range(20)] == [1.0] * 20  # it predicts everything
    both.network.predictor = predictor
    # of 21 errors one is e and the others 0: mean e/21, std e sqrt(20)/21, alpha = 1 + 20/sqrt(20) is above 3
    assert factor(0.5) == pytest.approx(3.0)


def test_pixels_and_loading() -> None:
    rng = np.random.default_rng(0)
    observations, starts = rng.integers(0, 256, (20, 2, 2, 12, 12), np.uint8), rng.random((20, 2)) < 0.1
    config = BonusConfig(memory=10, neighbours=3, embedding=5)
    one, other = IntrinsicReward(config, PIXELS, 2, 0), IntrinsicReward(config, PIXELS, 2, 1)
    other.load({f"novelty/{n}": a for n, a in one.network.arrays().items()})
    got = run(one, observations, starts)
    assert np.isfinite(got).all() and (got > 0).all()
    np.testing.assert_array_equal(got, run(other, observations, starts))


def test_a_seed_reproduces_and_leaves_others_randomness_alone() -> None:
    observations, starts = np.random.default_rng(0).random((20, 2, 4), np.float32), np.zeros((20, 2), bool)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (run(IntrinsicReward(EPISODIC, VECTOR, 2, seed), observations, starts) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(one, same)
    assert (one[1:] != other[1:]).any()
