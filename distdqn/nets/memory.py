"""From a sequence of features to a state that remembers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NoMemory(nn.Module):
    """Remembers nothing: features pass through, the recurrent state is empty (`[B, 0]`)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.size = 0

    def initial(self, count: int) -> Tensor:
        """The state at an episode's start, float32 `[count, M]`."""
        return torch.zeros(count, self.size)

    def forward(self, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return features, state
