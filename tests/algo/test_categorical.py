"""C51's projection, target and loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.algo.bootstrap import entropy_bonus, greedy_policy, softmax_policy, state_value
from distdqn.algo.categorical import categorical_loss, categorical_target, project

SUPPORT = torch.linspace(-10, 10, 51)


def log_probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def algorithm_1(atoms: list[float], probabilities: list[float], support: list[float]) -> list[float]:
    """The projection as Bellemare et al. 2017 write it, with an atom that hits a point kept whole."""
    low, high, count = support[0], support[-1], len(support)
    spacing = (high - low) / (count - 1)
    mass = [0.0] * count
    for z, p in zip(atoms, probabilities, strict=True):
        b = (min(max(z, low), high) - low) / spacing
        lower, upper = math.floor(b), min(math.ceil(b), count - 1)
        if lower == upper:
            mass[lower] += p
        else:
            mass[lower] += p * (upper - b)
            mass[upper] += p * (b - lower)
    return mass


def test_projection_by_hand() -> None:
    support = torch.tensor([0.0, 2.0, 4.0])
    for atom, expected in (
        (0.5, [0.75, 0.25, 0]),
        (2.0, [0, 1, 0]),
        (3.0, [0, 0.5, 0.5]),
        (0.0, [1, 0, 0]),
        (4.0, [0, 0, 1]),
        (-7.0, [1, 0, 0]),
        (1e9, [0, 0, 1]),
    ):
        assert project(torch.tensor([[atom]]), torch.tensor([[1.0]]), support).tolist() == [expected]
    both = project(torch.tensor([[3.0, 0.5]]), torch.tensor([[0.25, 0.75]]), support)
    assert both.tolist() == [[0.75 * 0.75, 0.75 * 0.25 + 0.25 * 0.5, 0.25 * 0.5]]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-30, 30, width=32), st.floats(0.01, 1)), min_size=1, max_size=8),
    st.integers(2, 12),
    st.floats(-15, 5, width=32),
    st.floats(0.125, 20, width=32),
)
def test_projection_equals_algorithm_1(atoms: list[tuple[float, float]], count: int, low: float, width: float) -> None:
    support = torch.linspace(low, low + width, count)
    total = sum(p for _, p in atoms)
    positions, probabilities = [z for z, _ in atoms], [p / total for _, p in atoms]
    got = project(torch.tensor([positions]), torch.tensor([probabilities]), support)
    expected = algorithm_1(positions, probabilities, support.tolist())
    torch.testing.assert_close(got, torch.tensor([expected]), rtol=1e-3, atol=1e-3)
    assert got.sum().item() == pytest.approx(1, abs=1e-6)


def test_the_support_projects_onto_itself() -> None:
    for low, high, count in ((-10, 10, 51), (0.1, 0.7, 21), (-300, 300, 601)):
        support = torch.linspace(low, high, count)
        probabilities = log_probabilities(2, count).exp()
        got = project(support.expand(2, -1), probabilities, support)
        torch.testing.assert_close(got, probabilities, rtol=1e-3, atol=1e-6)


def test_no_mass_is_lost_where_float32_barely_tells_the_atoms_apart() -> None:
    support = torch.linspace(1000.0, 1001.0, 10_000)
    got = project(support.expand(2, -1), log_probabilities(2, 10_000).exp(), support)
    torch.testing.assert_close(got.sum(-1), torch.ones(2))


def test_what_is_not_a_number_stays_in_its_row() -> None:
    atoms = torch.tensor([[0.0, float("nan")], [float("-inf"), float("inf")]])
    got = project(atoms, torch.full((2, 2), 0.5), torch.tensor([0.0, 2.0, 4.0]))
    assert got[0].isnan().any()
    assert got[1].tolist() == [0.5, 0, 0.5]


def test_one_hot_policy_is_c51() -> None:
    log_p = log_probabilities(4, 3, 51)
    reward, discount = torch.tensor([0.0, 1.0, -3.3, 30.0]), torch.tensor([0.99, 0.0, 0.5, 0.9])
    policy = greedy_policy((log_p.exp() * SUPPORT).sum(-1))
    got = categorical_target(log_p, policy, None, reward, discount, SUPPORT)
    for row in range(4):
        best = int(policy[row].argmax())
        atoms = [reward[row].item() + discount[row].item() * z for z in SUPPORT.tolist()]
        expected = algorithm_1(atoms, log_p[row, best].exp().tolist(), SUPPORT.tolist())
        torch.testing.assert_close(got[row], torch.tensor(expected), rtol=1e-3, atol=1e-5)


def test_softmax_policy_mixes_what_each_action_gives() -> None:
    log_p = log_probabilities(5, 3, 51)
    reward, discount = torch.linspace(-1, 1, 5), torch.full((5,), 0.9)
    policy, log_policy = softmax_policy((log_p.exp() * SUPPORT).sum(-1), 1.0)
    for bonus in (entropy_bonus(log_policy, 1.0), None):
        got = categorical_target(log_p, policy, bonus, reward, discount, SUPPORT)
        expected = torch.zeros(5, 51)
        for a in range(3):
            extra = torch.zeros(5) if bonus is None else bonus[:, a]
            atoms = reward[:, None] + discount[:, None] * (SUPPORT + extra[:, None])
            expected += policy[:, a, None] * project(atoms, log_p[:, a].exp(), SUPPORT)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("soft", [False, True])
def test_its_mean_is_the_scalar_target(soft: bool) -> None:
    """The projection keeps the mean of what lies within the support."""
    log_p = torch.cat([torch.full((8, 3, 15), -1e4), log_probabilities(8, 3, 21), torch.full((8, 3, 15), -1e4)], -1)
    q = (log_p.exp() * SUPPORT).sum(-1)
    policy, log_policy = softmax_policy(q, 0.1) if soft else (greedy_policy(q), None)
    bonus = entropy_bonus(log_policy, 0.1) if log_policy is not None else None
    reward, discount = torch.linspace(-1, 1, 8), torch.linspace(0, 1, 8)
    got = categorical_target(log_p, policy, bonus, reward, discount, SUPPORT)
    scalar = reward + discount * state_value(q, policy, bonus)
    torch.testing.assert_close((got * SUPPORT).sum(-1), scalar, rtol=1e-4, atol=1e-4)


def test_a_deterministic_reward_gives_the_scalar_target_exactly() -> None:
    log_p = log_probabilities(3, 2, 51)
    reward = torch.tensor([-4.0, 0.4, 10.0])  # points of the support, at the end of an episode
    got = categorical_target(log_p, greedy_policy(torch.randn(3, 2)), None, reward, torch.zeros(3), SUPPORT)
    torch.testing.assert_close(got, torch.eye(51)[[15, 26, 50]], rtol=0, atol=1e-5)


def test_loss_by_hand() -> None:
    p = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.9, 0.1], [0.2, 0.8]]])
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    cross_entropy, kl = categorical_loss(p.log(), torch.tensor([0, 1]), target)
    expected = torch.tensor([-0.5 * math.log(0.25) - 0.5 * math.log(0.75), -math.log(0.2)])
    torch.testing.assert_close(cross_entropy, expected)
    torch.testing.assert_close(kl, torch.tensor([expected[0].item() - math.log(2), expected[1].item()]))


def test_the_divergence_from_itself_is_0_and_never_below() -> None:
    # peaked enough that rounding alone would take some below 0
    log_p = (3 * torch.randn(1000, 1, 51, generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    _, kl = categorical_loss(log_p, torch.zeros(1000, dtype=torch.int64), log_p[:, 0].exp())
    assert kl.min() >= 0
    torch.testing.assert_close(kl, torch.zeros(1000), rtol=0, atol=1e-5)


def test_gradient_reaches_the_chosen_action_only() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.softmax(torch.randn(2, 4), -1).requires_grad_()
    cross_entropy, kl = categorical_loss(logits.log_softmax(-1), torch.tensor([2, 0]), target)
    assert not kl.requires_grad
    cross_entropy.sum().backward()
    expected = torch.zeros(2, 3, 4)
    for row, action in enumerate((2, 0)):  # of the cross-entropy of a softmax: p - target
        expected[row, action] = logits[row, action].detach().softmax(-1) - target[row].detach()
    torch.testing.assert_close(logits.grad, expected)
    assert target.grad is None
