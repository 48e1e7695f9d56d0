"""The autoencoder: a decoder behind the Q-network's own torso."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from distdqn.nets.decoder import Decoder
from distdqn.nets.qnetwork import QNetwork, as_floats
from distdqn.types import EnvSpec


class Autoencoder(nn.Module):
    """Draws an observation's planes again from the torso's last maps (Lange and Riedmiller 2010)."""

    def __init__(self, network: QNetwork, spec: EnvSpec) -> None:
        super().__init__()
        self.decoder = Decoder(network.torso.map_shape, spec.observation_shape)

    def logits(self, network: QNetwork, observation: Tensor) -> Tensor:
        """Logits of pixels in [0, 1], float32 `[B, S * C, H, W]`, for an `observation` of that shape."""
        maps: Tensor = self.decoder(network.torso(network.scaled(observation)))
        return maps

    def forward(self, network: QNetwork, observation: Tensor) -> Tensor:
        """Mean binary cross-entropy of the drawn pixels, a scalar; its gradient reaches the torso, too."""
        return self.error(network.torso(network.scaled(observation)), observation)

    def error(self, features: Tensor, observation: Tensor) -> Tensor:
        """As `forward`, from the torso's `features` `[B, F]` of `observation`."""
        return F.binary_cross_entropy_with_logits(self.decoder(features), as_floats(observation))
