"""Batched inference: masks, and which weights are in use."""

from __future__ import annotations

import numpy as np
import torch

from distdqn.act.policy import Policy
from distdqn.config import NetworkConfig
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import EnvSpec, Weights

PIXELS = EnvSpec("pixels", (4, 3), "uint8", 3, 2)
CONFIG = NetworkConfig(torso="mlp", hidden=(8,))


def test_older_planes_are_masked_by_age() -> None:
    policy, stacks = (
        Policy(CONFIG, PIXELS, 4),
        np.random.default_rng(0).integers(1, 256, (3, 4, 4, 3), np.uint8),
    )
    age = np.array([0, 1, 2, 9], np.int32)
    observation = stacks.swapaxes(0, 1).copy()
    observation[0, :2] = observation[1, :1] = 0
    with torch.no_grad():
        expected = policy.network(torch.from_numpy(observation))[0].numpy()
    got = policy.q_values(stacks, age)
    assert (got.shape, got.dtype) == ((4, 2), np.float32)
    np.testing.assert_array_equal(got, expected)
    assert (policy.q_values(stacks, age + 9)[:2] != got[:2]).all()
    assert stacks.all(), "the caller's frames stay as they are"


def test_vectors() -> None:
    spec = EnvSpec("vector", (5,), "float32", 1, 3)
    policy, frame = Policy(CONFIG, spec, 2), np.random.default_rng(0).random((2, 5), np.float32)
    with torch.no_grad():
        expected = policy.network(torch.from_numpy(frame))[0].numpy()
    np.testing.assert_array_equal(policy.q_values(frame, np.zeros(2, np.int32)), expected)


def test_weights_are_taken_over_once_a_version() -> None:
    policy, stacks, age = Policy(CONFIG, PIXELS, 2), np.ones((3, 2, 4, 3), np.uint8), np.zeros(2, np.int32)
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
