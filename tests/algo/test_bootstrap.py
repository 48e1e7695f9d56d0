"""The bootstrap values of Q-learning and Double Q-learning."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.bootstrap import double_q, max_q


def test_double_takes_the_online_choice_at_the_target_value() -> None:
    q_target = torch.tensor([[1.0, 9.0, 4.0], [6.0, 2.0, 3.0]])
    q_online = torch.tensor([[0.0, 1.0, 5.0], [8.0, 7.0, 7.5]])
    assert max_q(q_target).tolist() == [9.0, 6.0]
    assert double_q(q_target, q_online).tolist() == [4.0, 6.0]


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_equal_loops(rows: int, actions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, online = rng.standard_normal((2, rows, actions))
    for row in range(rows):
        chosen = max(range(actions), key=lambda a, row=row: online[row, a])
        assert max_q(torch.from_numpy(target))[row] == max(target[row])
        assert double_q(torch.from_numpy(target), torch.from_numpy(online))[row] == target[row, chosen]


def test_double_never_exceeds_the_maximum() -> None:
    target, online = torch.randn(2, 100, 6, generator=torch.Generator().manual_seed(0))
    assert (double_q(target, online) <= max_q(target)).all()
    assert (double_q(target, online) < max_q(target)).any()
    assert torch.equal(double_q(target, target), max_q(target))
