"""Importance normalisation and the schedule of beta."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.priority import beta_at, normalise_importance


def test_importance_by_hand() -> None:
    # P = 1/2, 1/8, 1/4 and beta = 1: weights 2, 8, 4 over the largest
    got = normalise_importance(torch.tensor([0.5, 0.125, 0.25]) ** -1.0)
    assert got.tolist() == [2 / 8, 1.0, 4 / 8]


@settings(deadline=None)
@given(
    st.lists(st.floats(2**-20, 2**80, width=32), min_size=1, max_size=8), st.floats(2**-10, 2**10, width=32)
)
def test_largest_is_one_and_a_common_factor_cancels(importance: list[float], factor: float) -> None:
    weights = torch.tensor(importance)
    got = normalise_importance(weights)
    assert got.max().item() == 1
    torch.testing.assert_close(got, torch.tensor([w / max(importance) for w in importance]))
    torch.testing.assert_close(normalise_importance(weights * factor), got)


def test_beta_moves_in_a_line() -> None:
    at = [beta_at(p, 0.4, 1.0) for p in (-0.5, 0.0, 0.25, 1.0, 1.5)]
    assert at == pytest.approx([0.4, 0.4, 0.4 + 0.25 * 0.6, 1.0, 1.0])
    assert beta_at(0.7, 0.4, 0.4) == pytest.approx(0.4)
