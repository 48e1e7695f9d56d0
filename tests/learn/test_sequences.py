"""The loss of sequences against a loop that takes one step after the other, and against that of transitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.algo.exploration import ngu_mixture
from distdqn.config import AgentConfig, BonusConfig, SequenceConfig
from distdqn.learn.learner import make_loss
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.objective import Horizon, Outcome
from distdqn.learn.sequences import make_sequence_loss, unpack
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import agent_config, learner_config
from tests.learn import oracle
from tests.learn.helpers import outcome, tensors
from tests.learn.stream import observation, stream

VECTOR = EnvSpec("vector", (5,), "float32", 1, 4)
PIXELS = EnvSpec("pixels", (4, 3), "uint8", 3, 4)
ROWS, SEED = 10, 5


def lost(
    config: AgentConfig,
    spec: EnvSpec,
    online: QNetwork,
    target: QNetwork,
    batch: Minibatch,
    *,
    n: int | None = None,
    discount: float = 0.9,
) -> Outcome:
    loss = make_sequence_loss(config, spec.stack, online, target)
    return outcome(loss, batch, Horizon(n or config.n_step, discount), torch.Generator().manual_seed(SEED))


def steps_of(
    network: QNetwork,
    config: AgentConfig,
    spec: EnvSpec,
    batch: Batch,
    episode: np.ndarray,
    row: int,
    tau: torch.Tensor | None,
) -> list[oracle.One]:
    """The network's values at every observation of a window, one after the other, as an actor takes them; `tau` are
    the fractions of those after the burn-in."""
    state = torch.from_numpy(batch.memory[row : row + 1].copy())
    context = state[:, -1].long() if config.contexts > 1 else torch.zeros(1, dtype=torch.int64)
    if config.sequence.start == "zero":
        state = network.initial(context)
    count, values = batch.action.shape[1], []
    for k in range(count + 1):
        after_a_dummy = k == count and batch.age[row, k - 1] == -1
        if after_a_dummy or (k < count and batch.age[row, k] == 0):
            state = network.initial(context)
        seen = torch.from_numpy(observation(spec, batch, episode, row, k)[None])
        at = k - config.sequence.burn_in
        with torch.no_grad():
            one, after = network(seen, state, None if tau is None or at < 0 else tau[at : at + 1])
        values.append(oracle.One.of(one))
        if k < count:
            assert after is not None
            state = after.clone()
            network.remember(state, torch.tensor([batch.action[row, k]]), torch.tensor([batch.reward[row, k]]))
    return values


def rewards_of(config: AgentConfig, batch: Batch, row: int, discount: float) -> tuple[np.ndarray, float]:
    """Rewards `[B, L]` and the discount that a row learns with."""
    rewards = batch.reward.clip(-1, 1) if config.reward == "clip" else batch.reward
    if config.bonus.kind == "none":
        return rewards, discount
    bonus = config.bonus
    betas, discounts = ngu_mixture(bonus.mixtures, bonus.weight, config.discount, bonus.discount_min)
    context = int(batch.memory[row, -1])
    return rewards + betas[context] * batch.bonus, discounts[context]


def trace_goal(
    config: AgentConfig,
    batch: Batch,
    row: int,
    at: int,
    rewards: np.ndarray,
    gamma: float,
    online: list[oracle.One],
    target: list[oracle.One],
) -> float:
    """The lambda-return from step `at`, by recursion."""
    best = int(np.argmax((online if config.bootstrap.kind == "double" else target)[at + 1].q))
    v = oracle.expand(target[at + 1].q[best], config)
    if batch.terminated[row, at]:
        return float(rewards[row, at])
    goes_on = at + 1 < batch.action.shape[1] and not batch.last[row, at]
    if not goes_on or (config.returns != "peng" and batch.action[row, at + 1] != best):
        return float(rewards[row, at] + gamma * v)
    g = trace_goal(config, batch, row, at + 1, rewards, gamma, online, target)
    return float(rewards[row, at] + gamma * ((1 - config.trace) * v + config.trace * g))


def expected(
    config: AgentConfig,
    spec: EnvSpec,
    online: QNetwork,
    target: QNetwork,
    batch: Batch,
    episode: np.ndarray,
    n: int,
    discount: float,
) -> tuple[float, list[float]]:
    """The loss, and each window's priority."""
    sequence, net = config.sequence, config.network
    later = batch.action.shape[1] + 1 - sequence.burn_in
    tau_t = tau_tm1 = [None] * ROWS
    if net.head.kind == "implicit_quantile":  # the target network's fractions are drawn first
        random = torch.Generator().manual_seed(SEED)
        tau_t = list(torch.rand(ROWS, later, net.head.target_quantiles, generator=random))
        tau_tm1 = list(torch.rand(ROWS, later, net.head.online_quantiles, generator=random))
    losses, priorities = [], []
    for row in range(ROWS):
        rewards, gamma = rewards_of(config, batch, row, discount)
        ours = steps_of(online, config, spec, batch, episode, row, tau_tm1[row])
        theirs = steps_of(target, config, spec, batch, episode, row, tau_t[row])
        mine = []
        for k in range(sequence.burn_in, sequence.burn_in + sequence.length):
            if batch.age[row, k] == -1:
                continue
            action = int(batch.action[row, k])
            if config.returns == "n_step":
                reward, left, at = oracle.walk(batch, row, k, n, rewards, gamma)
                reward += oracle.log_policy_bonus(config, theirs[k], action)
                goal = oracle.goal(config, reward, left, theirs[at], ours[at])
            else:
                g = trace_goal(config, batch, row, k, rewards, gamma, ours, theirs)
                goal = np.array(oracle.compress(g, config))
            loss, priority = oracle.loss_and_priority(config, ours[k], action, goal)
            losses.append(batch.importance[row] / batch.importance.max() * loss)
            mine.append(priority)
        priorities.append(sequence.eta * max(mine) + (1 - sequence.eta) * np.mean(mine) if mine else 0.0)
    return float(np.mean(losses)), priorities


