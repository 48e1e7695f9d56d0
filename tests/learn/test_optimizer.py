"""Optimizers against loops, schedules by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from distdqn.config import OptimizerConfig
from distdqn.learn.optimizer import learning_rate, make_optimizer, optimizer_state, restore_optimizer
from distdqn.learn.rmsprop import CenteredRMSProp


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    decay=st.floats(0, 0.99),
    eps=st.sampled_from([1e-6, 0.01, 1.0]),
    lr=st.sampled_from([1e-3, 0.1]),
)
def test_centered_rmsprop_equals_a_loop(seed: int, decay: float, eps: float, lr: float) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(3, 2), (4,)]
    values = [rng.standard_normal(s) for s in shapes]
    parameters = [nn.Parameter(torch.from_numpy(v.copy())) for v in values]
    optimizer = CenteredRMSProp(parameters, lr, decay, eps)
    mean, square = [np.zeros(s) for s in shapes], [np.zeros(s) for s in shapes]
    for _ in range(5):
        for i, shape in enumerate(shapes):
            g = rng.standard_normal(shape)
            parameters[i].grad = torch.from_numpy(g.copy())
            for at in np.ndindex(shape):
                mean[i][at] = decay * mean[i][at] + (1 - decay) * g[at]
                square[i][at] = decay * square[i][at] + (1 - decay) * g[at] ** 2
                values[i][at] -= lr * g[at] / math.sqrt(square[i][at] - mean[i][at] ** 2 + eps)
        optimizer.step()
    for parameter, value in zip(parameters, values, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-6, atol=1e-9)


def test_centered_rmsprop_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = CenteredRMSProp([parameter], lr=0.5, decay=0.75, eps=0.01)
    parameter.grad = torch.tensor([2.0])
    optimizer.step()
    # E[g] = 0.25 * 2, E[g^2] = 0.25 * 4, epsilon inside the root
    assert parameter.item() == pytest.approx(1 - 0.5 * 2 / math.sqrt(1.0 - 0.5**2 + 0.01))


def test_a_gradient_that_never_changes_has_no_negative_variance() -> None:
    parameter = nn.Parameter(torch.zeros(64))
    optimizer = CenteredRMSProp([parameter], lr=2.5e-4, decay=0.95, eps=0.01)
    gradient = 1000 * torch.rand(64, generator=torch.Generator().manual_seed(0))
    for _ in range(400):
        parameter.grad = gradient.clone()
        optimizer.step()
    assert parameter.isfinite().all()


def test_parameters_without_a_gradient_stay() -> None:
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = CenteredRMSProp([still, moved], 0.1, 0.9, 0.01)
    moved.grad = torch.ones(2)
    optimizer.step()
    assert still.tolist() == [1, 1]
    assert (moved != 1).all()


def test_schedules_by_hand() -> None:
    def at(schedule: str, updates: int, progress: float) -> float:
        return learning_rate(
            OptimizerConfig(learning_rate=0.1, schedule=schedule, schedule_decay=0.5), updates, progress
        )

    assert [at("constant", 99, p) for p in (0.0, 0.5, 1.0)] == [0.1] * 3
    assert [at("linear", 99, p) for p in (0.0, 0.25, 1.0, 1.5)] == pytest.approx([0.1, 0.075, 0, 0])
    assert [at("cosine", 99, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.05, 0])
    assert at("cosine", 0, 1 / 3) == pytest.approx(0.1 * 0.75)
    assert [at("inverse", k, 0.9) for k in (0, 1, 6)] == pytest.approx([0.1, 0.1 / 1.5, 0.1 / 4])


def test_names_and_settings() -> None:
    def make(**config: Any) -> torch.optim.Optimizer:
        return make_optimizer(OptimizerConfig(learning_rate=0.25, **config), [nn.Parameter(torch.ones(1))])

    adam, rmsprop, sgd = (make(kind="adam", epsilon=0.5), make(kind="rmsprop"), make(kind="sgd"))
    assert isinstance(adam, torch.optim.Adam)
    assert (adam.defaults["lr"], adam.defaults["eps"]) == (0.25, 0.5)
    assert isinstance(rmsprop, CenteredRMSProp)
    assert (rmsprop.defaults["decay"], rmsprop.defaults["eps"]) == (0.95, 0.01)
    assert isinstance(sgd, torch.optim.SGD)
    assert make(kind="sgd", momentum=0.9).defaults["momentum"] == 0.9


def test_plain_rmsprop_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    config = OptimizerConfig(kind="rmsprop", centered=False, learning_rate=0.5, decay=0.75, epsilon=0.01, momentum=0.5)
    optimizer = make_optimizer(config, [parameter])
    for g in (2.0, -3.0):
        parameter.grad = torch.tensor([g])
        optimizer.step()
    # E[g^2], epsilon outside the root
    first, second = 0.25 * 2**2, 0.75 * 0.25 * 2**2 + 0.25 * 3**2
    one = 2 / (math.sqrt(first) + 0.01)
    two = 0.5 * one - 3 / (math.sqrt(second) + 0.01)
    assert parameter.item() == pytest.approx(1 - 0.5 * one - 0.5 * two)


def test_adamw_by_hand() -> None:
    """Adam's first step is the step size whatever the gradient; decay multiplies weights alone by 1 - lr decay."""
    network = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    config = OptimizerConfig(kind="adamw", learning_rate=0.1, weight_decay=0.25, epsilon=1e-8)
    optimizer = make_optimizer(config, network.parameters())
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.full_like(p, 7.0)
    optimizer.step()
    for name, p in network.named_parameters():
        kept = 1 - 0.1 * 0.25 if name == "0.weight" else 1
        torch.testing.assert_close(p.detach(), kept * before[name] - 0.1)


