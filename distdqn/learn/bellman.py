"""Targets and losses of one agent: which equation of `algo` its names stand for."""

from __future__ import annotations

from torch import Tensor

from distdqn.algo import bootstrap, categorical, quantile, rescale, td
from distdqn.config import AgentConfig
from distdqn.nets.head import Values


class Bellman:
    """The equations that `config` names, for P positions at once.

    Args:
        support: float32 `[Z]`, the atoms of a categorical head.
    """

    def __init__(self, config: AgentConfig, support: Tensor | None) -> None:
        self.config, self.support = config, support
        self.head = config.network.head
        self.element = {"huber": td.huber, "squared": td.squared}[config.loss]

    def reward(self, reward: Tensor, q_tm1: Tensor | None, action: Tensor) -> Tensor:
        """`reward` `[P]`, with Munchausen's scaled log-policy where that is the bootstrap; `q_tm1` `[P, A]` are then
        the target network's values before the action."""
        if self.config.bootstrap != "munchausen":
            return reward
        assert q_tm1 is not None
        c = self.config
        return reward + bootstrap.munchausen_reward(
            self.unscaled(q_tm1), action, c.temperature, c.munchausen_alpha, c.munchausen_clip
        )

    def target(self, reward: Tensor, discount: Tensor, values_t: Values, selector: Tensor | None) -> Tensor:
        """What the value of the action taken should be: `[P]`, or of a distribution `[P, Z]`.

        Args:
            reward, discount: float32 `[P]`, n-step returns and their discounts.
            values_t: the target network's, of the bootstrap observation.
            selector: `[P, A]`, the online network's values there, for Double Q-learning.
        """
        q = self.unscaled(values_t.q)
        bonus = None
        if self.config.bootstrap == "double":
            assert selector is not None
            policy = bootstrap.greedy_policy(selector)
        elif self.config.bootstrap == "max":
            policy = bootstrap.greedy_policy(q)
        else:
            policy, log_policy = bootstrap.softmax_policy(q, self.config.temperature)
            if self.config.bootstrap == "munchausen":
                bonus = bootstrap.entropy_bonus(log_policy, self.config.temperature)
        if self.head == "categorical":
            assert values_t.dist is not None and self.support is not None
            return categorical.categorical_target(values_t.dist, policy, bonus, reward, discount, self.support)
        if values_t.dist is not None:
            return quantile.quantile_target(values_t.dist, policy, bonus, reward, discount)
        return self.scaled(reward + discount * bootstrap.state_value(q, policy, bonus))

    def loss(self, values: Values, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the priority of each position, `[P]` both; no gradient flows into `target`.

        Priorities: |TD error| of scalars (Schaul et al. 2016), the Kullback-Leibler divergence of categorical
        distributions (Hessel et al. 2018), the quantile loss of quantiles (Clark et al. 2024).
        """
        target = target.detach()
        if self.head == "categorical":
            assert values.dist is not None
            entropy, divergence = categorical.categorical_loss(values.dist, action, target)
            return entropy, divergence.detach().clamp_min(0)
        if values.dist is not None:
            assert values.tau is not None
            rows = action[:, None, None].expand(-1, 1, values.dist.shape[-1])
            kappa = 1.0 if self.config.loss == "huber" else 0.0
            loss = quantile.quantile_loss(values.dist.gather(1, rows).squeeze(1), values.tau, target, kappa)
            return loss, loss.detach()
        error = target - values.q.gather(1, action.unsqueeze(1)).squeeze(1)
        return self.element(error), error.detach().abs()

    def scaled(self, value: Tensor) -> Tensor:
        """h(value) where values are rescaled."""
        return rescale.h(value, self.config.rescale_epsilon) if self.config.rescale else value

    def unscaled(self, value: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return rescale.h_inverse(value, self.config.rescale_epsilon) if self.config.rescale else value
