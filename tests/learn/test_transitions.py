"""The loss of transitions, every head with every bootstrap, against loops over rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from distdqn.config import AgentConfig, BonusConfig, LearnerConfig
from distdqn.learn.learner import make_loss
from distdqn.learn.objective import Horizon, Outcome
from distdqn.types import Batch, EnvSpec
from tests.configs import agent_config, learner_config
from tests.learn import oracle
from tests.learn.helpers import outcome, tensors

Make = Callable[..., Batch]
VECTOR = EnvSpec("vector", (5,), "float32", 1, 4)
PIXELS = EnvSpec("pixels", (6, 5), "uint8", 2, 4)
ROWS, SEED = 12, 7


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def expected(config: AgentConfig, batch: Batch, horizon: Horizon) -> tuple[float, list[float], list[float]]:
    """The loss, and each row's priority and mean Q."""
    online, target = oracle.pair(config.network, VECTOR)
    tau_tm1 = tau_t = [None] * ROWS
    if config.network.head.kind == "implicit_quantile":  # the target network's fractions are drawn first
        random = generator()
        tau_t = list(torch.rand(ROWS, config.network.head.target_quantiles, generator=random))
        tau_tm1 = list(torch.rand(ROWS, config.network.head.online_quantiles, generator=random))
    rewards = batch.reward
    if config.bonus.kind == "ngu":
        rewards = rewards + config.bonus.weight * batch.bonus
    losses, priorities, q = [], [], []
    for row in range(ROWS):
        action = int(batch.action[row, 0])
        reward, discount, at = oracle.walk(batch, row, 0, horizon.n, rewards, horizon.discount)
        before = oracle.see(online, batch.frames[row, 0], tau_tm1[row])
        after = oracle.see(target, batch.frames[row, at], tau_t[row])
        reward += oracle.log_policy_bonus(config, oracle.see(target, batch.frames[row, 0]), action)
        selector = oracle.see(online, batch.frames[row, at])
        goal = oracle.goal(config, reward, discount, after, selector)
        loss, priority = oracle.loss_and_priority(config, before, action, goal)
        losses.append(batch.importance[row] / batch.importance.max() * loss)
        priorities.append(priority)
        q.append(before.q.mean())
    return float(np.mean(losses)), priorities, q


def got(config: AgentConfig, batch: Batch, horizon: Horizon, learner: LearnerConfig | None = None) -> Outcome:
    online, target = oracle.pair(config.network, VECTOR)
    loss = make_loss(config, learner or learner_config(), 1, online, target)
    return outcome(loss, tensors(batch), horizon, generator())


def check(config: AgentConfig, batch: Batch, horizon: Horizon) -> None:
    lost = got(config, batch, horizon)
    loss, priorities, q = expected(config, batch, horizon)
    assert lost.loss.item() == pytest.approx(loss, rel=1e-4)
    assert lost.priority.tolist() == pytest.approx(priorities, rel=1e-3, abs=1e-4)
    assert lost.q.tolist() == pytest.approx(q, abs=1e-4)
    assert len(set(lost.priority.tolist())) == ROWS


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("bootstrap", oracle.BOOTSTRAPS)
@pytest.mark.parametrize("head", oracle.HEADS)
def test_every_head_with_every_bootstrap(make_batch: Make, head: str, bootstrap: str, n: int) -> None:
    """In windows of three steps; n below that is an annealed one, and its discount another than the config's."""
    config = agent_config(network=oracle.small(head), bootstrap=bootstrap, reward="none", temperature=0.3)
    check(config, make_batch(VECTOR, (ROWS,), steps=3, seed=4), Horizon(n, 0.8))


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize("head", oracle.HEADS)
def test_every_head_with_both_losses(make_batch: Make, head: str, loss: str, dueling: bool) -> None:
    config = agent_config(network=oracle.small(head, dueling=dueling), loss=loss, reward="none")
    check(config, make_batch(VECTOR, (ROWS,), seed=5), Horizon(2, 0.9))


