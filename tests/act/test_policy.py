"""Batched inference: masks, states, noise, and which weights are in use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from distdqn.act.policy import Policy
from distdqn.config import BonusConfig, SequenceConfig
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import EnvSpec, Weights
from tests.configs import agent_config, network_config

PIXELS = EnvSpec("pixels", (4, 3), "uint8", 3, 2)
VECTOR = EnvSpec("vector", (5,), "float32", 1, 3)
CONFIG = network_config(torso="mlp", hidden=(8,))
AGENT = agent_config(network=CONFIG)


def test_older_planes_are_masked_by_age() -> None:
    policy, stacks = (Policy(AGENT, PIXELS, 4), np.random.default_rng(0).integers(1, 256, (3, 4, 4, 3), np.uint8))
    age = np.array([0, 1, 2, 9], np.int32)
    observation = stacks.swapaxes(0, 1).copy()
    observation[0, :2] = observation[1, :1] = 0
    with torch.no_grad():
        expected = policy.network(torch.from_numpy(observation))[0].q.numpy()
    got = policy.q_values(stacks, age)
    assert (got.shape, got.dtype) == ((4, 2), np.float32)
    np.testing.assert_array_equal(got, expected)
    assert (policy.q_values(stacks, age + 9)[:2] != got[:2]).all()
    assert stacks.all(), "the caller's frames stay as they are"


def test_vectors() -> None:
    policy, frame = Policy(AGENT, VECTOR, 2), np.random.default_rng(0).random((2, 5), np.float32)
    with torch.no_grad():
        expected = policy.network(torch.from_numpy(frame))[0].q.numpy()
    np.testing.assert_array_equal(policy.q_values(frame, np.zeros(2, np.int32)), expected)


def test_weights_are_taken_over_once_a_version() -> None:
    policy, stacks, age = Policy(AGENT, PIXELS, 2), np.ones((3, 2, 4, 3), np.uint8), np.zeros(2, np.int32)
    one, two = (QNetwork(CONFIG, PIXELS).arrays() for _ in range(2))
    policy.load(Weights(0, one))
    first = policy.q_values(stacks, age)
    policy.load(Weights(1, two))
    second = policy.q_values(stacks, age)
    assert (first != second).any()
    policy.load(Weights(1, one))  # a version has one content
    np.testing.assert_array_equal(policy.q_values(stacks, age), second)
    policy.load(Weights(0, one))  # a learner that was set back has an older version
    np.testing.assert_array_equal(policy.q_values(stacks, age), first)


def make(slots: int, noise: int | None = None, contexts: int = 1, **network: Any) -> Policy:
    torch.manual_seed(0)
    bonus = BonusConfig(kind="ngu", mixtures=contexts) if contexts > 1 else BonusConfig()
    sequence = SequenceConfig(length=4, overlap=3)
    agent = agent_config(network=network_config(CONFIG, memory_size=4, **network), bonus=bonus, sequence=sequence)
    return Policy(agent, VECTOR, slots, np.arange(slots) % contexts, noise)


def frames(steps: int, slots: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((steps, slots, 5), np.float32)


@pytest.mark.parametrize("memory", ["none", "rnn", "lstm", "transformer"])
def test_a_slots_state_is_restarted_where_its_episode_begins(memory: str) -> None:
    policy = make(3, contexts=3, memory=memory, memory_steps=3, previous=True)
    ages = np.array([[0, 0, 0], [1, 0, 1], [2, 1, 2], [0, 2, 3], [1, 3, 0]], np.int32)
    rng, carried = np.random.default_rng(0), policy.initial.clone()
    for age, frame in zip(ages, frames(len(ages), 3), strict=True):
        q = policy.q_values(frame, age)
        expected = carried.clone()
        for slot in np.nonzero(age == 0)[0]:
            expected[slot] = 0
            expected[slot, -1] = slot  # its context
        assert torch.equal(policy.input_state, expected), "the state that the values came from"
        with torch.no_grad():
            values, carried = policy.network(torch.from_numpy(frame), expected.clone())
        np.testing.assert_array_equal(q, values.q.numpy())
        action, reward = rng.integers(0, 3, 3), rng.standard_normal(3, np.float32)
        policy.remember(action, reward)
        # memory | previous action + 1, previous reward | context
        carried[:, -3:-1] = torch.from_numpy(np.stack([action + 1, reward], 1))
        assert torch.equal(policy.input_state, expected), "what follows does not change it"


def test_the_previous_action_and_reward_arrive() -> None:
    def second(action: int, reward: float) -> np.ndarray:
        policy = make(1, previous=True)
        policy.q_values(frames(1, 1)[0], np.zeros(1, np.int32))
        policy.remember(np.array([action]), np.array([reward], np.float32))
        return policy.q_values(frames(1, 1)[0], np.ones(1, np.int32))

    given = [second(*x) for x in ((0, 0.0), (1, 0.0), (0, 1.0))]
    np.testing.assert_array_equal(given[0], second(0, 0.0))
    assert all((given[i] != given[j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))
    fresh = make(1, previous=True).q_values(frames(1, 1)[0], np.zeros(1, np.int32))
    assert all((fresh != q).any() for q in given), "no action came before an episode's first"


def test_noise_is_fresh_for_every_slot_and_step() -> None:
    policy, mean = make(3, noise=4, noisy=True), make(3, noisy=True)
    same, age = np.repeat(frames(1, 1)[0], 3, 0), np.ones(3, np.int32)
    quiet = mean.q_values(same, age)
    np.testing.assert_array_equal(mean.q_values(same, age), quiet)
    assert len({tuple(q) for q in quiet.round(6).tolist()}) == 1
    noisy = np.concatenate([policy.q_values(same, age) for _ in range(4)])
    assert len({tuple(q) for q in noisy.tolist()}) == 12
    again, other = make(3, noise=4, noisy=True), make(3, noise=5, noisy=True)
    np.testing.assert_array_equal(np.concatenate([again.q_values(same, age) for _ in range(4)]), noisy)
    assert (other.q_values(same, age) != noisy[:3]).all()
    # symmetric around the network's own values
    many = np.concatenate([policy.q_values(same, age) for _ in range(400)])
    np.testing.assert_allclose(many.mean(0), quiet[0], atol=5 * float(many.std(0).max()) / np.sqrt(1200))


def test_a_network_without_noise_takes_no_seed() -> None:
    policy, x, age = make(2, noise=4), frames(1, 2)[0], np.ones(2, np.int32)
    np.testing.assert_array_equal(policy.q_values(x, age), policy.q_values(x, age))


def test_weights_of_the_bonus_are_left_to_it() -> None:
    policy = make(2)
    arrays = {"novelty/embedding.weight": np.zeros(3, np.float32), **policy.network.arrays()}
    policy.load(Weights(1, arrays))
    assert policy.version == 1


@pytest.mark.parametrize("torso", ["impala", "dqn_2013"])
def test_it_says_what_the_learners_network_says(torso: str) -> None:
    spec = EnvSpec("pixels", (36, 30), "uint8", 4, 6)
    agent = agent_config(network=network_config(torso=torso, hidden=(16,)))
    policy, network = Policy(agent, spec, 5), QNetwork(agent.network, spec).eval()
    policy.load(Weights(1, network.arrays()))
    stacks = np.random.default_rng(0).integers(0, 256, (4, 5, 36, 30), np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(stacks.swapaxes(0, 1).copy()))[0].q.numpy()
    np.testing.assert_allclose(policy.q_values(stacks, np.full(5, 9, np.int32)), expected, rtol=1e-5, atol=1e-6)
