"""Small learners, and what tests ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from distdqn.config import NetworkConfig
from distdqn.learn.learner import Learner
from distdqn.learn.minibatch import Minibatch, on_cpu, split_parts
from distdqn.learn.objective import Horizon, Objective, Outcome
from distdqn.types import Batch, EnvSpec, Priorities, UpdateStats
from tests.configs import agent_config, learner_config, network_config

VECTOR = EnvSpec("vector", (5,), "float32", 1, 4)
PIXELS = EnvSpec("pixels", (10, 5), "uint8", 2, 4)
MLP = network_config(torso="mlp", hidden=(16,), dueling=True)
TABLE = network_config(torso="tabular", hidden=(), initializer="zeros")
OPTIMISERS: list[dict[str, Any]] = [
    {"optimizer": "adam"},
    {"optimizer": "rmsprop"},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "sgd"},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "rmsprop", "centered": False},
    {"optimizer": "rmsprop", "centered": False, "momentum": 0.9},
]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def make_learner(
    spec: EnvSpec = VECTOR,
    network: NetworkConfig = MLP,
    *,
    seed: int = 0,
    agent: dict[str, Any] | None = None,
    deterministic: bool = False,
    **config: Any,
) -> Learner:
    """A learner on the CPU; `agent` and `config` change the defaults of the two configs."""
    settings: dict[str, Any] = {
        "device": "cpu",
        "compile": "off",
        "precision": "float32",
        "learning_rate": 0.01,
        **config,
    }
    made = agent_config(network=network, **(agent or {})), learner_config(**settings)
    return Learner(*made, spec, seed, deterministic)


def update(learner: Learner, *parts: Batch, progress: float = 0.0) -> tuple[list[Priorities], UpdateStats]:
    """One call of the learner: the priorities of each part, and the figures."""
    *priorities, stats = learner.update(progress, *parts)
    return priorities, stats


def outcome(objective: Objective, batch: Minibatch, horizon: Horizon, generator: torch.Generator) -> Outcome:
    """Both parts of a loss, one after the other."""
    return objective.learn(objective.prepare(batch, horizon, generator), generator)


def tensors(batch: Batch) -> Minibatch:
    """The only minibatch of `batch`, on the CPU."""
    (minibatch,) = on_cpu(split_parts([batch]))
    return minibatch


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Exact equality of arrays by name, or of nested dicts of them."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_same(value, two[name])
        else:
            np.testing.assert_array_equal(value, two[name], err_msg=name)


def differ(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> bool:
    """Whether any of the arrays differs."""
    return any((array != two[name]).any() for name, array in one.items())
