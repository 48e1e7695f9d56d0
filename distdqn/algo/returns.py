"""Rewards and n-step returns (Sutton 1988; Mnih et al. 2016, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class NStep(NamedTuple):
    """What an n-step target needs: `returns` float32 `[...]`, sum_k gamma^k r_{t+k+1} up to the bootstrap;
    `discount` float32 `[...]`, gamma^m or 0 past a terminal step; `steps` int64 `[...]`, m, the number of steps
    between the observation and the bootstrap observation, 1 <= m <= L."""

    returns: Tensor
    discount: Tensor
    steps: Tensor


def n_step(reward: Tensor, terminated: Tensor, last: Tensor, gamma: float) -> NStep:
    """n-step return of each window, stopped at the first step that terminates or ends its episode.

    A terminal step has no bootstrap; a truncated one bootstraps from the observation that came with it.

    Args:
        reward: float32 `[..., L]`, r_{t+1} ... r_{t+L}.
        terminated: bool `[..., L]`, no value lies beyond this step.
        last: bool `[..., L]`, the episode ends with this step, terminated or truncated.
        gamma: discount of one step.
    """
    stop = terminated | last
    # alive_k: no earlier step of the window has stopped it
    alive = torch.cat([torch.ones_like(reward[..., :1]), (~stop[..., :-1]).cumprod(-1).to(reward)], -1)
    gammas = gamma ** torch.arange(reward.shape[-1], dtype=reward.dtype, device=reward.device)
    returns = (reward * alive * gammas).sum(-1)
    steps = alive.sum(-1)
    ends = (terminated.to(reward) * alive).sum(-1)
    return NStep(returns, (1 - ends) * gamma**steps, steps.to(torch.int64))


def transform_reward(reward: Tensor, kind: str) -> Tensor:
    """`clip`: to [-1, 1] (Mnih et al. 2015, methods); `none`: as it is."""
    if kind == "clip":
        return reward.clamp(-1, 1)
    if kind == "none":
        return reward
    raise ValueError(f"unknown reward transform {kind!r}: clip or none")
