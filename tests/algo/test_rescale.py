"""The rescaling of values and its inverse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.rescale import h, h_inverse


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_by_hand(epsilon: float) -> None:
    x = torch.tensor([0.0, 3.0, -3.0, 99.0, 1e6 - 1])
    expected = [0, 1 + epsilon * 3, -1 - epsilon * 3, 9 + epsilon * 99, 999 + epsilon * (1e6 - 1)]
    torch.testing.assert_close(h(x, epsilon), torch.tensor(expected))
    torch.testing.assert_close(h_inverse(torch.tensor(expected), epsilon), x)


@settings(deadline=None)
@given(st.floats(-1e8, 1e8, width=32), st.sampled_from([1e-3, 1e-2, 0.5]))
def test_the_inverse_inverts_in_float32(x: float, epsilon: float) -> None:
    value = torch.tensor([x])
    torch.testing.assert_close(h_inverse(h(value, epsilon), epsilon), value, rtol=2e-6, atol=1e-35)
    torch.testing.assert_close(h(h_inverse(value, epsilon), epsilon), value, rtol=2e-6, atol=1e-35)


@settings(deadline=None)
@given(st.floats(-1e5, 1e5))
def test_equal_the_formulas_of_the_paper(x: float) -> None:
    epsilon, sign, size = 1e-2, math.copysign(1, x), abs(x)
    forward = sign * (math.sqrt(size + 1) - 1) + epsilon * x
    root = (math.sqrt(1 + 4 * epsilon * (size + 1 + epsilon)) - 1) / (2 * epsilon)
    value = torch.tensor([x], dtype=torch.float64)
    assert h(value, epsilon).item() == pytest.approx(forward, abs=1e-12)
    assert h_inverse(value, epsilon).item() == pytest.approx(sign * (root**2 - 1), rel=1e-9, abs=1e-9)


def test_the_slope_at_0() -> None:
    x = torch.zeros(1, requires_grad=True)
    h(x, 1e-3).backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.5 + 1e-3]))
