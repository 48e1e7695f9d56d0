"""Torsos for any frame size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distdqn.nets.torso import DQN_2013, DQN_2015, SMALL, Convolutions, make_torso

SIZES = [(10, 5), (20, 20), (36, 36), (42, 42), (84, 84), (210, 160), (7, 100), (1, 1)]


def out(side: int, layers: tuple[tuple[int, int, int], ...]) -> int:
    for _, kernel, stride in layers:
        side = (side - kernel) // stride + 1
    return side


@pytest.mark.parametrize("name", ["dqn_2013", "small", "dqn_2015", "mlp", "tabular"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_frame_size(name: str, height: int, width: int) -> None:
    torso = make_torso(name, (4, height, width))
    features = torso(torch.rand(2, 4, height, width))
    assert features.shape == (2, torso.features)
    if name in ("mlp", "tabular"):
        assert torso.features == 4 * height * width
    else:
        # the least side leaves one pixel: (1 - 1) * 2 + 3 = 3, (3 - 1) * 2 + 4 = 8, (8 - 1) * 2 + 4 = 18
        layers, least = {"dqn_2013": (DQN_2013, 20), "small": (SMALL, 18), "dqn_2015": (DQN_2015, 36)}[name]
        sides = [out(max(side, least), layers) for side in (height, width)]
        assert torso.features == layers[-1][0] * sides[0] * sides[1]


def test_published_sizes() -> None:
    # Mnih et al. 2013: 32 maps of 9 x 9; Mnih et al. 2015: 64 maps of 7 x 7
    assert make_torso("dqn_2013", (4, 84, 84)).features == 32 * 9 * 9 == 2592
    assert make_torso("dqn_2015", (4, 84, 84)).features == 64 * 7 * 7 == 3136
    assert make_torso("small", (4, 42, 42)).features == 32 * 4 * 4 == 512
    shapes = [
        tuple(m.weight.shape)
        for m in make_torso("dqn_2015", (4, 84, 84)).modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3)]


def test_padding_is_even_and_only_where_needed() -> None:
    assert Convolutions((1, 36, 84), DQN_2015).pad == (0, 0, 0, 0)
    assert Convolutions((1, 10, 5), DQN_2015).pad == (15, 16, 13, 13)  # 5 to 36 wide, 10 to 36 high


@pytest.mark.parametrize("name", ["dqn_2013", "small", "dqn_2015"])
def test_every_pixel_of_a_padded_frame_matters(name: str) -> None:
    torch.manual_seed(0)
    torso = make_torso(name, (1, 10, 5))
    frame = torch.rand(1, 1, 10, 5, requires_grad=True)
    torso(frame).sum().backward()
    assert frame.grad is not None
    assert (frame.grad != 0).all()


def test_vectors_stay_as_they_are() -> None:
    assert torch.equal(
        make_torso("mlp", (3,))(torch.tensor([[1.0, -2.0, 3.0]])), torch.tensor([[1.0, -2.0, 3.0]])
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match="needs images"):
        make_torso("dqn_2015", (4,))
    with pytest.raises(ValueError, match="unknown torso 'resnet'"):
        make_torso("resnet", (4, 84, 84))
