"""What all heads share: from features to action values or to their distributions, and what to learn them from."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distdqn.config import HeadConfig
from distdqn.nets.noisy import NoisyLinear


class Values(NamedTuple):
    """What a head gives, all float32.

    Fields:
        q: `[B, A]`, action values.
        dist: `[B, A, Z]`, the distribution of returns: log-probabilities of the atoms (categorical), or quantile
            values; None for a scalar head, which never looks at it.
        tau: `[B, Z]`, the fraction of each quantile; None where there are no quantiles.
    """

    q: Tensor
    dist: Any = None
    tau: Any = None


class _Stream(nn.Sequential):
    """Fully connected layers. The last one computes in float32 under autocast too, because small differences
    between actions decide."""

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self
        for layer in hidden:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = last(x.float())
        return out


def _stream(config: HeadConfig, features: int, out: int) -> _Stream:
    """The layers that `config` asks for. A table is one without a bias: one-hot features select a row."""

    def linear(inputs: int, outputs: int) -> nn.Module:
        if config.noisy:
            return NoisyLinear(inputs, outputs, config.noisy_sigma, config.bias)
        return nn.Linear(inputs, outputs, bias=config.bias)

    layers: list[nn.Module] = []
    for width in config.hidden:
        layers += [linear(features, width), nn.ReLU()]
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
        features = width
    return _Stream(*layers, linear(features, out))


class Head(nn.Module):
    """What all heads share: Z numbers for each action, from one stream or from two.

    Dueling: Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a') (Wang et al. 2016, equation 9), for each of the Z numbers
    on its own (Hessel et al. 2018, section 3).
    """

    def __init__(self, config: HeadConfig, features: int, actions: int, numbers: int = 1) -> None:
        super().__init__()
        self.shape = (actions, numbers)
        self.value = _stream(config, features, numbers if config.dueling else actions * numbers)
        self.advantage = _stream(config, features, actions * numbers) if config.dueling else None

    def numbers(self, features: Tensor) -> Tensor:
        """`[..., F]` to float32 `[..., A, Z]`."""
        value: Tensor = self.value(features)
        if self.advantage is None:
            return value.unflatten(-1, self.shape)
        advantage: Tensor = self.advantage(features).unflatten(-1, self.shape)
        return value.unsqueeze(-2) + advantage - advantage.mean(-2, keepdim=True)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        """Values of `features` `[B, F]`; only a head that draws fractions looks at `tau` `[B, Z]`."""
        raise NotImplementedError

    def fractions(self, rows: int, generator: torch.Generator, online: bool) -> Tensor | None:
        """Quantile fractions `[rows, Z]` for `forward` in an update, of the online or of the target network; None
        where the head has none to draw."""
        return None

    def unscaled(self, q: Tensor) -> Tensor:
        """Action values in units of return, of the same shape, for a head that learns them on another scale."""
        return q

    def scaled(self, value: Tensor) -> Tensor:
        """The inverse of `unscaled`."""
        return value

    def target(
        self, values_t: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor
    ) -> Tensor:
        """What the value of the action taken should be, for P positions: `[P]`, or of a distribution `[P, Z]`.

        Args:
            values_t: the target network's, of the bootstrap observation.
            policy: float32 `[P, A]`, probabilities of the next action. bonus: `[P, A]`, what each gives besides.
            reward, discount: float32 `[P]`, n-step returns and their discounts.
        """
        raise NotImplementedError

    def loss(self, values: Values, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        """The loss and the priority of each position, float32 `[P]` both; no gradient flows into `target`.

        Args:
            action: int64 `[P]`, taken. huber: linear beyond errors of 1 (kappa = 1), else squared (kappa = 0).
        """
        raise NotImplementedError
