"""Initialisers do what their names say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from distdqn.nets.initialise import initialise

FAN_IN, FAN_OUT = 300, 200


def linear(name: str) -> nn.Linear:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(FAN_IN, FAN_OUT))
    initialise(module, name)
    layer = module[0]
    assert isinstance(layer, nn.Linear)
    return layer


def std(weight: Tensor) -> float:
    return float(weight.detach().std())


def test_torch_leaves_the_default() -> None:
    torch.manual_seed(0)
    default = nn.Linear(FAN_IN, FAN_OUT)
    assert torch.equal(linear("torch").weight, default.weight)
    assert torch.equal(linear("torch").bias, default.bias)
    assert default.bias.any()


def test_xavier_is_uniform_by_both_fans() -> None:
    weight, bound = linear("xavier").weight, math.sqrt(6 / (FAN_IN + FAN_OUT))
    assert 0.99 * bound < float(weight.detach().abs().max()) <= bound
    assert std(weight) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_he_is_normal_by_fan_in() -> None:
    weight = linear("he").weight.detach()
    assert std(weight) == pytest.approx(math.sqrt(2 / FAN_IN), rel=0.02)
    # a uniform distribution of that deviation ends at sqrt(3) deviations
    assert float(weight.abs().max()) > 3 * std(weight)


def test_orthogonal_rows_are_orthonormal() -> None:
    weight = linear("orthogonal").weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(FAN_OUT), atol=1e-5, rtol=0)


def test_zeros() -> None:
    assert not linear("zeros").weight.any()


@pytest.mark.parametrize("name", ["xavier", "he", "orthogonal", "zeros"])
def test_biases_start_at_zero_and_convolutions_are_reached(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2, bias=False)))
    before = [p.detach().clone() for p in network.parameters() if p.ndim > 1]
    initialise(network, name)
    after = [p.detach() for p in network.parameters() if p.ndim > 1]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(p.any() for p in network.parameters() if p.ndim == 1)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown initialiser 'lecun'"):
        initialise(nn.Linear(1, 1), "lecun")
