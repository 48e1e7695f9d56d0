"""What the losses over transitions and over sequences share."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distdqn.algo.exploration import ngu_mixture
from distdqn.algo.horizon import anneal_discount, anneal_horizon
from distdqn.algo.returns import transform_reward
from distdqn.config import AgentConfig
from distdqn.learn.minibatch import Minibatch


class Horizon(NamedTuple):
    """How far a return looks: n steps, the discount of each, a number or, for each window, float32 `[B]`."""

    n: int
    discount: float | Tensor


def horizon_at(agent: AgentConfig, update: int, reset_period: int | None) -> Horizon:
    """The horizon of gradient step `update`, where it moves with the updates since the last reset (BBF)."""
    if agent.n_step_final is None and agent.discount_final is None:
        return Horizon(agent.n_step, agent.discount)
    since = update % reset_period if reset_period else update
    n = anneal_horizon(since, agent.n_step, agent.n_step_final or agent.n_step, agent.anneal_updates)
    final = agent.discount if agent.discount_final is None else agent.discount_final
    return Horizon(n, anneal_discount(since, agent.discount, final, agent.anneal_updates))


class Outcome(NamedTuple):
    """What a loss function gives: the loss (scalar), each window's priority `[B]`, its mean Q `[B]`, and scalars of its
    own by name, which are recorded as `learner/NAME`."""

    loss: Tensor
    priority: Tensor
    q: Tensor
    metrics: Mapping[str, Tensor] = MappingProxyType({})


class Objective(NamedTuple):
    """A loss function in two parts, `learn(prepare(batch, horizon, generator), generator)`. `prepare` does what needs
    no weights but the target network's, so that it may be done for the next minibatch while this one is learned from:
    it must neither read nor change anything else that `learn` changes."""

    prepare: Callable[[Minibatch, Horizon, torch.Generator], Any]
    learn: Callable[[Any, torch.Generator], Outcome]


class Rewards:
    """Rewards and discounts that an agent learns from: clipped or not, with the bonus of the slot's mixture."""

    def __init__(self, config: AgentConfig, device: torch.device) -> None:
        self.config = config
        bonus = config.bonus
        self.mixture: tuple[Tensor, Tensor] | None = None
        if bonus.kind == "ngu":
            pairs = ngu_mixture(bonus.mixtures, bonus.weight, config.discount, bonus.discount_min)
            betas, discounts = (torch.as_tensor(x, dtype=torch.float32, device=device) for x in pairs)
            self.mixture = betas, discounts

    def __call__(self, batch: Minibatch, discount: float | Tensor) -> tuple[Tensor, Tensor | float]:
        """Rewards float32 `[B, L]`, and the discount of one step, one for all or `[B]`."""
        reward = transform_reward(batch.reward, self.config.reward)
        if self.mixture is None:
            return reward, discount
        betas, discounts = self.mixture
        if self.config.contexts == 1:
            return reward + betas[0] * batch.bonus, discount
        context = batch.memory[:, -1].long()
        return reward + betas[context].unsqueeze(1) * batch.bonus, discounts[context]
