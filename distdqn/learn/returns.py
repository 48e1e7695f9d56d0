"""The target of every loss position of a window: from the n steps that follow it, or from all of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from distdqn.algo.returns import lambda_returns, n_step
from distdqn.config import AgentConfig
from distdqn.learn.bellman import Bellman
from distdqn.nets.heads import Values
from distdqn.types import StepRecord


class Unrolled(NamedTuple):
    """What followed the burn-in of B windows: their last R `steps`, with rewards as they are learned from, and R + 1
    observations, row b * (R + 1) + t each: the online network's Q-values `[B * (R + 1), A]`, without a gradient, and
    the target network's values."""

    steps: StepRecord[Tensor]
    q: Tensor
    values_t: Values


def positions(batch: int, observations: int, length: int, device: torch.device) -> Tensor:
    """Rows of the P = `batch` * `length` loss positions, the first ones of each window's observations, int64 `[P]`."""
    windows, steps = (torch.arange(count, device=device) for count in (batch, length))
    return (windows[:, None] * observations + steps).flatten()


def rows_of(values: Values, rows: Tensor) -> Values:
    """The values in `rows` `[P]`."""
    return Values(values.q[rows], *(None if x is None else x[rows] for x in (values.dist, values.tau)))


class NStep:
    """The discounted rewards of the n steps that follow, and the bootstrap after them."""

    def __init__(self, config: AgentConfig, bellman: Bellman) -> None:
        self.config, self.bellman, self.length = config, bellman, config.sequence.length

    def goal(self, w: Unrolled, discount: Tensor | float, n: int) -> Tensor:
        """The target of each loss position, `[P]` or `[P, Z]`; `discount` of one step, for all or `[B]`."""

        def windows(field: Tensor) -> Tensor:
            return field[:, : self.length + n - 1].unfold(1, n, 1)

        steps, bootstrap = w.steps, self.bellman.bootstrap
        if isinstance(discount, Tensor):
            discount = discount.unsqueeze(1)
        returns = n_step(windows(steps.reward), windows(steps.terminated), windows(steps.last), discount)
        here = positions(len(steps), steps.reward.shape[1] + 1, self.length, steps.reward.device)
        later = here + returns.steps.flatten()
        selector = w.q[later] if bootstrap.needs_selector else None
        q_tm1 = w.values_t.q[here] if bootstrap.needs_previous else None
        r_t = self.bellman.reward(returns.returns.flatten(), q_tm1, steps.action[:, : self.length].flatten())
        return self.bellman.target(r_t, returns.discount.flatten(), rows_of(w.values_t, later), selector)


class Lambda(NStep):
    """lambda-returns over the whole window, cut as `algo.returns.lambda_returns` says of the kind."""

    def goal(self, w: Unrolled, discount: Tensor | float, n: int) -> Tensor:
        shape, head = (len(w.steps), w.steps.reward.shape[1] + 1, -1), self.bellman.head
        greedy = (w.q if self.bellman.bootstrap.needs_selector else w.values_t.q).view(shape).argmax(-1)
        q = head.unscaled(w.values_t.q).view(shape)
        returns = lambda_returns(self.config.returns, w.steps, discount, self.config.trace, q, greedy)
        return head.scaled(returns)[:, : self.length].flatten()


RETURNS = {"n_step": NStep, "peng": Lambda, "watkins": Lambda, "retrace": Lambda}
