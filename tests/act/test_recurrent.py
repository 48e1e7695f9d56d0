"""Actors of agents that remember: stored states, contexts, and the same TD errors from acting, learning, and a replay
of the whole stream; bonuses; greedy and Boltzmann exploration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.act.actor import Actor
from distdqn.config import (
    ActorsConfig,
    AgentConfig,
    BonusConfig,
    EnvConfig,
    ExplorationConfig,
    ReplayConfig,
    SequenceConfig,
)
from distdqn.learn.minibatch import on_cpu, split_parts
from distdqn.learn.objective import Horizon
from distdqn.learn.sequences import make_sequence_loss
from distdqn.nets.noisy import NoisyLinear
from distdqn.nets.novelty_network import NoveltyNetwork
from distdqn.nets.qnetwork import QNetwork
from distdqn.replay.shard import ReplayShard
from distdqn.types import Segment, Weights
from tests.configs import agent_config, network_config
from tests.learn.helpers import outcome

Tell = Callable[..., Any]
PLOTS: list[list[tuple[int, bool, frozenset[int]]]] = [
    [(5, False, frozenset({1, 2})), (3, True, frozenset()), (1, False, frozenset())],
    [(9, True, frozenset({8})), (2, False, frozenset({0}))],
    [(30, True, frozenset())],
]
SEQUENCE = SequenceConfig(length=6, burn_in=3, overlap=3, eta=0.9)
MIXTURE = BonusConfig(kind="ngu", mixtures=3, lifelong_max=1.0, weight=0.5, discount_min=0.8, neighbours=2)


NO_BONUS = BonusConfig()


def agent(memory: str, sequence: SequenceConfig = SEQUENCE, bonus: BonusConfig = NO_BONUS, **other: Any) -> AgentConfig:
    network = network_config(torso="mlp", hidden=(8,), memory=memory, memory_size=4, memory_steps=5, previous=True)
    settings: dict[str, Any] = {"n_step": 2, "discount": 0.9, "bootstrap": "max", "loss": "squared", **other}
    return agent_config(network=network, sequence=sequence, bonus=bonus, **settings)


def acting(
    config: AgentConfig, env: Any, monkeypatch: pytest.MonkeyPatch, steps: int = 12
) -> tuple[Actor, QNetwork, Weights]:
    monkeypatch.setattr("distdqn.act.actor.make_env", lambda *_: env)
    actors = ActorsConfig(count=1, envs_per_actor=env.num_slots, rollout_steps=steps)
    actor = Actor(EnvConfig(), config, actors, 0, seed=1)
    torch.manual_seed(5)
    network = QNetwork(config.network, env.spec, config.contexts).eval()
    arrays = dict(network.arrays())
    if config.bonus.kind == "ngu":
        arrays |= {f"novelty/{n}": a for n, a in NoveltyNetwork(config.bonus, env.spec).arrays().items()}
    return actor, network, Weights(0, arrays)


@torch.no_grad()
def replayed(network: QNetwork, env: Any, slot: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The states before each step of a slot's stream, and the values there: from its very beginning, one by one."""
    states, values = [], []
    initial = network.initial(torch.tensor([slot % network.contexts]))
    for k in range(steps):
        episode, i = env.story.place(slot, k)
        if i == 0:
            state = initial.clone()
        states.append(state[0].numpy().copy())
        observation = torch.from_numpy(env.story.observation(episode, i)[None].copy())
        out, after = network(observation, state)
        values.append(out.q[0].numpy())
        assert after is not None
        state = after
        reward = episode.reward[i] if i < len(episode.reward) else 0.0
        network.remember(state, torch.tensor([env.actions[k][slot]]), torch.tensor([reward]))
    return np.array(states), np.array(values)


