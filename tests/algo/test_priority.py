"""Importance normalization, the schedule of beta, and the priority of a sequence."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.priority import beta_at, normalize_importance, sequence_priority


def test_importance_by_hand() -> None:
    # P = 1/2, 1/8, 1/4 and beta = 1: weights 2, 8, 4 over the largest
    got = normalize_importance(torch.tensor([0.5, 0.125, 0.25]) ** -1.0)
    assert got.tolist() == [2 / 8, 1.0, 4 / 8]


@settings(deadline=None)
@given(st.lists(st.floats(2**-20, 2**80, width=32), min_size=1, max_size=8), st.floats(2**-10, 2**10, width=32))
def test_largest_is_one_and_a_common_factor_cancels(importance: list[float], factor: float) -> None:
    weights = torch.tensor(importance)
    got = normalize_importance(weights)
    assert got.max().item() == 1
    torch.testing.assert_close(got, torch.tensor([w / max(importance) for w in importance]))
    torch.testing.assert_close(normalize_importance(weights * factor), got)


def test_beta_moves_in_a_line() -> None:
    at = [beta_at(p, 0.4, 1.0) for p in (-0.5, 0.0, 0.25, 1.0, 1.5)]
    assert at == pytest.approx([0.4, 0.4, 0.4 + 0.25 * 0.6, 1.0, 1.0])
    assert beta_at(0.7, 0.4, 0.4) == pytest.approx(0.4)


def test_sequence_priority_by_hand() -> None:
    td_abs = torch.tensor([[1.0, 4.0, 1.0], [9.0, 2.0, 6.0], [3.0, 5.0, 7.0]])
    mask = torch.tensor([[True, True, True], [False, True, True], [False, False, False]])
    got = sequence_priority(td_abs, mask, 0.9)
    expected = [0.9 * 4 + 0.1 * (1 + 4 + 1) / 3, 0.9 * 6 + 0.1 * (2 + 6) / 2, 0.0]
    torch.testing.assert_close(got, torch.tensor(expected))


def test_what_is_masked_does_not_leak() -> None:
    td_abs = torch.tensor([[2.0, float("nan")], [float("inf"), 3.0]])
    mask = torch.tensor([[True, False], [False, True]])
    assert sequence_priority(td_abs, mask, 0.5).tolist() == [2.0, 3.0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100, width=32), st.booleans()), min_size=1, max_size=8), st.floats(0, 1))
def test_sequence_priority_equals_a_loop(steps: list[tuple[float, bool]], eta: float) -> None:
    counted = [td for td, counts in steps if counts]
    expected = eta * max(counted) + (1 - eta) * sum(counted) / len(counted) if counted else 0.0
    td_abs = torch.tensor([[td for td, _ in steps]])
    got = sequence_priority(td_abs, torch.tensor([[counts for _, counts in steps]]), eta)
    torch.testing.assert_close(got, torch.tensor([expected]), rtol=1e-5, atol=1e-6)
