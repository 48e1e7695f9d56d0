"""From the agent's config to the function that the learner minimises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distdqn.algo import bootstrap, td
from distdqn.algo.priority import normalise_importance
from distdqn.algo.returns import n_step, transform_reward
from distdqn.config import AgentConfig
from distdqn.learn.minibatch import Minibatch
from distdqn.nets.qnetwork import QNetwork, stack_frames

Loss = Callable[[Minibatch], tuple[Tensor, Tensor, Tensor]]
"""Minibatch to: the loss (scalar), each window's |TD error| `[B]`, and each window's mean Q `[B]`."""


def observations(batch: Minibatch, steps: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """The stacked first observation of each window and the one `steps` `[B]` later, from the raw frames."""
    frames = batch.frames
    age_t = batch.age.gather(1, (steps - 1).unsqueeze(1)).squeeze(1) + 1
    rows = steps.unsqueeze(1) + torch.arange(stack, device=frames.device)
    later = frames[torch.arange(len(frames), device=frames.device).unsqueeze(1), rows]
    if frames.dim() == 3:
        return frames[:, 0], later[:, 0]
    return stack_frames(frames[:, :stack], batch.age[:, 0], stack), stack_frames(later, age_t, stack)


def make_loss(
    config: AgentConfig, stack: int, online: QNetwork, target: QNetwork, compiled: bool = False
) -> Loss:
    """n-step Q-learning with the bootstrap and the loss that `config` names, weighted by importance.

    Args:
        compiled: runs the networks and the equation through `torch.compile`. Cutting the observations out of
            the raw frames stays outside: a copy of bytes, which a compiler turns into a slow loop over pixels.
    """
    element = {"huber": td.huber, "squared": td.squared}[config.loss]

    def equation(
        s_tm1: Tensor, a_tm1: Tensor, r_t: Tensor, discount_t: Tensor, s_t: Tensor, memory: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q_tm1, _ = online(s_tm1, memory)
        with torch.no_grad():
            x_t = online.scaled(s_t)  # once for both networks: the first layer's input costs as much as the layer
            q_target, _ = target.values(x_t, memory)
            if config.bootstrap == "double":
                v_t = bootstrap.double_q(q_target, online.values(x_t, memory)[0])
            else:
                v_t = bootstrap.max_q(q_target)
        error = td.q_learning(q_tm1, a_tm1, r_t, discount_t, v_t)
        weighted = normalise_importance(weight) * element(error)
        return weighted.mean(), error.detach().abs(), q_tm1.detach().mean(-1)

    run = torch.compile(equation, dynamic=False) if compiled else equation

    def loss(batch: Minibatch) -> tuple[Tensor, Tensor, Tensor]:
        reward = transform_reward(batch.reward, config.reward)
        target_t = n_step(reward, batch.terminated, batch.last, config.discount)
        s_tm1, s_t = observations(batch, target_t.steps, stack)
        result: tuple[Tensor, Tensor, Tensor] = run(
            s_tm1, batch.action[:, 0], target_t.returns, target_t.discount, s_t, batch.memory, batch.importance
        )
        return result

    return loss
