"""From features to action values or their distributions: each head has the equations that its values are learned by."""

from math import pi
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distdqn.algo import bootstrap, categorical, quantile, rescale, td
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
    """Fully connected layers. The last one is float32 under autocast too: small differences between actions decide."""

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self
        for layer in hidden:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):
            return last(x.float())


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
        """Quantile fractions `[rows, Z]` for `forward` in an update, of the online or target network, or None."""
        return None

    def unscaled(self, q: Tensor) -> Tensor:
        """Action values in units of return, of the same shape, for a head that learns them on another scale."""
        return q

    def scaled(self, value: Tensor) -> Tensor:
        """The inverse of `unscaled`."""
        return value

    def target(self, values: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor) -> Tensor:
        """What the value of the action taken should be, for P positions: `[P]`, or of a distribution `[P, Z]`.

        Args:
            values: the target network's, of the bootstrap observation.
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


class ScalarHead(Head):
    """Q(s, .) (Mnih et al. 2015), on the scale h of Pohlen et al. 2018 where `config.rescale` is its epsilon."""

    def __init__(self, config: HeadConfig, features: int, actions: int) -> None:
        super().__init__(config, features, actions)
        self.epsilon = config.rescale

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        return Values(self.numbers(features).squeeze(-1))

    def unscaled(self, q: Tensor) -> Tensor:
        return q if self.epsilon is None else rescale.h_inverse(q, self.epsilon)

    def scaled(self, value: Tensor) -> Tensor:
        return value if self.epsilon is None else rescale.h(value, self.epsilon)

    def target(self, values: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor) -> Tensor:
        return self.scaled(reward + discount * bootstrap.state_value(self.unscaled(values.q), policy, bonus))

    def loss(self, values: Values, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        """The priority is |TD error| (Schaul et al. 2016)."""
        error = target.detach() - values.q.gather(1, action.unsqueeze(1)).squeeze(1)
        return (td.huber if huber else td.squared)(error), error.detach().abs()


class CategoricalHead(Head):
    """Probabilities of returns at fixed atoms (Bellemare et al. 2017, section 4): q = sum_i z_i p_i."""

    support: Tensor

    def __init__(self, config: HeadConfig, features: int, actions: int) -> None:
        super().__init__(config, features, actions, config.atoms)
        # the config has checked that the two are given
        support = torch.linspace(float(config.v_min or 0), float(config.v_max or 0), config.atoms)
        self.register_buffer("support", support, persistent=False)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        dist = self.numbers(features).log_softmax(-1)
        return Values((dist.exp() * self.support).sum(-1), dist)

    def target(self, values: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor) -> Tensor:
        return categorical.categorical_target(values.dist, policy, bonus, reward, discount, self.support)

    def loss(self, values: Values, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        """Cross-entropy; the priority is the Kullback-Leibler divergence (Hessel et al. 2018)."""
        entropy, divergence = categorical.categorical_loss(values.dist, action, target)
        return entropy, divergence.detach().clamp_min(0)


def midpoints(count: int) -> Tensor:
    """(2i + 1) / (2 count) for i = 0..count-1, the fractions of Dabney et al. 2018a, lemma 2: float32 `[count]`."""
    return (2 * torch.arange(count) + 1) / (2 * count)


class QuantileHead(Head):
    """Returns at fixed fractions (Dabney et al. 2018a, QR-DQN): q = mean_i theta_i."""

    tau: Tensor

    def __init__(self, config: HeadConfig, features: int, actions: int) -> None:
        super().__init__(config, features, actions, config.quantiles)
        self.register_buffer("tau", midpoints(config.quantiles), persistent=False)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        dist = self.numbers(features)
        return Values(dist.mean(-1), dist, self.tau.expand(len(dist), -1))

    def target(self, values: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor) -> Tensor:
        return quantile.quantile_target(values.dist, policy, bonus, reward, discount)

    def loss(self, values: Values, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        """The quantile loss, which is the priority too (Clark et al. 2024)."""
        dist = values.dist
        taken = dist.gather(1, action[:, None, None].expand(-1, 1, dist.shape[-1])).squeeze(1)
        loss = quantile.quantile_loss(taken, values.tau, target.detach(), 1.0 if huber else 0.0)
        return loss, loss.detach()


class ImplicitQuantileHead(QuantileHead):
    """Returns at any fractions (Dabney et al. 2018b, IQN): Z_tau(s, .) = f(psi(s) * phi(tau)), q = their mean.

    phi_j(tau) = ReLU(sum_{i=0}^{n-1} cos(pi i tau) w_ij + b_j) with n = `config.cosines` (equation 4). Where no
    fractions are given, they are the midpoints of `config.acting_quantiles` equal parts of [0, 1]: stratified and
    deterministic, in place of the paper's K independent draws.
    """

    frequency: Tensor

    def __init__(self, config: HeadConfig, features: int, actions: int) -> None:
        Head.__init__(self, config, features, actions)
        self.embedding = nn.Linear(config.cosines, features)
        self.register_buffer("frequency", pi * torch.arange(config.cosines), persistent=False)
        self.register_buffer("tau", midpoints(config.acting_quantiles), persistent=False)
        self.drawn = {True: config.online_quantiles, False: config.target_quantiles}

    def fractions(self, rows: int, generator: torch.Generator, online: bool) -> Tensor | None:
        """U(0, 1), N of them for the online and N' for the target network."""
        return torch.rand(rows, self.drawn[online], generator=generator, device=generator.device)

    def forward(self, features: Tensor, tau: Tensor | None = None) -> Values:
        fractions = self.tau.unsqueeze(0) if tau is None else tau
        phi = self.embedding(torch.cos(fractions.unsqueeze(-1) * self.frequency)).relu()
        dist = self.numbers(features.unsqueeze(1) * phi).squeeze(-1).transpose(1, 2)
        return Values(dist.mean(-1), dist, fractions.expand(len(features), -1))


HEADS = {
    "scalar": ScalarHead,
    "categorical": CategoricalHead,
    "quantile": QuantileHead,
    "implicit_quantile": ImplicitQuantileHead,
}
