"""Which equation each name stands for, by hand; the whole of them against loops is in test_transitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from distdqn.algo.rescale import h
from distdqn.learn.bellman import Bellman
from distdqn.nets.heads import Values
from tests.configs import agent_config, make_head, network_config

Q = torch.tensor([[1.0, 3.0, 2.0]])
SELECTOR = torch.tensor([[0.0, 1.0, 5.0]])
R, GAMMA = torch.tensor([0.5]), torch.tensor([0.9])


def bellman(head: str = "scalar", **agent: Any) -> Bellman:
    network = network_config(head=head, v_min=0.0, v_max=4.0, atoms=5)
    config = agent_config(network=network, **agent)
    return Bellman(config, make_head(config.network.head, 2, 3))


def test_max_and_double() -> None:
    assert bellman(bootstrap="max").target(R, GAMMA, Values(Q), None).tolist() == pytest.approx([0.5 + 0.9 * 3])
    assert bellman(bootstrap="double").target(R, GAMMA, Values(Q), SELECTOR).tolist() == pytest.approx([0.5 + 0.9 * 2])


def test_soft_and_munchausen() -> None:
    tau = 0.5
    total = sum(math.exp(q / tau) for q in (1, 3, 2))
    pi = [math.exp(q / tau) / total for q in (1, 3, 2)]
    soft = bellman(bootstrap="soft", temperature=tau)
    mean = sum(p * q for p, q in zip(pi, (1, 3, 2), strict=True))
    assert soft.target(R, GAMMA, Values(Q), None).tolist() == pytest.approx([0.5 + 0.9 * mean])
    munchausen = bellman(bootstrap="munchausen", temperature=tau, munchausen_alpha=0.8, munchausen_clip=-1.5)
    # the soft value with its entropy is tau log sum exp(q / tau)
    assert munchausen.target(R, GAMMA, Values(Q), None).tolist() == pytest.approx([0.5 + 0.9 * tau * math.log(total)])
    twice = torch.cat([R, R])
    rewards = munchausen.reward(twice, Q.repeat(2, 1), torch.tensor([0, 2]))
    assert rewards.tolist() == pytest.approx([0.5 + 0.8 * -1.5, 0.5 + 0.8 * tau * math.log(pi[2])])
    assert soft.reward(R, None, torch.tensor([0])) is R


def test_categorical_target_and_priority() -> None:
    c = bellman("categorical", bootstrap="max")
    dist = torch.tensor([[[0.1, 0.2, 0.3, 0.2, 0.2], [0.0, 0.0, 0.0, 0.25, 0.75], [1.0, 0, 0, 0, 0]]])
    values = Values((dist * torch.linspace(0, 4, 5)).sum(-1), dist.clamp_min(1e-30).log())
    target = c.target(torch.tensor([-1.0]), torch.tensor([0.5]), values, None)
    # action 1's atoms 3 and 4 go to -1 + 0.5 * 3 = 0.5 and -1 + 0.5 * 4 = 1
    torch.testing.assert_close(target, torch.tensor([[0.25 / 2, 0.25 / 2 + 0.75, 0, 0, 0]]))
    loss, priority = c.loss(values, torch.tensor([0]), target)
    cross = -(0.125 * math.log(0.1) + 0.875 * math.log(0.2))
    entropy = -(0.125 * math.log(0.125) + 0.875 * math.log(0.875))
    assert loss.item() == pytest.approx(cross, rel=1e-5)
    assert priority.item() == pytest.approx(cross - entropy, rel=1e-4)


@pytest.mark.parametrize(("loss", "kappa"), [("huber", 1.0), ("squared", 0.0)])
def test_quantile_target_and_loss(loss: str, kappa: float) -> None:
    q = bellman("quantile", bootstrap="max", loss=loss)
    dist = torch.tensor([[[0.0, 1.0], [2.0, 4.0], [5.0, -5.0]]])
    tau = torch.tensor([[0.25, 0.75]])
    target = q.target(R, GAMMA, Values(dist.mean(-1), dist, tau), None)
    assert target[0].tolist() == pytest.approx([0.5 + 0.9 * 2, 0.5 + 0.9 * 4])
    got, priority = q.loss(Values(dist.mean(-1), dist, tau), torch.tensor([0]), torch.tensor([[0.5, -2.0]]))

    def size(u: float) -> float:
        return abs(u) if kappa == 0 else (u**2 / 2 if abs(u) < 1 else abs(u) - 0.5)

    # thetas 0 and 1 at fractions 1/4 and 3/4, targets 1/2 and -2
    by_hand = (0.25 * size(0.5) + 0.75 * size(-2) + 0.25 * size(-0.5) + 0.25 * size(-3)) / 2
    assert got.item() == pytest.approx(by_hand)
    assert priority.item() == pytest.approx(by_hand)


def test_scalar_losses_and_priorities() -> None:
    target = torch.tensor([3.0, 1.5])
    values, action = Values(torch.tensor([[1.0, 9.0], [9.0, 1.0]])), torch.tensor([0, 1])
    loss, priority = bellman(loss="huber").loss(values, action, target)
    assert loss.tolist() == [2 - 0.5, 0.5**2 / 2]
    assert priority.tolist() == [2, 0.5]
    assert bellman(loss="squared").loss(values, action, target)[0].tolist() == [2**2 / 2, 0.5**2 / 2]


def test_rescaled_values_bootstrap_on_their_own_scale() -> None:
    b = bellman(bootstrap="max", rescale=1e-3)
    x = torch.tensor([[10.0, -70.0, 300.0]])
    epsilon = 1e-3
    target = b.target(R, GAMMA, Values(h(x, epsilon)), None)
    torch.testing.assert_close(target, h(torch.tensor([0.5 + 0.9 * 300]), epsilon), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b.head.unscaled(b.head.scaled(x)), x, rtol=1e-4, atol=1e-4)
    plain = bellman()
    assert plain.head.scaled(x) is x and plain.head.unscaled(x) is x


@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile"])
def test_gradients_flow_into_the_taken_action_alone(head: str) -> None:
    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()

    q, dist, action = leaf(2, 3), None, torch.tensor([2, 0])
    tau = torch.full((2, 5), 0.3)
    target = torch.rand(2) if head == "scalar" else torch.rand(2, 5)
    target.requires_grad_()
    if head != "scalar":
        dist = leaf(2, 3, 5)
    loss, priority = bellman(head).loss(Values(q, dist, tau), action, target)
    loss.sum().backward()
    assert target.grad is None and not priority.requires_grad
    source = q if dist is None else dist
    assert source.grad is not None
    touched = source.grad.abs().view(2, 3, -1).sum(-1) > 0
    assert touched.tolist() == [[False, False, True], [True, False, False]]
