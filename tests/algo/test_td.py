"""TD errors, their losses, and which gradients flow."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo import td


def test_error_by_hand() -> None:
    q_tm1 = torch.tensor([[1.0, 5.0], [7.0, 3.0]])
    error = td.q_learning(
        q_tm1, torch.tensor([1, 0]), torch.tensor([2.0, -1.0]), torch.tensor([0.9, 0.0]), torch.tensor([10.0, 1000.0])
    )
    torch.testing.assert_close(error, torch.tensor([2 + 0.9 * 10 - 5, -1 + 0.0 * 1000 - 7]))


def test_gradient_reaches_the_chosen_action_and_nothing_of_the_target() -> None:
    q_tm1, r_t, discount_t, v_t = (
        torch.tensor(x, requires_grad=True) for x in ([[1.0, 5.0], [7.0, 3.0]], [2.0, -1.0], [0.9, 0.5], [10.0, 4.0])
    )
    error = td.q_learning(q_tm1, torch.tensor([1, 0]), r_t, discount_t, v_t)
    td.squared(error).sum().backward()
    # d/dq of (target - q)^2 / 2 is q - target, at the chosen action only
    expected = [[0.0, 5 - (2 + 0.9 * 10)], [7 - (-1 + 0.5 * 4), 0.0]]
    torch.testing.assert_close(q_tm1.grad, torch.tensor(expected))
    assert r_t.grad is discount_t.grad is v_t.grad is None


def test_a_network_that_gives_both_values_moves_by_the_first_alone() -> None:
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    q_tm1, v_t = (weight * 1.0).unsqueeze(0), (weight * 10.0).amax().unsqueeze(0)
    error = td.q_learning(q_tm1, torch.tensor([0]), torch.tensor([1.0]), torch.tensor([0.5]), v_t)
    td.squared(error).sum().backward()
    # with the gradient of the target, the second weight would get 0.5 * 10 * (1 + 0.5 * 30 - 2)
    assert weight.grad is not None
    assert weight.grad.tolist() == [-(1 + 0.5 * 30 - 2), 0.0]


@pytest.mark.parametrize(
    ("error", "loss"), [(0.0, 0.0), (0.5, 0.5 * 0.5**2), (-1.0, 0.5), (3.0, 3 - 0.5), (-10.0, 10 - 0.5)]
)
def test_huber_by_hand(error: float, loss: float) -> None:
    assert td.huber(torch.tensor([error])).item() == pytest.approx(loss)


errors = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8)


@settings(deadline=None)
@given(errors)
def test_huber_gradient_is_the_clipped_error(values: list[float]) -> None:
    error = torch.tensor(values, requires_grad=True)
    td.huber(error).sum().backward()
    torch.testing.assert_close(error.grad, error.detach().clamp(-1, 1))


@settings(deadline=None)
@given(errors)
def test_squared_gradient_is_the_error(values: list[float]) -> None:
    error = torch.tensor(values, requires_grad=True)
    loss = td.squared(error)
    torch.testing.assert_close(loss.detach(), 0.5 * error.detach() ** 2)
    loss.sum().backward()
    torch.testing.assert_close(error.grad, error.detach())
