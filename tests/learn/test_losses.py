"""From windows of raw frames to the loss, against a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.config import AgentConfig
from distdqn.learn.learner import make_loss
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.objective import Horizon, Outcome
from distdqn.learn.transitions import observations
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import agent_config, learner_config, network_config
from tests.learn.helpers import outcome, tensors

Make = Callable[..., Batch]
PIXELS = EnvSpec("pixels", (3, 2), "uint8", 3, 4)
VECTOR = EnvSpec("vector", (5,), "float32", 1, 4)
NETWORK = network_config(torso="mlp", hidden=(8,), dueling=True)


def networks(spec: EnvSpec) -> tuple[QNetwork, QNetwork]:
    torch.manual_seed(3)
    return QNetwork(NETWORK, spec), QNetwork(NETWORK, spec).requires_grad_(False)


def lost(config: AgentConfig, spec: EnvSpec, online: QNetwork, target: QNetwork, batch: Minibatch) -> Outcome:
    loss = make_loss(config, learner_config(), spec.stack, online, target)
    return outcome(loss, batch, Horizon(batch.action.shape[1], config.discount), torch.Generator())


def test_observations_by_hand() -> None:
    """Two steps of a stack of two: x_-1 to x_2, of episodes that began at x_0, at x_1, and long ago."""
    spec = EnvSpec("pixels", (1, 1), "uint8", 2, 2)
    rows = 3
    batch = Minibatch(
        frames=torch.tensor([9, 10, 11, 12], dtype=torch.uint8).reshape(1, 4, 1, 1).repeat(rows, 1, 1, 1),
        steps={"age": torch.tensor([[0, 1], [6, 0], [500, 501]], dtype=torch.int32)},
        memory=torch.zeros(rows, 0),
        importance=torch.ones(rows),
    )
    first, later = observations(batch, torch.tensor([2, 1, 1]), spec.stack)
    assert first.flatten(1).tolist() == [[0, 10], [9, 10], [9, 10]]
    # the second row's step after one is the seventh of its episode: the dummy's frame still belongs to it
    assert later.flatten(1).tolist() == [[11, 12], [10, 11], [10, 11]]


@pytest.mark.parametrize("spec", [PIXELS, VECTOR], ids=["pixels", "vector"])
@pytest.mark.parametrize("bootstrap", ["max", "double"])
@pytest.mark.parametrize("loss_name", ["huber", "squared"])
@pytest.mark.parametrize("reward", ["clip", "none"])
def test_equals_a_loop(make_batch: Make, spec: EnvSpec, bootstrap: str, loss_name: str, reward: str) -> None:
    batch = make_batch(spec, (20,), steps=3, seed=4)
    online, target = networks(spec)
    config = agent_config(network=NETWORK, bootstrap=bootstrap, loss=loss_name, reward=reward, discount=0.8)
    loss, td_abs, q, _ = lost(config, spec, online, target, tensors(batch))

    def values(network: QNetwork, row: int, at: int) -> np.ndarray:
        frames = batch.frames[row, at : at + spec.stack].copy()
        if spec.pixels:
            age = batch.age[row, at] if at < 3 else batch.age[row, 2] + 1
            frames[: max(0, spec.stack - 1 - age)] = 0
        else:
            frames = frames[0]
        with torch.no_grad():
            return network(torch.from_numpy(frames[None]))[0].q[0].numpy()

    losses = []
    for row in range(20):
        total, discount, at = 0.0, 1.0, 0
        while at < 3:
            r = float(batch.reward[row, at])
            total += discount * (min(1.0, max(-1.0, r)) if reward == "clip" else r)
            discount *= 0.8
            at += 1
            if batch.terminated[row, at - 1]:
                discount = 0.0
                break
            if batch.last[row, at - 1]:
                break
        best = values(online if bootstrap == "double" else target, row, at).argmax()
        error = total + discount * values(target, row, at)[best] - values(online, row, 0)[batch.action[row, 0]]
        assert td_abs[row].item() == pytest.approx(abs(error), abs=1e-4)
        assert q[row].item() == pytest.approx(values(online, row, 0).mean(), abs=1e-4)
        weight = batch.importance[row] / batch.importance.max()
        small = loss_name == "squared" or abs(error) <= 1
        losses.append(weight * (error**2 / 2 if small else abs(error) - 0.5))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert len(set(td_abs.tolist())) > 10


def test_gradients_flow_into_the_first_observation_of_the_online_network_only(make_batch: Make) -> None:
    batch = make_batch(VECTOR, (6,), steps=1, seed=1)
    online, target = networks(VECTOR)
    config = agent_config(network=NETWORK, loss="squared", reward="none", discount=0.9)
    none = np.zeros_like(batch.last)
    batch = replace(batch, steps=batch.steps | {"last": none, "terminated": none})
    minibatch = tensors(batch)
    minibatch.frames.requires_grad_()
    loss, td_abs, q, _ = lost(config, VECTOR, online, target, minibatch)
    loss.backward()
    assert minibatch.frames.grad is not None
    assert minibatch.frames.grad[:, 0].any()
    assert not minibatch.frames.grad[:, 1].any()
    assert all(p.grad is None for p in target.parameters())
    assert all(p.grad is not None for p in online.parameters())
    assert not td_abs.requires_grad and not q.requires_grad


@pytest.mark.parametrize("change", [{"bootstrap": "max"}, {"loss": "squared"}, {"reward": "none"}, {"discount": 0.5}])
def test_each_setting_is_used(make_batch: Make, change: dict[str, Any]) -> None:
    batch = tensors(make_batch(PIXELS, (30,), seed=2))
    online, target = networks(PIXELS)
    default = agent_config(network=NETWORK)
    one, two = (
        lost(c, PIXELS, online, target, batch).loss.item() for c in (default, agent_config(network=NETWORK, **change))
    )
    assert one != two
