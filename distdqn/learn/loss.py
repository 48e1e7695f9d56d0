"""What the losses over transitions and over sequences share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from distdqn.algo.exploration import ngu_mixture
from distdqn.algo.returns import transform_reward
from distdqn.config import AgentConfig
from distdqn.learn.minibatch import Minibatch


class Horizon(NamedTuple):
    """How far a return looks: n steps, the discount of each."""

    n: int
    discount: float


class Lost(NamedTuple):
    """What a loss function gives: the loss (scalar), each window's priority `[B]`, and its mean Q `[B]`."""

    loss: Tensor
    priority: Tensor
    q: Tensor


class Loss(NamedTuple):
    """A loss function in two parts, `learn(prepare(batch, horizon, generator), generator)`, called as
    `loss(batch, horizon, generator)` where one follows the other.

    `prepare` does what needs no weights but the target network's, so that it may be done for the next minibatch
    while this one is learned from: it must neither read nor change anything else that `learn` changes.
    """

    prepare: Callable[[Minibatch, Horizon, torch.Generator], Any]
    learn: Callable[[Any, torch.Generator], Lost]

    def __call__(self, batch: Minibatch, horizon: Horizon, generator: torch.Generator) -> Lost:
        return self.learn(self.prepare(batch, horizon, generator), generator)


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

    def __call__(self, batch: Minibatch, discount: float) -> tuple[Tensor, Tensor | float]:
        """Rewards float32 `[B, L]`, and the discount of one step, one for all or `[B]`."""
        reward = transform_reward(batch.reward, self.config.reward)
        if self.mixture is None:
            return reward, discount
        betas, discounts = self.mixture
        if self.config.contexts == 1:
            return reward + betas[0] * batch.bonus, discount
        context = batch.memory[:, -1].long()
        return reward + betas[context].unsqueeze(1) * batch.bonus, discounts[context]


def draw_tau(config: AgentConfig, count: int, rows: int, generator: torch.Generator) -> Tensor | None:
    """Quantile fractions U(0, 1) `[rows, count]` where the head asks for them (Dabney et al. 2018b)."""
    if config.network.head != "implicit_quantile":
        return None
    return torch.rand(rows, count, generator=generator, device=generator.device)
