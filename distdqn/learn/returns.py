"""The target of every loss position of a window: from the n steps that follow it, or from all of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from distdqn.algo.returns import lambda_returns, n_step
from distdqn.config import AgentConfig
from distdqn.learn.bellman import Bellman
from distdqn.nets.head import Values


class Unrolled(NamedTuple):
    """What followed the burn-in of B windows, `later` - 1 steps and the observation after them: `reward` float32,
    `terminated`, `last` bool, `action` int64 and `dummy` bool (no transition) `[B, later - 1]`; the online network's
    Q-values `[B * later, A]`, without a gradient, and the target network's values (row b * later + t)."""

    reward: Tensor
    terminated: Tensor
    last: Tensor
    action: Tensor
    dummy: Tensor
    q: Tensor
    values_t: Values


class Positions:
    """Where the loss positions of B windows lie among their `later` steps: P = B * length of them."""

    def __init__(self, batch: int, later: int, length: int) -> None:
        self.batch, self.later, self.length = batch, later, length

    @property
    def here(self) -> Tensor:
        """Their rows among B * later, int64 `[P]`."""
        return (torch.arange(self.batch)[:, None] * self.later + torch.arange(self.length)).flatten()

    def first(self, field: Tensor) -> Tensor:
        """The loss positions of `field` `[B, >= length]`, `[P]`."""
        return field[:, : self.length].flatten()

    def rows(self, values: Values, rows: Tensor) -> Values:
        """The values in `rows` `[P]`."""
        rows = rows.to(values.q.device)
        return Values(values.q[rows], *(None if x is None else x[rows] for x in (values.dist, values.tau)))


class NStep:
    """The discounted rewards of the n steps that follow, and the bootstrap after them."""

    def __init__(self, config: AgentConfig, bellman: Bellman) -> None:
        self.config, self.bellman = config, bellman

    def goal(self, w: Unrolled, at: Positions, discount: Tensor | float, n: int) -> Tensor:
        """The target of each loss position, `[P]` or `[P, Z]`; `discount` of one step, for all or `[B]`."""

        def windows(field: Tensor) -> Tensor:
            return field[:, : at.length + n - 1].unfold(1, n, 1)

        if isinstance(discount, Tensor):
            discount = discount.unsqueeze(1)
        returns = n_step(windows(w.reward), windows(w.terminated), windows(w.last), discount)
        here, bootstrap = at.here.to(w.reward.device), self.bellman.bootstrap
        later = here + returns.steps.flatten()
        selector = w.q[later] if bootstrap.needs_selector else None
        q_tm1 = w.values_t.q[here] if bootstrap.needs_previous else None
        r_t = self.bellman.reward(returns.returns.flatten(), q_tm1, at.first(w.action))
        return self.bellman.target(r_t, returns.discount.flatten(), at.rows(w.values_t, later), selector)


class Lambda(NStep):
    """lambda-returns over the whole window; `kind` says when they are cut (see `algo.returns.lambda_returns`)."""

    kind = ""

    def goal(self, w: Unrolled, at: Positions, discount: Tensor | float, n: int) -> Tensor:
        shape, head = (at.batch, at.later, -1), self.bellman.head
        q = head.unscaled(w.values_t.q)
        greedy = (w.q if self.bellman.bootstrap.needs_selector else w.values_t.q).view(shape).argmax(-1)
        returns = lambda_returns(
            self.kind,
            w.reward,
            w.terminated,
            w.last,
            discount,
            self.config.trace,
            q.view(shape),
            greedy,
            w.action,
            w.dummy,
        )
        return at.first(head.scaled(returns))


class Peng(Lambda):
    """Never cut (Peng and Williams 1996)."""

    kind = "peng"


class Watkins(Lambda):
    """Cut at the first action that is not greedy (Watkins 1989)."""

    kind = "watkins"


class Retrace(Lambda):
    """Cut as far as the greedy policy would not have acted so (Munos et al. 2016)."""

    kind = "retrace"


RETURNS = {"n_step": NStep, "peng": Peng, "watkins": Watkins, "retrace": Retrace}