def check(
    spec: EnvSpec = VECTOR,
    head: str = "scalar",
    network: dict[str, Any] | None = None,
    n: int | None = None,
    discount: float = 0.9,
    seed: int = 1,
    ends: float = 0.25,
    **agent: Any,
) -> None:
    settings = {"reward": "none", "n_step": 2, "temperature": 0.3, **agent}
    config = agent_config(network=oracle.small(head, **(network or {})), **settings)
    online, target = oracle.pair(config.network, spec, config.contexts)
    batch, episode = stream(
        spec, ROWS, config.window, seed=seed, memory=online.state_size, contexts=config.contexts, ends=ends
    )
    if online.previous:
        at = int(online.memory.size)
        batch.memory[:, at] = np.arange(ROWS) % 5  # what was done last, plus one; none
    if config.network.memory.kind == "transformer":  # how many steps the state knows
        batch.memory[:, int(online.memory.size) - 1] = np.arange(ROWS) % config.network.memory.steps
    got = lost(config, spec, online, target, tensors(batch), n=n, discount=discount)
    loss, priorities = expected(config, spec, online, target, batch, episode, n or config.n_step, discount)
    assert got.loss.item() == pytest.approx(loss, rel=1e-4)
    assert got.priority.tolist() == pytest.approx(priorities, rel=1e-3, abs=1e-4)
    at = config.sequence.burn_in
    body = slice(at, at + config.sequence.length)
    if config.sequence.length > 2 and ends:  # the streams have what the test is for
        assert (batch.age[:, body] == -1).any() and (batch.age[:, body] == 0).any()
        assert (batch.last & ~batch.terminated)[:, body].any() and batch.terminated[:, body].any()


MEMORY = {"memory_size": 6, "memory_steps": 3, "memory_heads": 2, "previous": True}
WINDOW = SequenceConfig(length=5, burn_in=3, eta=0.6)


