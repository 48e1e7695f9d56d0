"""The equations of every agent once more, for one row at a time, in loops over float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distdqn.config import AgentConfig, NetworkConfig
from distdqn.nets.heads import Values
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import network_config

HEADS: dict[str, dict[str, Any]] = {
    "scalar": {},
    "categorical": {"atoms": 7, "v_min": -2.0, "v_max": 2.5},
    "quantile": {"quantiles": 5},
    "implicit_quantile": {"online_quantiles": 4, "target_quantiles": 3, "acting_quantiles": 6, "cosines": 8},
}
"""Small heads."""
BOOTSTRAPS = ("max", "double", "soft", "munchausen")


def small(head: str, **settings: Any) -> NetworkConfig:
    """A small network with that head."""
    return network_config(**{"torso": "mlp", "hidden": (8,), "head": head, **HEADS[head], **settings})


def pair(network: NetworkConfig, spec: EnvSpec, contexts: int = 1, spread: float = 4.0) -> tuple[QNetwork, QNetwork]:
    """An online and another target network; `spread` multiplies their last layers, so that values differ widely."""
    torch.manual_seed(3)
    online, target = QNetwork(network, spec, contexts), QNetwork(network, spec, contexts).requires_grad_(False)
    with torch.no_grad():
        for q in (online, target):
            q.head.value[-1].weight.mul_(spread)
    return online, target.eval()


@dataclass
class One:
    """What a head gives for one observation: q `[A]`, its distribution `[A, Z]`, fractions `[Z]`."""

    q: np.ndarray
    dist: np.ndarray | None = None
    tau: np.ndarray | None = None

    @classmethod
    def of(cls, values: Values, row: int = 0) -> One:
        """One row of a batch."""
        return cls(*(None if x is None else x[row].detach().numpy().astype(float) for x in values))  # type: ignore[arg-type]


def see(network: QNetwork, observation: np.ndarray, tau: Tensor | None = None) -> One:
    """A network without memory on one observation, with fractions `tau` `[Z]`."""
    values, _ = network(torch.from_numpy(observation[None]), None, None if tau is None else tau[None])
    return One.of(values)


def compress(x: float, config: AgentConfig) -> float:
    """h, where values are rescaled."""
    if config.network.head.rescale is None:
        return x
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + config.network.head.rescale * x


def expand(x: float, config: AgentConfig) -> float:
    """The inverse of h, by bisection."""
    if config.network.head.rescale is None:
        return x
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if compress(middle, config) < x else (low, middle)
    return low


def log_softmax(q: np.ndarray, temperature: float) -> np.ndarray:
    """Of q / temperature, `[A]`."""
    x = (q - max(q)) / temperature
    return x - math.log(sum(math.exp(v) for v in x))


def log_policy_bonus(config: AgentConfig, before: One, action: int) -> float:
    """What Munchausen adds to the reward; `before` is the target network's."""
    if config.bootstrap.kind != "munchausen":
        return 0.0
    q = np.array([expand(v, config) for v in before.q])
    log_pi = log_softmax(q, config.bootstrap.temperature)[action]
    return config.bootstrap.alpha * min(0.0, max(config.bootstrap.clip, config.bootstrap.temperature * log_pi))


def goal(config: AgentConfig, reward: float, discount: float, after: One, selector: One | None) -> np.ndarray:
    """The target: a number, or quantiles or probabilities `[Z]`; `after` is the target network's."""
    head = config.network.head
    q = np.array([expand(v, config) for v in after.q])
    actions = len(q)
    policy, bonus = np.zeros(actions), np.zeros(actions)
    if config.bootstrap.kind == "double":
        assert selector is not None
        policy[np.argmax(selector.q)] = 1
    elif config.bootstrap.kind == "max":
        policy[np.argmax(q)] = 1
    else:
        log_pi = log_softmax(q, config.bootstrap.temperature)
        policy = np.exp(log_pi)
        if config.bootstrap.kind == "munchausen":
            bonus = -config.bootstrap.temperature * log_pi
    if head.kind == "scalar":
        value = sum(policy[a] * (q[a] + bonus[a]) for a in range(actions) if policy[a] > 0)
        return np.array(compress(reward + discount * value, config))
    assert after.dist is not None
    if head.kind != "categorical":
        return np.array(
            [
                reward + discount * sum(policy[a] * (after.dist[a, i] + bonus[a]) for a in range(actions))
                for i in range(after.dist.shape[1])
            ]
        )
    assert head.v_min is not None and head.v_max is not None
    mass, gap = np.zeros(head.atoms), (head.v_max - head.v_min) / (head.atoms - 1)
    for a in range(actions):
        for i in range(head.atoms):
            atom = reward + discount * (head.v_min + i * gap + bonus[a])
            place = (min(max(atom, head.v_min), head.v_max) - head.v_min) / gap
            for j in range(head.atoms):
                mass[j] += policy[a] * math.exp(after.dist[a, i]) * max(0.0, 1 - abs(place - j))
    return mass


def loss_and_priority(config: AgentConfig, before: One, action: int, target: np.ndarray) -> tuple[float, float]:
    """Of one position; `before` is the online network's."""
    if config.network.head.kind == "scalar":
        error = float(target - before.q[action])
        linear = config.loss == "huber" and abs(error) > 1
        return (abs(error) - 0.5 if linear else error**2 / 2), abs(error)
    assert before.dist is not None
    if config.network.head.kind == "categorical":
        cross = -sum(p * log_p for p, log_p in zip(target, before.dist[action], strict=True))
        return cross, cross + sum(p * math.log(p) for p in target if p > 0)
    assert before.tau is not None
    total = 0.0
    for theta, tau in zip(before.dist[action], before.tau, strict=True):
        for z in target:
            u = z - theta
            size = abs(u)
            if config.loss == "huber":
                size = u**2 / 2 if abs(u) <= 1 else abs(u) - 0.5
            total += abs(tau - (u < 0)) * size / len(target)
    return total, total


def walk(batch: Batch, row: int, at: int, n: int, rewards: np.ndarray, gamma: float) -> tuple[float, float, int]:
    """The n-step return from step `at` of a row, the discount of its bootstrap, and that observation's place."""
    total, discount = 0.0, 1.0
    for k in range(at, at + n):
        total += discount * float(rewards[row, k])
        discount *= gamma
        if batch.terminated[row, k]:
            return total, 0.0, k + 1
        if batch.last[row, k]:
            return total, discount, k + 1
    return total, discount, at + n
