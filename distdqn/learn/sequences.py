"""The loss over windows in which every step counts: for networks that remember, and for lambda-returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distdqn.algo.priority import normalize_importance, sequence_priority
from distdqn.algo.returns import lambda_returns, n_step
from distdqn.config import AgentConfig
from distdqn.learn.bellman import Bellman
from distdqn.learn.loss import Horizon, Loss, Lost, Rewards, draw_tau
from distdqn.learn.minibatch import Minibatch
from distdqn.nets.head import Values
from distdqn.nets.qnetwork import QNetwork, stack_frames


class Steps(NamedTuple):
    """The L + 1 observations of each window, the one after the last step included.

    `observation` `[B, L+1, S * C, H, W]` or float32 `[B, L+1, D]`; `start` bool `[B, L+1]`, an episode begins
    there; `dummy` bool `[B, L]`, steps that are no transitions; `action` int64, `reward` float32 `[B, L+1]`, what
    followed (zeros at the end)."""

    observation: Tensor
    start: Tensor
    dummy: Tensor
    action: Tensor
    reward: Tensor


def unpack(batch: Minibatch, stack: int) -> Steps:
    """Every observation of the windows, from the raw frames.

    A dummy's observation is the one that came with the end of its episode, so its planes are as old as that.
    """
    dummy = batch.dummy
    age = torch.cat([batch.age, batch.age[:, -1:] + 1], 1)
    start = age == 0
    after = torch.cat([torch.full_like(age[:, :1], stack), age[:, :-1] + 1], 1)
    age = torch.where(age < 0, after, age)
    if batch.frames.dim() == 3:
        observation = batch.frames
    else:
        windows = batch.frames.unfold(1, stack, 1).movedim(-1, 2)
        observation = stack_frames(windows.flatten(0, 1), age.flatten(), stack).unflatten(0, windows.shape[:2])
    none = torch.zeros_like(batch.action[:, :1])
    action = torch.cat([batch.action, none], 1)
    return Steps(observation, start, dummy, action, torch.cat([batch.reward, none.to(batch.reward)], 1))


def make_sequence_loss(config: AgentConfig, stack: int, online: QNetwork, target: QNetwork) -> Loss:
    """The loss over windows of `config.sequence`: burn-in without gradient, then U loss positions, each with the
    n-step or lambda-return that follows it (Kapturowski et al. 2019; Hausknecht and Stone 2015).

    With a burn-in of 0, U = 1 and no memory it is the loss of single transitions.
    """
    bellman = Bellman(config, getattr(online.head, "support", None))
    rewards = Rewards(config, next(online.parameters()).device)
    burn_in, length = config.sequence.burn_in, config.sequence.length
    net = config.network

    def unroll(
        network: QNetwork, steps: Steps, rows: slice, state: Tensor, tau: Tensor | None
    ) -> tuple[Values, Tensor]:
        pieces = (x[:, rows] for x in (steps.observation, steps.start, steps.action, steps.reward))
        observation, start, action, reward = pieces
        return network.unroll(observation, state, start, action, reward, tau)

    def loss(ready: tuple[Minibatch, Horizon], generator: torch.Generator) -> Lost:
        batch, horizon = ready
        steps = unpack(batch, stack)
        b, total = steps.start.shape
        state = batch.memory
        if config.sequence.start == "zero":
            state = torch.cat(
                [
                    torch.zeros_like(state[:, : online.state_size - online.context]),
                    state[:, online.state_size - online.context :],
                ],
                1,
            )
        body, later = slice(burn_in, total), total - burn_in
        own, theirs = state, state
        with torch.no_grad():
            if burn_in:
                _, own = unroll(online, steps, slice(0, burn_in), state, None)
                _, theirs = unroll(target, steps, slice(0, burn_in), state, None)
            values_t, _ = unroll(
                target, steps, body, theirs, draw_tau(config, net.target_quantiles, b * later, generator)
            )
        values, _ = unroll(online, steps, body, own, draw_tau(config, net.online_quantiles, b * later, generator))
        at = _Positions(b, later, length)
        reward, discount = rewards(batch, horizon.discount)
        action = at.first(steps.action[:, body])
        if config.returns == "n_step":
            goal = _n_step_goal(bellman, batch, at, reward, discount, burn_in, horizon.n, values, values_t, action)
        else:
            selects = values.q.detach() if config.bootstrap == "double" else values_t.q
            cut = slice(burn_in, None)
            goal = at.first(
                bellman.scaled(
                    lambda_returns(
                        config.returns,
                        reward[:, cut],
                        batch.terminated[:, cut],
                        batch.last[:, cut],
                        discount,
                        config.trace,
                        bellman.unscaled(values_t.q).view(b, later, -1),
                        selects.view(b, later, -1).argmax(-1),
                        batch.action[:, cut],
                        steps.dummy[:, cut],
                    )
                )
            )
        chosen = at.rows(values, at.here)
        losses, priority = bellman.loss(chosen, action, goal)
        real = ~steps.dummy[:, burn_in : burn_in + length]
        weighted = normalize_importance(batch.importance).unsqueeze(1) * losses.view(b, length) * real
        priorities = sequence_priority(priority.view(b, length), real, config.sequence.eta)
        return Lost(
            weighted.sum() / real.sum().clamp_min(1), priorities, chosen.q.detach().mean(-1).view(b, length).mean(1)
        )

    return Loss(lambda batch, horizon, _: (batch, horizon), loss)


class _Positions:
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


def _n_step_goal(
    bellman: Bellman,
    batch: Minibatch,
    at: _Positions,
    reward: Tensor,
    discount: Tensor | float,
    burn_in: int,
    n: int,
    values: Values,
    values_t: Values,
    action: Tensor,
) -> Tensor:
    """The target of each loss position from the n steps that follow it."""

    def windows(field: Tensor) -> Tensor:
        return field[:, burn_in : burn_in + at.length + n - 1].unfold(1, n, 1)

    if isinstance(discount, Tensor):
        discount = discount.unsqueeze(1)
    returns = n_step(windows(reward), windows(batch.terminated), windows(batch.last), discount)
    here = at.here.to(reward.device)
    bootstrap = at.rows(values_t, here + returns.steps.flatten())
    selector = None
    if bellman.config.bootstrap == "double":
        selector = values.q.detach()[here + returns.steps.flatten()]
    q_tm1 = at.rows(values_t, here).q if bellman.config.bootstrap == "munchausen" else None
    r_t = bellman.reward(returns.returns.flatten(), q_tm1, action)
    return bellman.target(r_t, returns.discount.flatten(), bootstrap, selector)
