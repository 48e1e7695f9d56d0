"""The loss over windows in which every step counts: for networks that remember, and for lambda-returns."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from distdqn.algo.priority import normalize_importance, sequence_priority
from distdqn.config import AgentConfig
from distdqn.learn.bellman import Bellman
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.objective import Horizon, Objective, Outcome, Rewards
from distdqn.learn.returns import RETURNS, Unrolled, positions, rows_of
from distdqn.nets.heads import Values
from distdqn.nets.qnetwork import QNetwork, stack_frames


class WindowSteps(NamedTuple):
    """The L + 1 observations of each window, the one after the last step included.

    `observation` `[B, L+1, S * C, H, W]` or float32 `[B, L+1, D]`; `start` bool `[B, L+1]`, an episode begins
    there; `dummy` bool `[B, L]`, steps that are no transitions; `action` int64, `reward` float32 `[B, L+1]`, what
    followed (zeros at the end)."""

    observation: Tensor
    start: Tensor
    dummy: Tensor
    action: Tensor
    reward: Tensor


def unpack(batch: Minibatch, stack: int) -> WindowSteps:
    """Every observation of the windows, from the raw frames. A dummy's observation is the one that came with the end of
    its episode, so its planes are as old as that."""
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
    return WindowSteps(observation, start, batch.dummy, action, torch.cat([batch.reward, none.to(batch.reward)], 1))


def make_sequence_loss(config: AgentConfig, stack: int, online: QNetwork, target: QNetwork) -> Objective:
    """The loss over windows of `config.sequence`: burn-in without gradient, then U loss positions, each with the
    n-step or lambda-return that follows it (Kapturowski et al. 2019; Hausknecht and Stone 2015).

    With a burn-in of 0, U = 1 and no memory it is the loss of single transitions.
    """
    bellman = Bellman(config, online.head)
    rewards = Rewards(config, next(online.parameters()).device)
    returns = RETURNS[config.returns](config, bellman)
    burn_in, length = config.sequence.burn_in, config.sequence.length

    def unroll(network: QNetwork, seen: WindowSteps, state: Tensor, tau: Tensor | None = None) -> tuple[Values, Tensor]:
        return network.unroll(seen.observation, state, seen.start, seen.action, seen.reward, tau)

    def learn(ready: tuple[Minibatch, Horizon], generator: torch.Generator) -> Outcome:
        batch, horizon = ready
        seen = unpack(batch, stack)
        first, later = (WindowSteps(*(x[:, rows] for x in seen)) for rows in (slice(0, burn_in), slice(burn_in, None)))
        b, observations = later.start.shape
        state = batch.memory
        if config.sequence.start == "zero":
            own = online.state_size - online.context
            state = torch.cat([torch.zeros_like(state[:, :own]), state[:, own:]], 1)
        online_state, target_state = state, state
        with torch.no_grad():
            if burn_in:
                _, online_state = unroll(online, first, state)
                _, target_state = unroll(target, first, state)
            tau_t = target.head.fractions(b * observations, generator, online=False)
            values_t, _ = unroll(target, later, target_state, tau_t)
        tau = online.head.fractions(b * observations, generator, online=True)
        values, _ = unroll(online, later, online_state, tau)
        reward, discount = rewards(batch, horizon.discount)
        fields = {name: x[:, burn_in:] for name, x in {**batch.steps, "reward": reward}.items()}
        steps = replace(batch, steps=fields)
        goal = returns.goal(Unrolled(steps, values.q.detach(), values_t), discount, horizon.n)
        chosen = rows_of(values, positions(b, observations, length, values.q.device))
        losses, priority = bellman.loss(chosen, steps.action[:, :length].flatten(), goal)
        real = ~later.dummy[:, :length]
        weighted = normalize_importance(batch.importance).unsqueeze(1) * losses.view(b, length) * real
        priorities = sequence_priority(priority.view(b, length), real, config.sequence.eta)
        q = chosen.q.detach().mean(-1).view(b, length).mean(1)
        return Outcome(weighted.sum() / real.sum().clamp_min(1), priorities, q)

    return Objective(lambda batch, horizon, _: (batch, horizon), learn)