KINDS: list[dict[str, Any]] = [
    {"kind": "adam"},
    {"kind": "rmsprop"},
    {"kind": "sgd"},
    {"kind": "sgd", "momentum": 0.9},
    {"kind": "adamw", "weight_decay": 0.1},
    {"kind": "rmsprop", "centered": False},
    {"kind": "rmsprop", "centered": False, "momentum": 0.9},
]
MOMENTS = ("adam", "centered", "none", "momentum", "adamw", "squares", "squares and momentum")
"""What each of `KINDS` remembers."""


def stepped(kind: dict[str, Any], width: int = 3, steps: int = 2) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))
    optimizer = make_optimizer(OptimizerConfig(**kind), network.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.tensor([[1.0, -2.0]])).square().sum().backward()
        optimizer.step()
    return network, optimizer


@pytest.mark.parametrize("kind", KINDS)
def test_state_round_trip(kind: dict[str, Any]) -> None:
    _, optimizer = stepped(kind)
    state = optimizer_state(optimizer)
    _, other = stepped(kind, steps=0)
    restore_optimizer(other, state)
    again = optimizer_state(other)
    assert again.keys() == state.keys()
    for i, moments in state.items():
        assert moments.keys() == again[i].keys()
        for name, array in moments.items():
            assert isinstance(array, np.ndarray)
            np.testing.assert_array_equal(again[i][name], array)


@pytest.mark.parametrize("kind", KINDS[:2] + KINDS[3:])
def test_moments_of_another_network_are_refused(kind: dict[str, Any]) -> None:
    state = optimizer_state(stepped(kind)[1])
    with pytest.raises(ValueError, match="another network"):
        restore_optimizer(stepped(kind, width=4)[1], state)


@pytest.mark.parametrize("ours", range(len(KINDS)))
@pytest.mark.parametrize("theirs", [0, 1, 3, 4, 5, 6])
def test_moments_of_another_optimizer_are_refused(ours: int, theirs: int) -> None:
    state = optimizer_state(stepped(KINDS[theirs])[1])
    optimizer = stepped(KINDS[ours], steps=0)[1]
    if MOMENTS[ours] == MOMENTS[theirs]:
        restore_optimizer(optimizer, state)
    else:
        # Adam and AdamW remember the same, but of the parameters in another order
        kind = "network" if {MOMENTS[ours], MOMENTS[theirs]} == {"adam", "adamw"} else "optimizer"
        with pytest.raises(ValueError, match=f"another {kind}"):
            restore_optimizer(optimizer, state)


@pytest.mark.parametrize("ours", range(len(KINDS)))
def test_before_the_first_step_there_are_no_moments(ours: int) -> None:
    assert optimizer_state(stepped(KINDS[2])[1]) == {}
    restore_optimizer(stepped(KINDS[ours], steps=0)[1], {})
