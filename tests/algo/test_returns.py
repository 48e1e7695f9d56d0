"""n-step returns against hand arithmetic and a loop over single steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.returns import NStep, n_step, transform_reward

Step = tuple[float, bool, bool]


def of(*steps: Step, gamma: float = 0.9) -> NStep:
    """The window of (reward, terminated, last)."""
    reward, terminated, last = zip(*steps, strict=True)
    return n_step(torch.tensor(reward), torch.tensor(terminated), torch.tensor(last), gamma)


def test_without_an_end_all_rewards_count() -> None:
    target = of((1.0, False, False), (2.0, False, False), (200.0, False, False))
    assert target.returns.item() == pytest.approx(1 + 0.9 * 2 + 0.9**2 * 200)
    assert target.discount.item() == pytest.approx(0.9**3)
    assert target.steps.item() == 3


def test_past_a_terminal_step_there_is_nothing() -> None:
    for last in (True, False):  # a lost life terminates too, but the game goes on
        target = of((1.0, False, False), (2.0, True, last), (200.0, False, False))
        assert target.returns.item() == pytest.approx(1 + 0.9 * 2)
        assert target.discount.item() == 0
        assert target.steps.item() == 2


def test_a_truncated_step_bootstraps_from_the_observation_that_came_with_it() -> None:
    target = of((1.0, False, False), (2.0, False, True), (200.0, True, True))
    assert target.returns.item() == pytest.approx(1 + 0.9 * 2)
    assert target.discount.item() == pytest.approx(0.9**2)
    assert target.steps.item() == 2


def test_the_first_of_several_ends_counts() -> None:
    target = of((1.0, False, True), (2.0, True, True), (4.0, True, False))
    assert (target.returns.item(), target.steps.item()) == (1.0, 1)
    assert target.discount.item() == pytest.approx(0.9)


def test_an_end_on_the_last_step_is_seen() -> None:
    steps = ((1.0, False, False), (2.0, False, False))
    assert of(*steps, (4.0, True, True)).discount.item() == 0
    assert of(*steps, (4.0, False, True)).discount.item() == pytest.approx(0.9**3)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_ends_of_the_discount(gamma: float) -> None:
    target = of((3.0, False, False), (5.0, False, False), gamma=gamma)
    assert target.returns.item() == 3 + gamma * 5
    assert target.discount.item() == gamma


steps_of_a_window = st.lists(
    st.tuples(st.floats(-5, 5, width=32), st.booleans(), st.booleans()), min_size=1, max_size=6
)


@settings(deadline=None)
@given(st.lists(steps_of_a_window, min_size=1, max_size=4), st.floats(0, 1))
def test_equals_a_loop(windows: list[list[Step]], gamma: float) -> None:
    length = min(len(w) for w in windows)
    windows = [w[:length] for w in windows]
    reward, terminated, last = (torch.tensor([[step[i] for step in w] for w in windows]) for i in range(3))
    got = n_step(reward, terminated, last, gamma)
    assert (got.returns.dtype, got.discount.dtype, got.steps.dtype) == (torch.float32, torch.float32, torch.int64)
    for row, window in enumerate(windows):
        total, discount, count = 0.0, 1.0, 0
        for r, is_terminal, is_last in window:
            total += discount * r
            discount *= gamma
            count += 1
            if is_terminal or is_last:
                discount = 0.0 if is_terminal else discount
                break
        assert got.returns[row].item() == pytest.approx(total, rel=1e-4, abs=1e-4)
        assert got.discount[row].item() == pytest.approx(discount, rel=1e-4, abs=1e-6)
        assert got.steps[row].item() == count


def test_n_cuts_the_window() -> None:
    steps = ((1.0, False, False), (2.0, False, False), (200.0, True, True))
    reward, terminated, last = (torch.tensor(field) for field in zip(*steps, strict=True))
    target = n_step(reward, terminated, last, 0.9, n=2)
    assert target.returns.item() == pytest.approx(1 + 0.9 * 2)
    assert target.discount.item() == pytest.approx(0.9**2)
    assert target.steps.item() == 2
    assert n_step(reward, terminated, last, 0.9, n=3) == n_step(reward, terminated, last, 0.9)
    for n in (0, 4):
        with pytest.raises(ValueError, match=f"n={n}: the window has steps 1 to 3"):
            n_step(reward, terminated, last, 0.9, n=n)


def test_each_row_may_have_its_own_discount() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0]] * 3)
    terminated = torch.tensor([[False] * 3, [False] * 3, [False, True, False]])
    got = n_step(reward, terminated, terminated, torch.tensor([0.9, 0.0, 0.5]))
    torch.testing.assert_close(got.returns, torch.tensor([1 + 0.9 * 2 + 0.9**2 * 4, 1, 1 + 0.5 * 2]))
    torch.testing.assert_close(got.discount, torch.tensor([0.9**3, 0, 0]))
    for a, b in zip(
        n_step(reward, terminated, terminated, torch.tensor(0.9)),
        n_step(reward, terminated, terminated, 0.9),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_leading_dimensions_are_free() -> None:
    rng = np.random.default_rng(0)
    reward = torch.from_numpy(rng.standard_normal((4, 5, 3), np.float32))
    terminated, last = (torch.from_numpy(rng.random((4, 5, 3)) < 0.3) for _ in range(2))
    got = n_step(reward, terminated, last, 0.9)
    flat = n_step(reward.flatten(0, 1), terminated.flatten(0, 1), last.flatten(0, 1), 0.9)
    for a, b in zip(got, flat, strict=True):
        assert a.shape == (4, 5)
        assert torch.equal(a.flatten(), b)


def test_reward_transforms() -> None:
    reward = torch.tensor([-7.0, -1.0, -0.25, 0.0, 0.5, 1.0, 400.0])
    assert transform_reward(reward, "clip").tolist() == [-1.0, -1.0, -0.25, 0.0, 0.5, 1.0, 1.0]
    assert torch.equal(transform_reward(reward, "none"), reward)
    with pytest.raises(ValueError, match="reward transform 'sign'"):
        transform_reward(reward, "sign")
