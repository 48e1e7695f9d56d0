"""What all equations on tensors have in common: they compile whole, stay on the device of their inputs, and
targets carry no gradient."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch

from distdqn.algo import augment, bootstrap, categorical, priority, quantile, rescale, returns

B, L, A, Z = 3, 4, 2, 5
g = torch.Generator().manual_seed(0)
R, D = torch.rand(2, B, generator=g)
Q, BONUS = torch.rand(2, B, A, generator=g)
STEPS_OF_Q = torch.rand(B, L + 1, A, generator=g)
PI = torch.softmax(Q, -1)
VALUES, ONLINE, TAU = torch.rand(B, A, Z, generator=g), *torch.rand(2, B, Z, generator=g)
REWARD = torch.rand(B, L, generator=g)
TERMINATED, LAST, DUMMY = torch.rand(3, B, L, generator=g) < 0.3
ACTION, GREEDY = torch.randint(0, A, (B,), generator=g), torch.randint(0, A, (B, L + 1), generator=g)
SUPPORT = torch.linspace(0, 1, Z)
IMAGES = torch.randint(0, 256, (B, 2, 6, 6), generator=g)
NO = torch.zeros(B, L, dtype=torch.bool)

Steps = namedtuple("Steps", ["reward", "terminated", "last", "action", "dummy"])
Case = tuple[Callable[..., Any], tuple[Any, ...]]
TARGETS: dict[str, Case] = {
    **{
        kind: (
            lambda kind, gamma, trace, q, greedy, *steps: returns.lambda_returns(
                kind, Steps(*steps), gamma, trace, q, greedy
            ),
            (kind, D, 0.9, STEPS_OF_Q, GREEDY, REWARD, NO, NO, GREEDY[:, 1:], DUMMY),
        )
        for kind in ("peng", "watkins", "retrace")
    },
    "greedy": (bootstrap.greedy_policy, (Q,)),
    "softmax": (lambda q: bootstrap.softmax_policy(q, 0.5)[1], (Q,)),
    "state_value": (bootstrap.state_value, (Q, PI, BONUS)),
    "entropy_bonus": (bootstrap.entropy_bonus, (Q, 0.5)),
    "munchausen": (bootstrap.munchausen_reward, (Q, ACTION, 0.5, 0.9, -1.0)),
    "project": (categorical.project, (ONLINE, TAU, SUPPORT)),
    "c51": (categorical.categorical_target, (VALUES, PI, None, R, D, SUPPORT)),
    "soft_c51": (categorical.categorical_target, (VALUES, PI, BONUS, R, D, SUPPORT)),
    "quantile_target": (quantile.quantile_target, (VALUES, PI, BONUS, R, D)),
}
OTHERS: dict[str, Case] = {
    "n_step": (lambda *x: returns.n_step(*x, n=3), (REWARD, TERMINATED, LAST, 0.9)),
    "n_step_by_row": (returns.n_step, (REWARD, TERMINATED, LAST, D)),
    "categorical_loss": (categorical.categorical_loss, (VALUES, ACTION, TAU)),
    "huber": (quantile.quantile_loss, (ONLINE, TAU, ONLINE.flip(0), 1.0)),
    "quantile": (quantile.quantile_loss, (ONLINE, TAU, ONLINE.flip(0), 0.0)),
    "h": (rescale.h, (Q, 1e-3)),
    "h_inverse": (rescale.h_inverse, (Q, 1e-3)),
    "sequence_priority": (priority.sequence_priority, (REWARD, LAST, 0.9)),
    "shift": (lambda x: augment.random_shift(x, 2, torch.Generator()), (IMAGES.to(torch.uint8),)),
    "intensity": (lambda x: augment.random_intensity(x, 0.1, torch.Generator()), (IMAGES.to(torch.uint8),)),
}
CASES = TARGETS | OTHERS


def moved(x: Any, device: str) -> Any:
    return x.to(device) if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize("name", CASES)
def test_stays_on_the_device_of_its_inputs(name: str) -> None:
    function, inputs = CASES[name]
    # operations between the meta device and the CPU raise, as those between CUDA and the CPU do
    got = function(*(moved(x, "meta") for x in inputs))
    here = function(*inputs)
    pairs = zip(got, here, strict=True) if isinstance(here, tuple) else [(got, here)]
    for meta, expected in pairs:
        assert (meta.device.type, meta.shape, meta.dtype) == ("meta", expected.shape, expected.dtype)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("shift", "intensity")])
def test_compiles_into_one_graph(name: str) -> None:
    function, inputs = CASES[name]
    compiled = torch.compile(function, backend="aot_eager", dynamic=False, fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), function(*inputs))


@pytest.mark.parametrize("name", TARGETS)
def test_no_gradient_flows_into_a_target(name: str) -> None:
    function, inputs = TARGETS[name]
    leaves = [
        x.clone().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs
    ]
    assert any(isinstance(x, torch.Tensor) and x.requires_grad for x in leaves)
    assert not function(*leaves).requires_grad
