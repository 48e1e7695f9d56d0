"""The decoder draws images of any size from the features of any torso."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distdqn.nets.decoder import Decoder
from distdqn.nets.torso import CONVOLUTIONAL, make_torso
from tests.configs import network_config


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("size", [(84, 84), (42, 42), (10, 5), (210, 160), (7, 100), (1, 1)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_shapes(name: str, size: tuple[int, int], outputs: int) -> None:
    torso = make_torso(network_config(torso=name).torso, (3, *size))
    decoder = Decoder(torso.map_shape, (outputs, *size))
    assert decoder(torso(torch.rand(2, 3, *size))).shape == (2, outputs, *size)


@pytest.mark.parametrize(
    ("map_shape", "size", "channels"),
    [
        ((64, 7, 7), (84, 84), [64, 32, 16, 16]),  # 14, 28, 56: at least 42
        ((64, 7, 7), (14, 14), [64]),  # 7 is half of 14
        ((64, 7, 7), (15, 14), [64, 32]),
        ((8, 4, 4), (16, 16), [8, 16]),
        ((32, 11, 11), (84, 84), [32, 16, 16]),  # 22, 44
    ],
)
def test_doubles_until_half_of_the_size(
    map_shape: tuple[int, int, int], size: tuple[int, int], channels: list[int]
) -> None:
    decoder = Decoder(map_shape, (1, *size))
    doublings = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.in_channels for m in doublings] + [decoder.image.in_channels] == channels
    side = map_shape[1] * 2 ** len(doublings)
    assert decoder.maps(torch.rand(1, torch.Size(map_shape).numel())).shape == (1, channels[-1], side, side)


def test_features_are_maps_row_by_row() -> None:
    """A feature of the map's upper left corner reaches the image's upper left, and nothing far from it."""
    decoder = Decoder((2, 7, 7), (1, 84, 84))
    features = torch.rand(1, 2 * 7 * 7)
    other = features.clone()
    other[0, 7 * 7] += 10  # channel 1, row 0, column 0
    moved = (decoder(other) != decoder(features))[0, 0]
    assert moved[:6, :6].any()
    assert not moved[42:].any() and not moved[:, 42:].any()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"torso": "dqn_2015"}, (36, 36)),
        ({"torso": "small"}, (10, 5)),
        ({"torso": "impala", "pool": 6, "normalize": "spectral"}, (12, 12)),
        ({"torso": "lenet", "normalize": "layer"}, (16, 16)),
    ],
)
def test_an_autoencoder_learns_a_handful_of_images(options: dict[str, object], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.zeros(4, 1, *size)
    for i in range(4):  # a bright quarter, another one in each image
        y, x = (i // 2) * size[0] // 2, (i % 2) * size[1] // 2
        images[i, 0, y : y + size[0] // 2, x : x + size[1] // 2] = 1
    torso = make_torso(network_config(**options).torso, images.shape[1:])
    decoder = Decoder(torso.map_shape, (1, *size))
    parameters = [*torso.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, 5e-3)
    losses = []
    for _ in range(120):
        loss = F.binary_cross_entropy_with_logits(decoder(torso(images)), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None for p in parameters)
    assert losses[-1] < losses[0] / 10


def test_bf16_and_compiled() -> None:
    torch.manual_seed(0)
    decoder = Decoder((16, 3, 3), (2, 20, 17))
    run = torch.compile(decoder, dynamic=False, backend="aot_eager", fullgraph=True)
    features = torch.rand(3, 16 * 3 * 3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(run(features).float(), decoder(features).float(), atol=0.02, rtol=0.02)
    torch.testing.assert_close(run(features), decoder(features))
