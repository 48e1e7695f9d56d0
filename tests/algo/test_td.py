"""The losses of TD errors, and which gradients flow."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo import td


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