@pytest.mark.parametrize("contexts", [1, 3])
@pytest.mark.parametrize("memory", ["none", "gru", "lstm", "transformer"])
@pytest.mark.parametrize("pixels", [True, False])
def test_stored_states_are_those_of_the_whole_stream(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, memory: str, contexts: int, pixels: bool
) -> None:
    env = tell(PLOTS, 72, pixels=pixels, stack=3)
    sequence = SEQUENCE if memory != "none" else SequenceConfig(length=6, overlap=3)
    config = agent(memory, sequence, MIXTURE if contexts > 1 else NO_BONUS)
    actor, network, weights = acting(config, env, monkeypatch)
    segments = [actor.rollout(weights)[0] for _ in range(6)]
    for slot in range(3):
        states, _ = replayed(network, env, slot, 72)
        beginning = network.initial(torch.tensor([slot % contexts]))[0].numpy()
        for segment in segments:
            first = int(segment.origin[slot, 3])
            assert segment.memory.shape == (3, 4, network.state_size)
            for group in range(4):
                k = first + 3 * group
                expected = states[k] if k >= 0 else beginning
                np.testing.assert_allclose(segment.memory[slot, group], expected, atol=1e-5)
        assert len(np.unique(states.round(4), axis=0)) > (6 if memory == "none" else 25)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("memory", ["none", "gru", "transformer"])
