"""From features to action values, or to their distributions."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distdqn.config import NetworkConfig
from distdqn.nets.noisy import NoisyLinear


class Values(NamedTuple):
    """What a head gives, all float32.

    Fields:
        q: `[B, A]`, action values.
        dist: `[B, A, Z]`, the distribution of returns: log-probabilities of the atoms (categorical), or quantile
            values; None for a scalar head.
        tau: `[B, Z]`, the fraction of each quantile; None where there are no quantiles.
    """

    q: Tensor
    dist: Tensor | None = None
    tau: Tensor | None = None


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


def _stream(config: NetworkConfig, features: int, out: int) -> _Stream:
    """The layers that `config` asks for. A table's is linear and has no bias: one-hot features select a row."""
    table = config.torso == "tabular"

    def linear(inputs: int, outputs: int) -> nn.Module:
        if config.noisy:
            return NoisyLinear(inputs, outputs, config.noisy_sigma)
        return nn.Linear(inputs, outputs, bias=not table)

    layers: list[nn.Module] = []
    for width in () if table else config.hidden:
        layers += [linear(features, width), nn.ReLU()]
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
        features = width
    return _Stream(*layers, linear(features, out))


def midpoints(count: int) -> Tensor:
    """(2i + 1) / (2 count) for i = 0..count-1, the fractions of Dabney et al. 2018a, lemma 2: float32 `[count]`."""
    return (2 * torch.arange(count) + 1) / (2 * count)


class Head(nn.Module):
    """What all heads share: Z numbers for each action, from one stream or from two.

    Dueling: Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a') (Wang et al. 2016, equation 9), for each of the Z numbers
    on its own (Hessel et al. 2018, section 3).
    """

    def __init__(self, config: NetworkConfig, features: int, actions: int, numbers: int = 1) -> None:
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
        """Values of `features` `[B, F]`; only an implicit quantile head looks at `tau` `[B, Z]`."""
        raise NotImplementedError


class ScalarHead(Head):
    """Q(s, .) (Mnih et al. 2015)."""

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        return Values(self.numbers(features).squeeze(-1))


class CategoricalHead(Head):
    """Probabilities of returns at fixed atoms (Bellemare et al. 2017, section 4): q = sum_i z_i p_i."""

    support: Tensor

    def __init__(self, config: NetworkConfig, features: int, actions: int) -> None:
        super().__init__(config, features, actions, config.atoms)
        assert config.v_min is not None and config.v_max is not None  # the config has checked it
        support = torch.linspace(config.v_min, config.v_max, config.atoms)
        self.register_buffer("support", support, persistent=False)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        dist = self.numbers(features).log_softmax(-1)
        return Values((dist.exp() * self.support).sum(-1), dist)


class QuantileHead(Head):
    """Returns at fixed fractions (Dabney et al. 2018a, QR-DQN): q = mean_i theta_i."""

    tau: Tensor

    def __init__(self, config: NetworkConfig, features: int, actions: int) -> None:
        super().__init__(config, features, actions, config.quantiles)
        self.register_buffer("tau", midpoints(config.quantiles), persistent=False)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        dist = self.numbers(features)
        return Values(dist.mean(-1), dist, self.tau.expand(len(dist), -1))


class ImplicitQuantileHead(Head):
    """Returns at any fractions (Dabney et al. 2018b, IQN): Z_tau(s, .) = f(psi(s) * phi(tau)), q = their mean.

    phi_j(tau) = ReLU(sum_{i=0}^{n-1} cos(pi i tau) w_ij + b_j) with n = `config.cosines` (equation 4). Where no
    fractions are given, they are the midpoints of `config.acting_quantiles` equal parts of [0, 1]: stratified and
    deterministic, in place of the paper's K independent draws.
    """

    tau: Tensor
    frequency: Tensor

    def __init__(self, config: NetworkConfig, features: int, actions: int) -> None:
        super().__init__(config, features, actions)
        self.embedding = nn.Linear(config.cosines, features)
        self.register_buffer("frequency", pi * torch.arange(config.cosines), persistent=False)
        self.register_buffer("tau", midpoints(config.acting_quantiles), persistent=False)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        fractions = self.tau.unsqueeze(0) if tau is None else tau
        phi = self.embedding(torch.cos(fractions.unsqueeze(-1) * self.frequency)).relu()
        dist = self.numbers(features.unsqueeze(1) * phi).squeeze(-1).transpose(1, 2)
        return Values(dist.mean(-1), dist, fractions.expand(len(features), -1))


HEADS: dict[str, Callable[[NetworkConfig, int, int], Head]] = {
    "scalar": ScalarHead,
    "categorical": CategoricalHead,
    "quantile": QuantileHead,
    "implicit_quantile": ImplicitQuantileHead,
}


def make_head(config: NetworkConfig, features: int, actions: int) -> Head:
    """The head that `config` names, for `features` `[B, F]` and A actions."""
    return HEADS[config.head](config, features, actions)