@pytest.mark.parametrize("bootstrap", oracle.BOOTSTRAPS)
def test_values_on_another_scale(make_batch: Make, bootstrap: str) -> None:
    config = agent_config(
        network=oracle.small("scalar"), bootstrap=bootstrap, reward="none", rescale=1e-3, temperature=0.3
    )
    batch = make_batch(VECTOR, (ROWS,), seed=6)
    check(config, replace(batch, steps=batch.steps | {"reward": 50 * batch.reward}), Horizon(3, 0.9))


def test_one_bonus_for_all_is_weighed_and_added_to_the_reward(make_batch: Make) -> None:
    bonus = BonusConfig(kind="ngu", mixtures=1, weight=0.7)
    config = agent_config(network=oracle.small("scalar"), reward="none", bonus=bonus)
    check(config, make_batch(VECTOR, (ROWS,), seed=7, bonus=True), Horizon(3, 0.9))


@pytest.mark.parametrize("bootstrap", ["double", "munchausen"])
@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile"])
def test_views_of_nearly_the_same_image_change_nothing(make_batch: Make, head: str, bootstrap: str) -> None:
    config = agent_config(network=oracle.small(head), bootstrap=bootstrap, temperature=0.3)
    batch = make_batch(PIXELS, (ROWS,), seed=8)
    online, target = oracle.pair(config.network, PIXELS)

    def lost(learner: LearnerConfig) -> tuple[Outcome, list[torch.Tensor]]:
        loss = make_loss(config, learner, 2, online, target)
        lost = outcome(loss, tensors(batch), Horizon(3, 0.9), generator())
        return lost, list(torch.autograd.grad(lost.loss, list(online.parameters())))

    plain, gradient = lost(learner_config())
    views = {"augment": "intensity", "online_views": 3, "target_views": 2}
    viewed, same = lost(learner_config(augment_intensity=1e-9, **views))
    assert viewed.loss.item() == pytest.approx(plain.loss.item(), rel=1e-5)
    torch.testing.assert_close(viewed.priority, plain.priority, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(viewed.q, plain.q, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same, gradient, rtol=1e-3, atol=1e-5)
    assert lost(learner_config(augment_intensity=0.5, **views))[0].loss != plain.loss


def test_views_by_hand(make_batch: Make) -> None:
    """M = 2 and K = 3: each online view's loss against the mean of three targets (Yarats et al. 2021, eq. 2)."""
    config = agent_config(network=oracle.small("scalar"), bootstrap="max", reward="none", loss="squared")
    learner = learner_config(augment="intensity", augment_intensity=0.5, online_views=2, target_views=3)
    batch = make_batch(PIXELS, (ROWS,), steps=1, seed=9)
    batch.age[:] = 5  # no plane is from before the episode
    online, target = oracle.pair(config.network, PIXELS)
    loss = make_loss(config, learner, 2, online, target)
    lost = outcome(loss, tensors(batch), Horizon(1, 0.9), generator())
    random = generator()
    shown = []
    for count, frames in ((2, batch.frames[:, :2]), (3, batch.frames[:, 1:])):
        factor = 1 + 0.5 * torch.randn(count, ROWS, 1, 1, 1, generator=random).clamp(-2, 2)
        shown.append((torch.from_numpy(frames) * factor).round().clamp(0, 255).to(torch.uint8).numpy())
    losses, priorities = [], []
    for row in range(ROWS):
        goals = [
            batch.reward[row, 0] + 0.9 * (not batch.terminated[row, 0]) * max(oracle.see(target, x[row]).q)
            for x in shown[1]
        ]
        errors = [np.mean(goals) - oracle.see(online, x[row]).q[batch.action[row, 0]] for x in shown[0]]
        priorities.append(np.mean(np.abs(errors)))
        losses.append(batch.importance[row] / batch.importance.max() * np.mean(np.square(errors)) / 2)
    assert lost.priority.tolist() == pytest.approx(priorities, rel=1e-4, abs=1e-5)
    assert lost.loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