def test_acting_and_learning_see_the_errors_of_the_whole_stream(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, memory: str, rescale: bool
) -> None:
    def h(x: float) -> float:
        return float(np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x)

    def h_inverse(x: float) -> float:
        # the solution of h(y) = x by bisection
        low, high = -1e3, 1e3
        for _ in range(80):
            low, high = ((low + high) / 2, high) if h((low + high) / 2) < x else (low, (low + high) / 2)
        return low

    env = tell(PLOTS, 72, stack=2)
    sequence = SEQUENCE if memory != "none" else SequenceConfig(length=6, overlap=3)
    config = agent(memory, sequence, rescale=1e-3 if rescale else None, reward="none")
    actor, network, weights = acting(config, env, monkeypatch)
    shard = ReplayShard(ReplayConfig(kind="uniform"), 10_000, 12, 0, 0, stride=3)
    segments: list[Segment] = [actor.rollout(weights)[0] for _ in range(6)]
    for segment in segments:
        shard.add(segment)
    q = [replayed(network, env, slot, 72)[1] for slot in range(3)]

    def error(slot: int, k: int) -> float:
        window = env.story.window(slot, k, 2, 0.9, clip=False)
        bootstrap = float(q[slot][k + window.steps].max())
        if rescale:
            goal = h(window.returns + window.discount * h_inverse(bootstrap))
        else:
            goal = window.returns + window.discount * bootstrap
        return abs(goal - float(q[slot][k][env.actions[k][slot]]))

    def priority(slot: int, k: int) -> float:
        first = k + sequence.burn_in
        errors = [error(slot, j) for j in range(first, first + 6) if env.story.real(slot, j)]
        return 0.9 * max(errors) + 0.1 * sum(errors) / len(errors)

    compared = 0
    for segment in segments:
        for slot, t in zip(*np.nonzero(segment.valid), strict=True):
            expected = priority(slot, int(segment.origin[slot, 3] + t))
            assert segment.priority[slot, t] == pytest.approx(expected, abs=2e-4)
            compared += 1
    assert compared > 50
    loss = make_sequence_loss(config, env.spec.stack, network, network)
    batch, _ = shard.sample((300,), beta=0.4)
    (minibatch,) = on_cpu(split_parts([batch]))
    lost = outcome(loss, minibatch, Horizon(2, 0.9), torch.Generator())
    starts = [(int(o[2]), int(o[3] + o[5])) for o in batch.origin]
    assert len(set(starts)) > 40
    np.testing.assert_allclose(lost.priority.detach(), [priority(*s) for s in starts], atol=2e-4)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_the_bonus_is_that_of_the_step_that_led_to_the_observation(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    class Mean:
        """A bonus that says what was seen."""

        def __init__(self, *_: Any) -> None:
            self.starts: list[np.ndarray] = []

        def load(self, arrays: dict[str, np.ndarray]) -> None:
            self.names = {n.removeprefix("novelty/") for n in arrays if n.startswith("novelty/")}

        def bonus(self, observation: torch.Tensor, start: np.ndarray) -> np.ndarray:
            self.starts.append(start.copy())
            mean: np.ndarray = observation.float().mean((1, 2, 3)).numpy()
            return mean

    monkeypatch.setattr("distdqn.act.actor.IntrinsicReward", Mean)
    env = tell(PLOTS, 48, stack=3)
    config = (
        agent(memory, SequenceConfig(length=2), MIXTURE)
        if memory != "none"
        else agent("none", SequenceConfig(), BonusConfig(kind="ngu"))
    )
    actor, _, weights = acting(config, env, monkeypatch)
    bonuses, actual = np.full((3, 49), np.nan), 0
    for _ in range(4):
        segment, stats = actor.rollout(weights)
        assert stats.bonus_mean == pytest.approx(float(segment.bonus.mean()))
        for slot in range(3):
            for t, bonus in enumerate(segment.bonus[slot]):
                k = int(segment.origin[slot, 3] + t)
                if k < 0:
                    assert bonus == 0
                    continue
                observation = env.story.observation(*env.story.place(slot, k + 1))
                assert bonus == pytest.approx(observation.mean(), rel=1e-5)
                bonuses[slot, k + 1], actual = bonus, actual + 1
    assert actual > 130
    assert isinstance(actor.novelty, Mean)
    begins = [[env.story.place(slot, k + 1)[1] == 0 for slot in range(3)] for k in range(48)]
    assert [s.tolist() for s in actor.novelty.starts] == begins
    assert actor.novelty.names == set(NoveltyNetwork(config.bonus, env.spec).arrays())


def test_the_true_bonus_is_finite_and_the_weights_carry_its_networks(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = tell(PLOTS, 48, pixels=False)
    actor, _, weights = acting(agent("gru", bonus=MIXTURE), env, monkeypatch)
    for _ in range(4):
        segment, stats = actor.rollout(weights)
    assert np.isfinite(segment.bonus).all() and (segment.bonus >= 0).all() and stats.bonus_mean > 0
    assert np.isfinite(segment.priority).all()
    own = {f"novelty/{n}": a for n, a in actor.novelty.network.arrays().items()}
    assert own and all(np.array_equal(weights.arrays[n], a) for n, a in own.items())


def exploring(kind: str, tell: Tell, monkeypatch: pytest.MonkeyPatch, **exploration: Any) -> Actor:
    env = tell(PLOTS, 30, pixels=False)
    network = network_config(torso="mlp", hidden=(8,), noisy=kind == "greedy")
    config = agent_config(network=network, exploration=ExplorationConfig(kind=kind, **exploration))
    return acting(config, env, monkeypatch)[0]


def test_boltzmann_acts_by_the_annealed_softmax(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = exploring("boltzmann", tell, monkeypatch, temperature=3.0, final_temperature=1.0, anneal_steps=100)
    q, count = np.array([0.0, 1.0, 3.0, -1.0], np.float32), 20_000
    for env_steps, temperature in ((0, 3.0), (50, 2.0), (100, 1.0), (10**6, 1.0)):
        action = actor.exploration.actions(np.tile(q, (count, 1)), env_steps)
        p = np.exp(q / temperature) / np.exp(q / temperature).sum()
        got = np.bincount(action, minlength=4) / count
        assert (abs(got - p) < 5 * np.sqrt(p / count)).all()
    assert actor.exploration.epsilons(0).tolist() == [0.0] * 3


def test_greedy_takes_the_best_of_the_noisy_values(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = exploring("greedy", tell, monkeypatch)
    weights = Weights(0, actor.policy.network.arrays())
    seen: list[np.ndarray] = []
    act = actor.policy.q_values
    monkeypatch.setattr(actor.policy, "q_values", lambda *a: seen.append(act(*a).copy()) or seen[-1])
    _, stats = actor.rollout(weights, env_steps=0)
    np.testing.assert_array_equal(actor.env.actions, [q.argmax(1) for q in seen])
    assert actor.exploration.epsilons(0).tolist() == [0.0] * 3 and set(stats.epsilons) == {0.0}
    actor.policy.noise = None
    for layer in actor.policy.network.modules():
        if isinstance(layer, NoisyLinear):
            layer.silent = True
    observation = np.stack([actor.env.story.observation(*actor.env.story.place(s, 0)) for s in range(3)])
    assert (act(observation, np.zeros(3, np.int32)) != seen[0]).any(), "it is the noise that explores"
