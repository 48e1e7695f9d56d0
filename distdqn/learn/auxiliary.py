"""What is learned beside the Q-values: losses that shape the torso or the weights, and networks of their own."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distdqn.config import AuxiliaryConfig, OptimizerConfig
from distdqn.learn.minibatch import Minibatch
from distdqn.nets.arrays import ArrayModule
from distdqn.nets.decoder import Decoder
from distdqn.nets.qnetwork import QNetwork, as_floats, stack_frames
from distdqn.types import EnvSpec, State


class Auxiliary(ArrayModule):
    """Its parameters are updated by the learner's optimizer together with the network's, unless it updates them itself
    (then they are none of `shared`). One of one's own is made as `MyAuxiliary(config, network, spec, **kwargs)`.

    Loop of an update:
        extra, metrics = auxiliary.loss(network, batch)     # weight times it is added to the loss of Q
        metrics |= auxiliary.learn(batch)                   # after the optimizer's step
    """

    weight = 1.0
    key = "agent.auxiliary"

    @property
    def shared(self) -> list[nn.Parameter]:
        """What the learner's optimizer is to update."""
        return list(self.parameters())

    def loss(self, network: QNetwork, batch: Minibatch) -> tuple[Tensor | None, dict[str, Tensor]]:
        """A scalar to minimize beside the loss of Q, or None, and metrics by name, recorded as `learner/NAME`."""
        return None, {}

    def learn(self, batch: Minibatch) -> dict[str, Tensor]:
        """A step of its own after that of the network; gives metrics by name."""
        return {}

    def published(self) -> dict[str, np.ndarray]:
        """Arrays that the actors get along with the network's weights."""
        return {}

    def state(self) -> State:
        """What a checkpoint holds: arrays and plain values."""
        return {**self.arrays()}

    def restore(self, state: State) -> None:
        """Takes over what `state` gave; ValueError where that belongs to another network."""
        self.load_arrays(state)


def observed(batch: Minibatch, step: int, stack: int, age: Tensor | None = None) -> Tensor:
    """The observation before `step` of each window, as the network sees it: `[B, S, H, W]` or `[B, D]`; `age` `[B]`,
    that of the episode there, where the batch does not hold it any more."""
    if batch.frames.dim() == 3:
        return batch.frames[:, step]
    return stack_frames(batch.frames[:, step : step + stack], batch.age[:, step] if age is None else age, stack)


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that penalties and decay act on: weights of linear, convolutional and recurrent layers, not
    biases and not those of normalization, which have one dimension."""
    return [p for p in module.parameters() if p.requires_grad and p.dim() > 1]


class Penalty(Auxiliary):
    """l1 sum |w| + l2 sum w^2 of the network's weights."""

    def __init__(self, config: OptimizerConfig) -> None:
        super().__init__()
        self.l1, self.l2 = config.l1, config.l2

    def loss(self, network: nn.Module, batch: Minibatch | None) -> tuple[Tensor | None, dict[str, Tensor]]:
        penalty = torch.stack([self.l1 * w.abs().sum() + self.l2 * w.square().sum() for w in weights_of(network)]).sum()
        return penalty, {"penalty": penalty.detach()}


class Autoencoder(Auxiliary):
    """A decoder behind the Q-network's own torso: draws an observation's planes again (Lange and Riedmiller 2010)."""

    def __init__(self, config: AuxiliaryConfig, network: QNetwork, spec: EnvSpec) -> None:
        super().__init__()
        self.weight, self.stack = config.weight, spec.stack
        self.decoder = Decoder(network.torso.map_shape, spec.observation_shape)

    def logits(self, network: QNetwork, observation: Tensor) -> Tensor:
        """Logits of pixels in [0, 1], float32 `[B, S * C, H, W]`, for an `observation` of that shape."""
        return self.decoder(network.torso(network.scaled(observation)))

    def error(self, features: Tensor, observation: Tensor) -> Tensor:
        """Mean binary cross-entropy of the pixels of `observation` drawn from the torso's `features` `[B, F]`."""
        return F.binary_cross_entropy_with_logits(self.decoder(features), as_floats(observation))

    def loss(self, network: QNetwork, batch: Minibatch) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Its gradient reaches the torso, too."""
        seen = observed(batch, 0, self.stack)
        error = self.error(network.torso(network.scaled(seen)), seen)
        return error, {"reconstruction": error.detach()}


AUXILIARIES = {"autoencoder": Autoencoder}
