"""Rewards and the returns that values learn from: n-step and lambda-returns (Sutton and Barto 2018, chapters 7, 12)."""

from typing import NamedTuple

import torch
from torch import Tensor

from distdqn.types import StepRecord


class NStep(NamedTuple):
    """What an n-step target needs: `returns` float32 `[...]`, sum_k gamma^k r_{t+k+1} up to the bootstrap;
    `discount` float32 `[...]`, gamma^m or 0 past a terminal step; `steps` int64 `[...]`, m, the number of steps
    between the observation and the bootstrap observation, 1 <= m <= n."""

    returns: Tensor
    discount: Tensor
    steps: Tensor


def n_step(reward: Tensor, terminated: Tensor, last: Tensor, gamma: float | Tensor, n: int | None = None) -> NStep:
    """n-step return of each window, stopped at the first step that terminates or ends its episode.

    A terminal step has no bootstrap; a truncated one bootstraps from the observation that came with it. Raises
    `ValueError`: n is not in 1 ... L.

    Args:
        reward: float32 `[..., L]`, r_{t+1} ... r_{t+L}.
        terminated: bool `[..., L]`, no value lies beyond this step.
        last: bool `[..., L]`, the episode ends with this step, terminated or truncated.
        gamma: discount of one step, or a float32 tensor of them that broadcasts to `[...]`.
        n: only the first n steps of the window count; None takes all L.
    """
    length = reward.shape[-1]
    n = length if n is None else n
    if not 1 <= n <= length:
        raise ValueError(f"n={n}: the window has steps 1 to {length}")
    reward, terminated, last = reward[..., :n], terminated[..., :n], last[..., :n]
    stop = terminated | last
    # alive_k: no earlier step of the window has stopped it
    alive = torch.cat([torch.ones_like(reward[..., :1]), (~stop[..., :-1]).cumprod(-1).to(reward)], -1)
    base = gamma.unsqueeze(-1) if isinstance(gamma, Tensor) else gamma
    gammas = base ** torch.arange(n, dtype=reward.dtype, device=reward.device)
    returns = (reward * alive * gammas).sum(-1)
    steps = alive.sum(-1)
    ends = (terminated.to(reward) * alive).sum(-1)
    return NStep(returns, (1 - ends) * gamma**steps, steps.to(torch.int64))


@torch.no_grad()
def lambda_returns(
    kind: str, steps: StepRecord[Tensor], gamma: float | Tensor, trace: float, q: Tensor, greedy: Tensor
) -> Tensor:
    """lambda-returns of every step of the window, computed backwards from its end:

        G_k = r_{k+1} + gamma (v_{k+1} + c_{k+1} (G_{k+1} - v_{k+1})),   v_k = q(s_k, greedy_k),   G_L = v_L

    without v and G past a terminal step, and with c = 0 past the end of an episode, so that a truncated step
    bootstraps from the observation that came with it. The kinds differ in the trace c_k:

        `peng`: lambda (Peng and Williams 1996; Kozuno et al. 2021). Never cut, so not corrected for exploration.
        `watkins`: lambda where the action taken is greedy, else 0 (Watkins 1989).
        `retrace`: lambda min(1, pi(a_k|s_k) / mu(a_k|s_k)) (Munos et al. 2016, section 3) for the greedy pi.
            Whatever the behaviour mu was, the clipped ratio is 1 for the greedy action, whose q is v, and 0 for
            any other: the same returns as `watkins`, and mu need not be known.

    Gives float32 `[B, L]`, the target of q(s_k, a_k) for k = 0 ... L-1, without a gradient. Raises `ValueError`:
    unknown kind.

    Args:
        steps: `[B, L]` each: `reward`, r_1 ... r_L, `terminated` and `last` as in `n_step`, the `action` taken, and
            `dummy`: no return reaches into such a step; its own target means nothing.
        gamma: discount of one step, or a float32 tensor `[B]` of them.
        trace: lambda in [0, 1].
        q: float32 `[B, L+1, A]`, the target network at each observation of the window.
        greedy: int64 `[B, L+1]`, the greedy action there by the network that selects actions.
    """
    reward, v = steps.reward, q.gather(-1, greedy.unsqueeze(-1)).squeeze(-1)
    discount = (gamma.unsqueeze(-1) if isinstance(gamma, Tensor) else gamma) * (~steps.terminated).to(reward)
    connected = ~steps.last[:, :-1] & ~steps.dummy[:, 1:]
    if kind in ("watkins", "retrace"):
        connected = connected & (steps.action[:, 1:] == greedy[:, 1:-1])
    elif kind != "peng":
        raise ValueError(f"unknown return {kind!r}: peng, watkins or retrace")
    c = trace * connected.to(reward)
    one_step = reward + discount * v[:, 1:]
    targets = [one_step[:, -1]]
    for k in reversed(range(reward.shape[1] - 1)):
        targets.append(one_step[:, k] + discount[:, k] * c[:, k] * (targets[-1] - v[:, k + 1]))
    return torch.stack(targets[::-1], 1)


def transform_reward(reward: Tensor, kind: str) -> Tensor:
    """`clip`: to [-1, 1] (Mnih et al. 2015, methods); `none`: as it is."""
    if kind == "clip":
        return reward.clamp(-1, 1)
    if kind == "none":
        return reward
    raise ValueError(f"unknown reward transform {kind!r}: clip or none")
