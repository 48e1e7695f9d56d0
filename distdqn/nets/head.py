"""From features to action values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def _stream(features: int, hidden: Sequence[int], out: int, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, out, bias=bias))


class ScalarHead(nn.Module):
    """Q(s, .) by fully connected layers: `[B, features]` to `[B, A]`. A `linear` head has no bias, so that
    one-hot features make it a table."""

    def __init__(self, features: int, hidden: Sequence[int], actions: int, table: bool = False) -> None:
        super().__init__()
        self.value = _stream(features, () if table else hidden, actions, bias=not table)

    def forward(self, features: Tensor) -> Tensor:
        q: Tensor = self.value(features)
        return q


class DuelingHead(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a') (Wang et al. 2016, equation 9): `[B, features]` to `[B, A]`."""

    def __init__(self, features: int, hidden: Sequence[int], actions: int) -> None:
        super().__init__()
        self.value = _stream(features, hidden, 1)
        self.advantage = _stream(features, hidden, actions)

    def forward(self, features: Tensor) -> Tensor:
        advantage: Tensor = self.advantage(features)
        q: Tensor = self.value(features) + advantage - advantage.mean(-1, keepdim=True)
        return q