@pytest.mark.parametrize("start", ["stored", "zero"])
@pytest.mark.parametrize("memory", ["none", "rnn", "gru", "lstm", "transformer"])
def test_every_memory_equals_a_loop(memory: str, start: str) -> None:
    sequence = replace(WINDOW, start=start, burn_in=0 if memory == "none" else 3)
    check(network={**MEMORY, "memory": memory}, sequence=sequence, n_step=3)


@pytest.mark.parametrize("bootstrap", oracle.BOOTSTRAPS)
@pytest.mark.parametrize("head", oracle.HEADS)
def test_every_head_with_every_bootstrap(head: str, bootstrap: str) -> None:
    check(head=head, bootstrap=bootstrap, network={**MEMORY, "memory": "gru"}, sequence=WINDOW)


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_stacks_of_frames_do_not_cross_episodes(memory: str) -> None:
    sequence = replace(WINDOW, burn_in=0 if memory == "none" else 2)
    check(PIXELS, network={**MEMORY, "memory": memory}, sequence=sequence, n_step=3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_an_annealed_n_looks_at_less_than_the_window(n: int) -> None:
    check(network={**MEMORY, "memory": "gru"}, sequence=WINDOW, n=n, n_step=4)


@pytest.mark.parametrize("bootstrap", ["max", "double"])
@pytest.mark.parametrize("returns", ["peng", "watkins", "retrace"])
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_lambda_returns(memory: str, returns: str, bootstrap: str) -> None:
    network = {"memory": memory, "memory_size": 6, "previous": memory != "none"}
    sequence = replace(WINDOW, burn_in=0 if memory == "none" else 3)
    check(network=network, sequence=sequence, returns=returns, bootstrap=bootstrap, trace=0.7, seed=2)


@pytest.mark.parametrize("returns", ["n_step", "watkins"])
def test_values_on_another_scale(returns: str) -> None:
    network = {**MEMORY, "memory": "gru"}
    check(network=network, sequence=WINDOW, returns=returns, rescale=0.01)


@pytest.mark.parametrize("start", ["stored", "zero"])
@pytest.mark.parametrize("returns", ["n_step", "peng"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_each_context_has_its_rewards_and_its_discount(memory: str, returns: str, start: str) -> None:
    bonus = BonusConfig(kind="ngu", mixtures=3, weight=0.8, discount_min=0.5)
    sequence = replace(WINDOW, burn_in=0 if memory == "none" else 3, start=start)
    check(network={**MEMORY, "memory": memory}, sequence=sequence, returns=returns, bonus=bonus, discount=0.97)


def test_contexts_by_hand() -> None:
    """The first context has beta 0 and the config's discount, the last beta = weight and discount_min."""
    bonus = BonusConfig(kind="ngu", mixtures=2, weight=0.8, discount_min=0.5)
    config = agent_config(
        network=oracle.small("scalar"), bonus=bonus, n_step=1, discount=0.9, reward="none", bootstrap="max"
    )
    online, target = oracle.pair(config.network, VECTOR, 2)
    batch, _ = stream(VECTOR, 2, 1, memory=1, ends=0)
    batch.memory[:, 0] = [0, 1]
    priority = lost(config, VECTOR, online, target, tensors(batch)).priority
    state = torch.tensor([[0.0], [1.0]])
    with torch.no_grad():
        q = online(torch.from_numpy(batch.frames[:, 0]), state)[0].q.numpy()
        v = target(torch.from_numpy(batch.frames[:, 1]), state)[0].q.max(1)[0].numpy()
    (r_0, r_1), (_, b_1) = batch.reward[:, 0], batch.bonus[:, 0]
    errors = [r_0 + 0.9 * v[0] - q[0, batch.action[0, 0]], r_1 + 0.8 * b_1 + 0.5 * v[1] - q[1, batch.action[1, 0]]]
    assert priority.tolist() == pytest.approx(np.abs(errors), rel=1e-4)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("bootstrap", ["max", "double", "munchausen"])
@pytest.mark.parametrize("head", ["scalar", "categorical", "quantile"])
def test_without_burn_in_length_and_memory_it_is_the_loss_of_transitions(head: str, bootstrap: str, n: int) -> None:
    config = agent_config(network=oracle.small(head), bootstrap=bootstrap, n_step=n, temperature=0.3)
    online, target = oracle.pair(config.network, PIXELS)
    batch = tensors(stream(PIXELS, ROWS, n, seed=3)[0])
    transition = make_loss(config, learner_config(), PIXELS.stack, online, target)
    assert "transition" in transition.learn.__qualname__
    one = outcome(transition, batch, Horizon(n, 0.9), torch.Generator())
    two = lost(config, PIXELS, online, target, batch)
    torch.testing.assert_close(two[:3], one[:3], rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad(x.loss, list(online.parameters())) for x in (one, two))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)
    assert one.loss > 0


def test_what_needs_sequences_gets_their_loss() -> None:
    plain = agent_config(network=oracle.small("scalar"))
    for config in (
        replace(plain, sequence=SequenceConfig(length=2)),
        replace(plain, returns="peng"),
        replace(plain, network=replace(plain.network, previous=True)),
        replace(plain, bonus=BonusConfig(kind="ngu", mixtures=2)),
    ):
        online, target = oracle.pair(config.network, VECTOR, config.contexts)
        loss = make_loss(config, learner_config(), 1, online, target)
        assert "sequence" in loss.learn.__qualname__


def test_observations_by_hand() -> None:
    """A stack of two over frames 10, 11, ...: the episode ends with the second step, the third is a dummy, the next
    episode begins with the fourth."""
    batch, _ = stream(EnvSpec("tiny", (1, 1), "uint8", 2, 2), 1, 4, ends=0)
    batch.frames[:] = np.arange(10, 16).reshape(1, 6, 1, 1)
    batch.age[:], batch.last[0, 1] = [[4, 5, -1, 0]], True
    steps = unpack(tensors(batch), 2)
    assert steps.observation[0].flatten(1).tolist() == [[10, 11], [11, 12], [12, 13], [0, 14], [14, 15]]
    assert steps.start.tolist() == [[False, False, False, True, False]]
    assert steps.dummy.tolist() == [[False, False, True, False]]


@pytest.mark.parametrize("memory", ["rnn", "gru", "lstm", "transformer"])
def test_burn_in_is_a_state_from_outside_to_the_gradient(memory: str) -> None:
    network = oracle.small("scalar", **{**MEMORY, "memory": memory})
    config = agent_config(network=network, sequence=replace(WINDOW, burn_in=2), n_step=2, reward="none")
    online, target = oracle.pair(network, VECTOR)
    target.load_state_dict(online.state_dict())  # so that both burn in to the same state
    batch, _ = stream(VECTOR, ROWS, config.window, memory=online.state_size, seed=6, ends=0)
    batch.memory[:] = 0
    minibatch = tensors(batch)
    minibatch.frames.requires_grad_()
    whole = lost(config, VECTOR, online, target, minibatch)
    gradients = torch.autograd.grad(whole.loss, [minibatch.frames, *online.parameters()])

    state = torch.zeros(ROWS, online.state_size)
    for k in range(2):
        with torch.no_grad():
            _, after = online(minibatch.frames[:, k], state)
            assert after is not None
            state = after.clone()
        online.remember(state, minibatch.action[:, k], minibatch.reward[:, k])
    later = {name: value[:, 2:] for name, value in minibatch.steps.items()}
    cut = Minibatch(minibatch.frames[:, 2:], later, state, minibatch.importance)
    cut_config = replace(config, sequence=replace(WINDOW, burn_in=0))
    rest = lost(cut_config, VECTOR, online, target, cut)
    torch.testing.assert_close(rest.loss, whole.loss)
    expected_gradients = torch.autograd.grad(rest.loss, list(online.parameters()))
    torch.testing.assert_close(gradients[1:], expected_gradients, rtol=1e-4, atol=1e-6)
    assert not gradients[0][:, :2].any()
    assert gradients[0][:, 2 : 2 + WINDOW.length].any(-1).all()
    assert not gradients[0][:, 2 + WINDOW.length :].any()


def test_a_loss_reaches_back_through_time() -> None:
    """Only the last of three loss positions has an error, but the first observation has a gradient."""
    network = oracle.small("scalar", memory="lstm", memory_size=6)
    config = agent_config(network=network, sequence=SequenceConfig(length=3), n_step=1, loss="squared", reward="none")
    online, target = oracle.pair(network, VECTOR)
    batch = tensors(stream(VECTOR, 1, 3, memory=online.state_size, ends=0)[0])
    batch.terminated[:] = True  # every target is the reward alone
    with torch.no_grad():
        values, _ = online.unroll(batch.frames[:, :3], batch.memory, batch.age == 0, batch.action, batch.reward)
    taken = values.q.gather(1, batch.action.view(3, 1)).view(1, 3)
    batch = replace(batch, steps=batch.steps | {"reward": taken + torch.tensor([[0.0, 0.0, 2.0]])})
    batch.frames.requires_grad_()
    got = lost(config, VECTOR, online, target, batch)
    assert got.loss.item() == pytest.approx((0 + 0 + 2**2 / 2) / 3, rel=1e-4)
    got.loss.backward()
    assert batch.frames.grad is not None
    assert batch.frames.grad[:, :3].any(-1).all()


def test_a_zero_start_ignores_the_stored_state_and_keeps_the_context() -> None:
    bonus = BonusConfig(kind="ngu", mixtures=3)
    network = oracle.small("scalar", **{**MEMORY, "memory": "gru"})
    config = agent_config(network=network, sequence=replace(WINDOW, start="zero"), bonus=bonus)
    online, target = oracle.pair(network, VECTOR, 3)
    batch = stream(VECTOR, ROWS, config.window, memory=online.state_size, contexts=3)[0]
    batch.memory[:, 6] = np.arange(ROWS) % 4  # of h there are six numbers, then comes the previous action
    other, context = (replace(batch, memory=batch.memory.copy()) for _ in range(2))
    other.memory[:, :-1] += 1
    context.memory[:, -1] = (batch.memory[:, -1] + 1) % 3

    def losses(config: AgentConfig) -> list[float]:
        return [lost(config, VECTOR, online, target, tensors(b)).loss.item() for b in (batch, other, context)]

    one, two, three = losses(config)
    assert one == two != three
    one, two, _ = losses(replace(config, sequence=WINDOW))
    assert one != two


def test_what_is_written_at_a_dummy_changes_nothing() -> None:
    network = oracle.small("scalar", **{**MEMORY, "memory": "lstm"})
    config = agent_config(network=network, sequence=WINDOW, n_step=3, reward="none")
    online, target = oracle.pair(network, VECTOR)
    batch = stream(VECTOR, ROWS, config.window, memory=online.state_size, seed=4)[0]
    dummy = batch.age == -1
    assert dummy.any()
    action = np.where(dummy, (batch.action + 1) % 4, batch.action)
    reward = np.where(dummy, 5.0, batch.reward).astype(np.float32)
    changed = replace(batch, steps=batch.steps | {"action": action, "reward": reward})
    one, two = (lost(config, VECTOR, online, target, tensors(b)) for b in (batch, changed))
    assert torch.equal(one.loss, two.loss)
    assert torch.equal(one.priority, two.priority)


def test_windows_of_nothing_but_dummies_have_no_loss_and_no_priority() -> None:
    network = oracle.small("scalar", memory="gru", memory_size=4)
    config = agent_config(network=network, sequence=SequenceConfig(length=1, burn_in=1), n_step=1)
    online, target = oracle.pair(network, VECTOR)
    batch = stream(VECTOR, 3, 2, memory=online.state_size, ends=0)[0]
    batch.last[:, 0], batch.age[:, 1] = True, -1
    got = lost(config, VECTOR, online, target, tensors(batch))
    assert got.loss.item() == 0
    assert got.priority.tolist() == [0, 0, 0]
