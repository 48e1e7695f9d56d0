"""The heads: each is a kind of value with the equations that it is learned by."""

from math import pi

import torch
from torch import Tensor, nn

from distdqn.algo import bootstrap, categorical, quantile, rescale, td
from distdqn.config import HeadConfig
from distdqn.config.section import build
from distdqn.nets.head import Head, Values


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

    def target(
        self, values_t: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor
    ) -> Tensor:
        return self.scaled(reward + discount * bootstrap.state_value(self.unscaled(values_t.q), policy, bonus))

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

    def target(
        self, values_t: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor
    ) -> Tensor:
        return categorical.categorical_target(values_t.dist, policy, bonus, reward, discount, self.support)

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

    def target(
        self, values_t: Values, policy: Tensor, bonus: Tensor | None, reward: Tensor, discount: Tensor
    ) -> Tensor:
        return quantile.quantile_target(values_t.dist, policy, bonus, reward, discount)

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


def make_head(config: HeadConfig, features: int, actions: int) -> Head:
    """The head that `config` names, for `features` `[B, F]` and A actions."""
    head: Head = build(config, HEADS, features, actions)
    return head
