"""lambda-returns against hand arithmetic, the papers' recursions, and their limits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distdqn.algo.returns import lambda_returns, n_step

KINDS = ("peng", "watkins", "retrace")


class Window:
    """B random windows of L steps; with `ends`, any mix of terminations, truncations and dummies."""

    def __init__(self, rows: int, length: int, actions: int, seed: int, ends: bool = True) -> None:
        g = torch.Generator().manual_seed(seed)
        self.reward = torch.randn(rows, length, generator=g)
        self.q = torch.randn(rows, length + 1, actions, generator=g)
        self.greedy = torch.randint(0, actions, (rows, length + 1), generator=g)
        self.action = torch.randint(0, actions, (rows, length), generator=g)
        self.behaviour = 1 - torch.rand(rows, length, generator=g)
        self.terminated, self.last, self.dummy = torch.rand(3, rows, length, generator=g) < (0.2 if ends else 0)
        self.v = self.q.gather(-1, self.greedy.unsqueeze(-1)).squeeze(-1)

    def returns(self, kind: str, gamma: float | Tensor, trace: float) -> Tensor:
        return lambda_returns(kind, self, gamma, trace, self.q, self.greedy)  # type: ignore[arg-type]

    def one_step(self, gamma: float) -> Tensor:
        return self.reward + gamma * self.v[:, 1:] * ~self.terminated


def recursion(w: Window, b: int, k: int, kind: str, gamma: float, trace: float) -> float:
    """G_k of row b as the papers write it."""
    r, v = float(w.reward[b, k]), float(w.v[b, k + 1])
    if w.terminated[b, k]:
        return r
    if w.last[b, k] or k + 1 == w.reward.shape[1] or w.dummy[b, k + 1]:
        return r + gamma * v
    later = recursion(w, b, k + 1, kind, gamma, trace)
    taken = int(w.action[b, k + 1])
    pi = float(taken == w.greedy[b, k + 1])
    if kind == "retrace":
        c = trace * min(1.0, pi / float(w.behaviour[b, k + 1]))
        return r + gamma * (v + c * (later - float(w.q[b, k + 1, taken])))
    if kind == "watkins" and not pi:
        return r + gamma * v
    return r + gamma * ((1 - trace) * v + trace * later)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 4),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_equals_the_recursion(
    kind: str, rows: int, length: int, actions: int, seed: int, gamma: float, trace: float
) -> None:
    w = Window(rows, length, actions, seed)
    expected = [[recursion(w, b, k, kind, gamma, trace) for k in range(length)] for b in range(rows)]
    torch.testing.assert_close(w.returns(kind, gamma, trace), torch.tensor(expected), rtol=1e-4, atol=1e-4)


def by_hand(kind: str, **ends: list[bool]) -> list[float]:
    """Three steps with rewards 1, 2, 4, v = 10, 20, 30, 40 and lambda = 0.8, of which the last action is not
    greedy; q of actions that are not greedy is 5."""
    no = [[False, False, False]]
    q = torch.tensor([[[10.0, 5.0], [20.0, 5.0], [30.0, 5.0], [40.0, 5.0]]])
    w = Window(1, 3, 2, 0)
    w.reward, w.action = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1, 0, 1]])
    w.terminated, w.last, w.dummy = (
        torch.tensor([ends[n]] if n in ends else no) for n in ("terminated", "last", "dummy")
    )
    w.q, w.greedy = q, torch.zeros(1, 4, dtype=torch.int64)
    return w.returns(kind, 0.9, 0.8).tolist()[0]


def test_peng_by_hand() -> None:
    g2 = 4 + 0.9 * 40
    g1 = 2 + 0.9 * (0.2 * 30 + 0.8 * g2)
    g0 = 1 + 0.9 * (0.2 * 20 + 0.8 * g1)
    assert by_hand("peng") == pytest.approx([g0, g1, g2])


@pytest.mark.parametrize("kind", ["watkins", "retrace"])
def test_the_trace_ends_before_an_action_that_is_not_greedy(kind: str) -> None:
    g1 = 2 + 0.9 * 30
    g0 = 1 + 0.9 * (0.2 * 20 + 0.8 * g1)
    assert by_hand(kind) == pytest.approx([g0, g1, 4 + 0.9 * 40])


def test_past_a_terminal_step_there_is_nothing() -> None:
    for last in (True, False):  # a lost life terminates too, but the game goes on
        got = by_hand("peng", terminated=[False, True, False], last=[False, last, False])
        assert got == pytest.approx([1 + 0.9 * (0.2 * 20 + 0.8 * 2), 2, 4 + 0.9 * 40])


def test_a_truncated_step_bootstraps_from_the_observation_that_came_with_it() -> None:
    got = by_hand("peng", last=[True, False, False], dummy=[False, True, False])
    assert got[0] == pytest.approx(1 + 0.9 * 20)
    assert got[2] == pytest.approx(4 + 0.9 * 40)


def test_no_return_reaches_into_a_dummy() -> None:
    assert by_hand("peng", dummy=[False, False, True])[1] == pytest.approx(2 + 0.9 * 30)


@pytest.mark.parametrize("kind", KINDS)
def test_lambda_0_is_one_step(kind: str) -> None:
    w = Window(50, 6, 3, seed=0)
    torch.testing.assert_close(w.returns(kind, 0.9, 0.0), w.one_step(0.9))


def test_peng_with_lambda_1_is_the_n_step_return_to_the_window_end() -> None:
    w = Window(50, 6, 3, seed=0, ends=False)
    target = n_step(w.reward, w.terminated, w.last, 0.9)
    got = w.returns("peng", 0.9, 1.0)
    torch.testing.assert_close(got[:, 0], target.returns + 0.9**6 * w.v[:, 6])
    last = n_step(w.reward[:, 4:], w.terminated[:, 4:], w.last[:, 4:], 0.9)
    torch.testing.assert_close(got[:, 4], last.returns + 0.9**2 * w.v[:, 6])


def test_peng_is_the_geometric_mean_of_n_step_returns() -> None:
    w = Window(50, 4, 3, seed=1, ends=False)
    returns = []
    for n in range(1, 5):
        target = n_step(w.reward, w.terminated, w.last, 0.9, n=n)
        returns.append(target.returns + target.discount * w.v[:, n])
    weights = [1 - 0.7, (1 - 0.7) * 0.7, (1 - 0.7) * 0.7**2, 0.7**3]
    expected = sum(weight * g for weight, g in zip(weights, returns, strict=True))
    torch.testing.assert_close(w.returns("peng", 0.9, 0.7)[:, 0], expected)


def test_the_three_agree_while_actions_are_greedy_and_differ_where_not() -> None:
    w = Window(50, 6, 3, seed=2, ends=False)
    explored = [w.returns(kind, 0.9, 0.7) for kind in KINDS]
    assert (explored[0] != explored[1]).any()
    torch.testing.assert_close(explored[1], explored[2])
    w.action = w.greedy[:, :-1]
    peng, watkins, retrace = (w.returns(kind, 0.9, 0.7) for kind in KINDS)
    torch.testing.assert_close(peng, watkins)
    torch.testing.assert_close(peng, retrace)


def test_each_row_may_have_its_own_discount() -> None:
    w = Window(2, 5, 3, seed=3)
    got = w.returns("peng", torch.tensor([0.9, 0.5]), 0.7)
    torch.testing.assert_close(got[0], w.returns("peng", 0.9, 0.7)[0])
    torch.testing.assert_close(got[1], w.returns("peng", 0.5, 0.7)[1])


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="unknown return 'sarsa': peng, watkins or retrace"):
        Window(1, 2, 2, seed=0).returns("sarsa", 0.9, 0.5)
