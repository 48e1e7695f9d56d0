"""The bootstrap values of Q-learning, Double, soft and Munchausen Q-learning."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.bootstrap import entropy_bonus, greedy_policy, munchausen_reward, softmax_policy, state_value


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_double_takes_the_online_choice_at_the_target_value() -> None:
    q_target = torch.tensor([[1.0, 9.0, 4.0], [6.0, 2.0, 3.0]])
    q_online = torch.tensor([[0.0, 1.0, 5.0], [8.0, 7.0, 7.5]])
    assert state_value(q_target, greedy_policy(q_target)).tolist() == [9.0, 6.0]
    assert state_value(q_target, greedy_policy(q_online)).tolist() == [4.0, 6.0]


def test_the_greedy_policy_takes_one_of_equals() -> None:
    assert greedy_policy(torch.tensor([[2.0, 3.0, 3.0], [1.0, 1.0, 1.0]])).tolist() == [[0, 1, 0], [1, 0, 0]]


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_equal_loops(rows: int, actions: int, seed: int) -> None:
    target, online, bonus = values(3, rows, actions, seed=seed)
    pi, log_pi = softmax_policy(target, 0.7)
    for row in range(rows):
        q = target[row].tolist()
        chosen = max(range(actions), key=lambda a, row=row: float(online[row, a]))
        assert state_value(target, greedy_policy(target))[row] == max(q)
        assert state_value(target, greedy_policy(online))[row] == q[chosen]
        weights = [math.exp(x / 0.7) for x in q]
        for a in range(actions):
            share = weights[a] / sum(weights)
            assert pi[row, a].item() == pytest.approx(share, rel=1e-4)
            assert log_pi[row, a].item() == pytest.approx(math.log(share), rel=1e-4, abs=1e-5)
        expected = sum(pi[row, a].item() * (q[a] + bonus[row, a].item()) for a in range(actions))
        assert state_value(target, pi, bonus)[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_leading_dimensions_are_free() -> None:
    q = values(2, 3, 4)
    assert torch.equal(state_value(q, greedy_policy(q)), q.amax(-1))
    torch.testing.assert_close(softmax_policy(q, 0.5)[0], torch.softmax(q / 0.5, -1))


def test_double_never_exceeds_the_maximum() -> None:
    target, online = values(2, 100, 6)
    double, largest = state_value(target, greedy_policy(online)), state_value(target, greedy_policy(target))
    assert (double <= largest).all()
    assert (double < largest).any()


def test_the_soft_value_is_the_smooth_maximum() -> None:
    # sum_a pi (q - tau log pi) = tau log sum_a exp(q / tau)
    q = values(20, 5)
    pi, log_pi = softmax_policy(q, 0.3)
    soft = state_value(q, pi, entropy_bonus(log_pi, 0.3))
    torch.testing.assert_close(soft, 0.3 * torch.logsumexp(q / 0.3, -1))


def test_small_differences_between_large_values_survive_a_small_temperature() -> None:
    q = torch.tensor([[10_000.0, 10_000.0 + 2**-9]])  # two steps of float32 apart
    gap = 2**-9 / 1e-3
    pi, log_pi = softmax_policy(q, 1e-3)
    torch.testing.assert_close(pi, torch.tensor([[1 / (1 + math.exp(gap)), 1 / (1 + math.exp(-gap))]]))
    _, far = softmax_policy(torch.tensor([[0.0, 1000.0]]), 1e-3)
    torch.testing.assert_close(far, torch.tensor([[-1e6, 0.0]]))
    torch.testing.assert_close(log_pi.exp(), pi)


def test_munchausen_reward_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 50.0], [0.0, 50.0]])
    got = munchausen_reward(q, torch.tensor([0, 1, 0, 1]), temperature=0.5, alpha=0.9, clip=-1.0)
    log_pi = [-math.log(1 + math.exp(1 / 0.5)), -math.log(1 + math.exp(-1 / 0.5))]
    # the first would be 0.9 * -1.06: clipped at -1, as is the third, of an action that is never taken
    torch.testing.assert_close(got, torch.tensor([-0.9, 0.9 * 0.5 * log_pi[1], -0.9, 0.0]))
    wide = munchausen_reward(q, torch.tensor([0, 1, 0, 1]), temperature=0.5, alpha=0.9, clip=-100.0)
    torch.testing.assert_close(wide, torch.tensor([0.9 * 0.5 * log_pi[0], 0.9 * 0.5 * log_pi[1], -0.9 * 50, 0.0]))


def test_munchausen_with_alpha_0_and_a_vanishing_temperature_is_dqn() -> None:
    q_tm1, q_t = values(2, 100, 6)
    pi, log_pi = softmax_policy(q_t, 1e-5)
    target = (
        1.0
        + munchausen_reward(q_tm1, torch.zeros(100, dtype=torch.int64), 1e-5, alpha=0.0, clip=-1.0)
        + 0.9 * state_value(q_t, pi, entropy_bonus(log_pi, 1e-5))
    )
    torch.testing.assert_close(target, 1.0 + 0.9 * q_t.amax(-1))
