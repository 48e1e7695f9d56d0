"""Quantile targets and the quantile Huber loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.bootstrap import entropy_bonus, greedy_policy, softmax_policy, state_value
from distdqn.algo.quantile import quantile_loss, quantile_target


def test_target_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    reward, discount = torch.tensor([0.5]), torch.tensor([0.9])
    greedy = quantile_target(values, torch.tensor([[0.0, 1.0]]), None, reward, discount)
    torch.testing.assert_close(greedy, torch.tensor([[0.5 + 0.9 * 3, 0.5 + 0.9 * 5]]))
    mixed = quantile_target(values, torch.tensor([[0.25, 0.75]]), torch.tensor([[0.1, 0.2]]), reward, discount)
    first = 0.5 + 0.9 * (0.25 * (1 + 0.1) + 0.75 * (3 + 0.2))
    second = 0.5 + 0.9 * (0.25 * (2 + 0.1) + 0.75 * (5 + 0.2))
    torch.testing.assert_close(mixed, torch.tensor([[first, second]]))


@pytest.mark.parametrize("soft", [False, True])
def test_its_mean_is_the_scalar_target(soft: bool) -> None:
    values = torch.randn(8, 3, 32, generator=torch.Generator().manual_seed(0))
    q = values.mean(-1)
    policy, log_policy = softmax_policy(q, 0.1) if soft else (greedy_policy(q), None)
    bonus = entropy_bonus(log_policy, 0.1) if log_policy is not None else None
    reward, discount = torch.linspace(-1, 1, 8), torch.linspace(0, 1, 8)
    got = quantile_target(values, policy, bonus, reward, discount)
    torch.testing.assert_close(got.mean(-1), reward + discount * state_value(q, policy, bonus))


def test_a_deterministic_reward_gives_the_scalar_target_in_every_quantile() -> None:
    reward = torch.tensor([-4.0, 0.4])
    got = quantile_target(torch.randn(2, 3, 5), greedy_policy(torch.randn(2, 3)), None, reward, torch.zeros(2))
    assert torch.equal(got, reward[:, None].expand(2, 5))


def loop(values: list[float], tau: list[float], target: list[float], kappa: float) -> float:
    total = 0.0
    for value, t in zip(values, tau, strict=True):
        for goal in target:
            u = goal - value
            if kappa == 0:
                size = abs(u)
            elif abs(u) <= kappa:
                size = 0.5 * u**2 / kappa
            else:
                size = abs(u) - 0.5 * kappa
            total += abs(t - (u < 0)) * size / len(target)
    return total


numbers = st.floats(-5, 5, width=32)


@settings(deadline=None)
@given(
    st.lists(st.tuples(numbers, st.floats(0, 1)), min_size=1, max_size=5),
    st.lists(numbers, min_size=1, max_size=5),
    st.sampled_from([0.0, 0.25, 1.0, 3.0]),
)
def test_loss_equals_a_loop(online: list[tuple[float, float]], target: list[float], kappa: float) -> None:
    values, tau = [v for v, _ in online], [t for _, t in online]
    got = quantile_loss(torch.tensor([values]), torch.tensor([tau]), torch.tensor([target]), kappa)
    assert got.shape == (1,)
    assert got.item() == pytest.approx(loop(values, tau, target, kappa), rel=1e-4, abs=1e-5)


def test_loss_by_hand() -> None:
    values, tau = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]])
    target = torch.tensor([[0.5, -2.0]])
    # pairs (u, weight): (0.5, 0.25), (-2, 1 - 0.25), (-0.5, 1 - 0.75), (-3, 1 - 0.75)
    huber = 0.25 * 0.125 + 0.75 * 1.5 + 0.25 * 0.125 + 0.25 * 2.5
    assert quantile_loss(values, tau, target, 1.0).item() == pytest.approx(huber / 2)
    plain = 0.25 * 0.5 + 0.75 * 2 + 0.25 * 0.5 + 0.25 * 3
    assert quantile_loss(values, tau, target, 0.0).item() == pytest.approx(plain / 2)


def test_a_vanishing_kappa_gives_the_quantile_loss() -> None:
    values, tau, target = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    small, zero = (quantile_loss(values, tau, target, kappa) for kappa in (1e-5, 0.0))
    torch.testing.assert_close(small, zero, rtol=1e-3, atol=1e-4)


def test_the_minimum_is_the_quantile_and_nothing_of_the_target_moves() -> None:
    target = torch.arange(8.0).unsqueeze(0).requires_grad_()
    values = torch.tensor([[1.5, 5.5]], requires_grad=True)
    tau = torch.tensor([[2 / 8, 3 / 8]])
    quantile_loss(values, tau, target, 0.0).sum().backward()
    # the derivative is the share of targets below the value, less tau
    torch.testing.assert_close(values.grad, torch.tensor([[2 / 8 - 2 / 8, 6 / 8 - 3 / 8]]))
    assert target.grad is None
