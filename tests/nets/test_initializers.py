"""Initializers do what their names say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from distdqn.nets.initialize import initialize
from distdqn.nets.torso import SpectralConv2d

FAN_IN, FAN_OUT = 300, 200


def linear(name: str) -> nn.Linear:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(FAN_IN, FAN_OUT))
    initialize(module, name)
    layer = module[0]
    assert isinstance(layer, nn.Linear)
    return layer


def std(weight: Tensor) -> float:
    return float(weight.detach().std())


def test_fan_in_is_uniform_by_fan_in_and_pytorchs_default() -> None:
    torch.manual_seed(0)
    default, layer = nn.Linear(FAN_IN, FAN_OUT), linear("fan_in")
    assert torch.equal(layer.weight, default.weight) and torch.equal(layer.bias, default.bias)
    bound = 1 / math.sqrt(FAN_IN)
    for values in (layer.weight, layer.bias):
        assert 0.98 * bound < float(values.detach().abs().max()) <= bound
        assert std(values) == pytest.approx(bound / math.sqrt(3), rel=0.1)


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
    initialize(network, name)
    after = [p.detach() for p in network.parameters() if p.ndim > 1]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(p.any() for p in network.parameters() if p.ndim == 1)


SHAPE, FAN = (24, 8, 3, 3), 8 * 3 * 3


def starts_as(name: str, weight: Tensor) -> bool:
    """Whether `weight` of `SHAPE` is what the initializer `name` draws, up to what few draws can tell."""
    matrix = weight.flatten(1)
    expected = {"fan_in": math.sqrt(1 / (3 * FAN)), "xavier": math.sqrt(2 / (FAN + 24 * 9)), "he": math.sqrt(2 / FAN)}
    if name == "zeros":
        return not weight.any()
    if name == "orthogonal":
        return torch.allclose(matrix @ matrix.T, torch.eye(24), atol=1e-5)
    return abs(std(weight) / expected[name] - 1) < 0.1


@pytest.mark.parametrize("name", ["fan_in", "xavier", "he", "orthogonal", "zeros"])
def test_layers_with_spectral_normalization_are_reached(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(SpectralConv2d(8, 24, 3))
    initialize(network, name)
    layer = network[0]
    assert isinstance(layer, SpectralConv2d)
    assert starts_as(name, layer.weight.detach())
    others = {"fan_in", "xavier", "he", "orthogonal", "zeros"} - {name}
    assert not any(starts_as(other, layer.weight.detach()) for other in others)
    # and the weights that were set are those that it computes with
    x = torch.rand(2, 8, 5, 5)
    sigma = layer.eval().sigma()
    torch.testing.assert_close(layer(x), torch.nn.functional.conv2d(x, layer.weight / sigma, layer.bias))
    assert bool(layer.bias is not None and layer.bias.any()) == (name == "fan_in")


def test_unknown_name() -> None:
    for name in ("lecun", "torch"):
        with pytest.raises(ValueError, match=f"unknown initializer '{name}': fan_in, xavier"):
            initialize(nn.Linear(1, 1), name)
