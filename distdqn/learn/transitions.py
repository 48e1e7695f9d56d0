"""The loss over windows of which only the first step counts: single transitions, with n-step returns."""

from typing import NamedTuple

import torch
from torch import Tensor

from distdqn.algo.augment import random_intensity, random_shift
from distdqn.algo.priority import normalize_importance
from distdqn.algo.returns import n_step
from distdqn.config import AgentConfig, AugmentConfig, LearnerConfig
from distdqn.learn.bellman import Bellman
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.objective import Horizon, Objective, Outcome, Rewards
from distdqn.nets.heads import Values
from distdqn.nets.qnetwork import QNetwork, stack_frames


class Prepared(NamedTuple):
    """What a loss over transitions has of a minibatch of B, augmented k times at t, before it needs the online
    network: importance and action, what the torso sees at t-1, returns, the target network's values at t, and, for
    Double Q-learning, what the torso sees there."""

    importance: Tensor
    a_tm1: Tensor
    x_tm1: Tensor
    r_t: Tensor
    discount_t: Tensor
    values_t: Values
    x_t: Tensor | None


def observations(batch: Minibatch, steps: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """The stacked first observation of each window and the one `steps` `[B]` later, from the raw frames."""
    frames = batch.frames
    age_t = batch.age.gather(1, (steps - 1).unsqueeze(1)).squeeze(1) + 1
    count, length = frames.shape[:2]
    rows = (torch.arange(count, device=frames.device) * length + steps).unsqueeze(1)
    rows = rows + torch.arange(stack, device=frames.device)
    later = frames.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (count, stack))
    if frames.dim() == 3:
        return frames[:, 0], later[:, 0]
    first, later = stack_frames(frames[:, :stack], batch.age[:, 0], stack), stack_frames(later, age_t, stack)
    if frames.device.type != "cpu":
        return first, later
    # planes last, as convolutions on a CPU want it; faster than `contiguous(memory_format=...)` for bytes
    return torch.stack(first.unbind(1), -1).movedim(-1, 1), torch.stack(later.unbind(1), -1).movedim(-1, 1)


def views(config: AugmentConfig, images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` differently augmented copies of uint8 `[B, S, H, W]`, one after the other: `[count * B, S, H, W]`
    (Yarats et al. 2021, section 3.1)."""
    images = images.repeat(count, 1, 1, 1) if config.kind != "none" else images
    if config.kind in ("shift", "both"):
        images = random_shift(images, config.pixels, generator)
    if config.kind in ("intensity", "both"):
        images = random_intensity(images, config.intensity, generator)
    return images


def make_transition_loss(
    config: AgentConfig, learner: LearnerConfig, stack: int, online: QNetwork, target: QNetwork, compiled: bool
) -> Objective:
    """The loss over single transitions, from the first observation of each window to the one n steps later.

    Args:
        compiled: runs the networks and the equation through `torch.compile`. Cutting the observations out of the
            raw frames stays outside: a copy of bytes, which a compiler turns into a slow loop over pixels.
    """
    bellman = Bellman(config, online.head)
    rewards = Rewards(config, next(online.parameters()).device)
    augment, needs = learner.augment, bellman.bootstrap
    m, k = augment.online_views, augment.target_views

    def from_target(
        s_tm1: Tensor, a_tm1: Tensor, r_t: Tensor, s_t: Tensor, tau_t: Tensor | None
    ) -> tuple[Tensor, Tensor, Values, Tensor | None]:
        with torch.no_grad():
            x_tm1, x_t = target.scaled(s_tm1), target.scaled(s_t)
            if target.bf16:  # as the first layer would have it: half the bytes to hand over
                x_tm1, x_t = x_tm1.bfloat16(), x_t.bfloat16()
            q_tm1 = target.values(x_tm1[: len(a_tm1)])[0].q if needs.needs_previous else None
            r_t = bellman.reward(r_t, q_tm1, a_tm1)
            return x_tm1, r_t, target.values(x_t, None, tau_t)[0], x_t if needs.needs_selector else None

    def from_online(ready: Prepared, tau_tm1: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        importance, a_tm1, x_tm1, r_t, discount_t, values_t, x_t = ready
        batch = len(a_tm1)
        values_tm1, _ = online.values(x_tm1, None, tau_tm1)
        with torch.no_grad():
            selector = None if x_t is None else online.values(x_t)[0].q
            goal = bellman.target(r_t.repeat(k), discount_t.repeat(k), values_t, selector)
            goal = goal.unflatten(0, (k, batch)).mean(0)
        loss, priority = bellman.loss(values_tm1, a_tm1.repeat(m), goal.repeat(m, *[1] * (goal.dim() - 1)))
        loss, priority = loss.view(m, batch).mean(0), priority.view(m, batch).mean(0)
        return (normalize_importance(importance) * loss).mean(), priority, values_tm1.q.detach().mean(-1)[:batch]

    if compiled:
        from_target = torch.compile(from_target, dynamic=False)
        from_online = torch.compile(from_online, dynamic=False)

    def prepare(batch: Minibatch, horizon: Horizon, generator: torch.Generator) -> Prepared:
        reward, discount = rewards(batch, horizon.discount)
        returns = n_step(reward, batch.terminated, batch.last, discount, horizon.n)
        s_tm1, s_t = observations(batch, returns.steps, stack)
        s_tm1, s_t = views(augment, s_tm1, m, generator), views(augment, s_t, k, generator)
        tau_t, a_tm1 = target.head.fractions(len(s_t), generator, online=False), batch.action[:, 0]
        x_tm1, r_t, values_t, x_t = from_target(s_tm1, a_tm1, returns.returns, s_t, tau_t)
        return Prepared(batch.importance, a_tm1, x_tm1, r_t, returns.discount, values_t, x_t)

    def learn(ready: Prepared, generator: torch.Generator) -> Outcome:
        return Outcome(*from_online(ready, online.head.fractions(len(ready.x_tm1), generator, online=True)))

    return Objective(prepare, learn)
