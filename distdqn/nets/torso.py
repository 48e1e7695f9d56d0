"""From observations to features. Every torso has `features`, the width of what it gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Layer = tuple[int, int, int]  # channels, kernel, stride
DQN_2013: tuple[Layer, ...] = ((16, 8, 4), (32, 4, 2))
SMALL: tuple[Layer, ...] = ((16, 4, 2), (32, 4, 2), (32, 3, 2))
"""For frames of about 42 x 42: the first layer sees as much of the screen as that of the published networks sees of
84 x 84, and a third layer keeps the fully connected ones small."""
DQN_2015: tuple[Layer, ...] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


def _smallest(layers: Sequence[Layer]) -> int:
    """Side of the smallest image that leaves one pixel after the last layer."""
    side = 1
    for _, kernel, stride in reversed(layers):
        side = (side - 1) * stride + kernel
    return side


class Convolutions(nn.Module):
    """Unpadded convolutions with ReLU, flattened: `[B, S, H, W]` float32 in [0, 1] to `[B, features]`.

    Frames smaller than the kernels need are padded with zeros, evenly on both sides, so that every frame
    size works. Layers: Mnih et al. 2013 section 4.1, Mnih et al. 2015 methods.
    """

    def __init__(self, shape: Sequence[int], layers: Sequence[Layer]) -> None:
        super().__init__()
        channels, height, width = shape
        least = _smallest(layers)
        pad_h, pad_w = max(0, least - height), max(0, least - width)
        self.pad = (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2)
        modules: list[nn.Module] = [nn.ZeroPad2d(self.pad)] if any(self.pad) else []
        for out, kernel, stride in layers:
            modules += [nn.Conv2d(channels, out, kernel, stride), nn.ReLU()]
            channels = out
        self.layers = nn.Sequential(*modules, nn.Flatten())
        with torch.no_grad():
            self.features = self.layers(torch.zeros(1, *shape)).shape[1]

    def forward(self, observation: Tensor) -> Tensor:
        features: Tensor = self.layers(observation)
        return features


class Flat(nn.Module):
    """The observation as one vector, for a multilayer perceptron or a table: `[B, ...]` to `[B, features]`."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.features = int(torch.Size(shape).numel())

    def forward(self, observation: Tensor) -> Tensor:
        return observation.flatten(1)


def make_torso(name: str, shape: Sequence[int]) -> Convolutions | Flat:
    """The torso called `name` for observations of `shape` (without the batch dimension).

    Raises:
        ValueError: a convolutional torso for vectors, or an unknown name.
    """
    if name in ("mlp", "tabular"):
        return Flat(shape)
    layers = {"dqn_2013": DQN_2013, "small": SMALL, "dqn_2015": DQN_2015}.get(name)
    if layers is None:
        raise ValueError(f"unknown torso {name!r}: dqn_2015, dqn_2013, small, mlp or tabular")
    if len(shape) != 3:
        raise ValueError(f"torso {name} needs images, the observation has shape {tuple(shape)}: use mlp")
    return Convolutions(shape, layers)
