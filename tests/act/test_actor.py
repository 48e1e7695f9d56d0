"""The actor: returns, priorities, counts, exploration, seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.act.actor import Actor
from distdqn.algo import exploration
from distdqn.config import ActorsConfig, EnvConfig, ExplorationConfig, NetworkConfig
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import EnvSpec, RolloutStats, Segment, Weights, named_arrays
from tests.configs import agent_config, network_config

Tell = Callable[..., Any]
CATCH = EnvConfig(kind="catch")
NETWORK = network_config(torso="mlp", hidden=(8,), dueling=True)
GREEDY = ExplorationConfig(kind="annealed", epsilon=0.0, final_epsilon=0.0)

PLOTS: list[list[tuple[int, bool, frozenset[int]]]] = [
    [(5, False, frozenset({1, 2})), (3, True, frozenset()), (1, False, frozenset())],
    [(9, True, frozenset({8})), (2, False, frozenset({0}))],
    [(4, True, frozenset({0, 1, 2, 3}))],
]


def weights(spec: EnvSpec, version: int = 0, network: NetworkConfig = NETWORK) -> Weights:
    torch.manual_seed(version)
    return Weights(version, QNetwork(network, spec).arrays())


def story_actor(
    env: Any, monkeypatch: pytest.MonkeyPatch, steps: int, index: int = 0, count: int = 1, **agent: Any
) -> Actor:
    monkeypatch.setattr("distdqn.act.actor.make_env", lambda *_: env)
    actors = ActorsConfig(count=count, envs_per_actor=env.num_slots, rollout_steps=steps)
    return Actor(EnvConfig(), agent_config(network=NETWORK, **agent), actors, index, seed=1, run_id=5)


def catch_actor(seed: int = 0, index: int = 0, count: int = 3, **exploration_: Any) -> Actor:
    agent = agent_config(network=NETWORK, exploration=ExplorationConfig(**exploration_))
    return Actor(CATCH, agent, ActorsConfig(count=count, envs_per_actor=2, rollout_steps=25), index, seed)


def test_returns_are_those_of_whole_games(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tell(PLOTS, 60, frame_skip=4)
    actor = story_actor(env, monkeypatch, steps=10)
    stats = [actor.rollout(weights(env.spec))[1] for _ in range(6)]
    got = [g for s in stats for g in zip(s.slots, s.returns, s.lengths, strict=True)]
    for slot in range(3):
        # lost lives do not end a game, rewards beyond +-1 count in full, and a dummy has no length
        games = [e for e in env.story.episodes[slot] if e.first + len(e.reward) <= 60]
        expected = [(slot, float(e.reward.sum()), 4 * len(e.reward)) for e in games]
        assert len(expected) > 3
        assert [g for g in got if g[0] == slot] == expected
    assert any(abs(r) > 3 for _, r, _ in got)


def test_counts(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tell(PLOTS, 40, frame_skip=4)
    actor = story_actor(env, monkeypatch, steps=10, n_step=3)
    for rollout in range(4):
        segment, stats = actor.rollout(weights(env.spec, version=7))
        played = range(10 * rollout, 10 * rollout + 10)
        steps = sum(env.story.real(slot, k) for slot in range(3) for k in played)
        starts = sum(env.story.real(slot, k - 3) for slot in range(3) for k in played)
        assert steps < 30
        assert (stats.steps, stats.frames, stats.transitions) == (steps, 4 * steps, starts)
        assert (stats.actor, stats.weights_version) == (0, 7)
        assert segment.valid.sum() == starts
        np.testing.assert_array_equal(segment.origin, [[5, 0, slot, 10 * rollout - 3, 7] for slot in range(3)])


@pytest.mark.parametrize("slots", [1, 3])
def test_a_segment_is_the_receivers(tell: Tell, monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    env = tell(PLOTS[:slots], 40)
    actor = story_actor(env, monkeypatch, steps=10)
    segment, _ = actor.rollout(weights(env.spec))
    before = {name: array.copy() for name, array in named_arrays(segment).items()}
    second, _ = actor.rollout(weights(env.spec))
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(segment, name), array, err_msg=name)
        assert getattr(second, name).flags.c_contiguous
        assert getattr(second, name).flags.owndata


@pytest.mark.parametrize(("pixels", "stack"), [(True, 3), (False, 1)])
@pytest.mark.parametrize(("clip", "horizon"), [(True, 3), (False, 1)])
def test_initial_priorities_are_naive_td_errors(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, pixels: bool, stack: int, clip: bool, horizon: int
) -> None:
    env = tell(PLOTS, 48, pixels=pixels, stack=stack)
    story = env.story
    actor = story_actor(env, monkeypatch, steps=8, n_step=horizon, discount=0.9, reward="clip" if clip else "none")
    networks = []
    for version in range(6):
        networks.append(QNetwork(NETWORK, env.spec))
        networks[-1].load_arrays(weights(env.spec, version).arrays)

    def q(k: int, observation: np.ndarray) -> np.ndarray:
        """By the network that acted at step k."""
        with torch.no_grad():
            return networks[k // 8](torch.from_numpy(observation[None]))[0].q[0].numpy()

    compared = 0
    for version in range(6):
        segment, _ = actor.rollout(weights(env.spec, version))
        for slot, t in zip(*np.nonzero(segment.valid), strict=True):
            k = int(segment.origin[slot, 3] + t)
            window = story.window(slot, k, horizon, 0.9, clip)
            value = q(k, window.observation)[env.actions[k][slot]]
            bootstrap = q(k + window.steps, window.bootstrap).max()
            expected = abs(window.returns + window.discount * bootstrap - value)
            assert segment.priority[slot, t] == pytest.approx(expected, abs=1e-4)
            compared += 1
    assert compared > 90
    assert segment.priority.dtype == np.float32


def test_actors_share_one_ladder_and_keep_their_places(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = exploration.ladder(6, 0.4, 7.0)
    actors = [catch_actor(seed=10 + i, index=i) for i in range(3)]
    np.testing.assert_allclose(np.concatenate([a.exploration.epsilons(0) for a in actors]), rungs)
    np.testing.assert_allclose(catch_actor(seed=99, index=1).exploration.epsilons(0), rungs[2:4])
    env = tell(PLOTS, 30)
    actor = story_actor(env, monkeypatch, steps=30, index=1, count=2)
    _, stats = actor.rollout(weights(env.spec))
    whole = exploration.ladder(6)
    assert set(stats.slots) == {0, 1, 2}
    assert stats.epsilons == tuple(float(whole[3 + slot]) for slot in stats.slots)


def test_the_annealed_epsilon_is_that_of_all_agent_steps() -> None:
    actor = catch_actor(kind="annealed", epsilon=1.0, final_epsilon=0.0, anneal_steps=1000)
    zeros = Weights(0, {n: np.zeros_like(a) for n, a in weights(actor.spec).arrays.items()})
    fresh, stats = actor.rollout(zeros, env_steps=0)
    assert set(stats.epsilons) == {1.0}
    assert {0, 1, 2} <= set(fresh.action[fresh.valid.nonzero()].tolist())
    _, stats = actor.rollout(zeros, env_steps=250)
    assert set(stats.epsilons) == {0.75}
    actor.rollout(zeros, env_steps=1000)
    greedy, stats = actor.rollout(zeros, env_steps=10**9)
    assert set(stats.epsilons) == {0.0}
    assert not greedy.action.any(), "all values are equal, and the first of the best is taken"


def test_greedy_actions_are_the_networks(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tell(PLOTS, 40, pixels=False)
    actor = story_actor(env, monkeypatch, steps=20, exploration=GREEDY)
    network = QNetwork(NETWORK, env.spec)
    network.load_arrays(weights(env.spec).arrays)
    actor.rollout(weights(env.spec))
    actor.rollout(weights(env.spec))
    chosen = set()
    for k, actions in enumerate(env.actions):
        for slot in range(3):
            observation = env.story.observation(*env.story.place(slot, k))
            with torch.no_grad():
                q = network(torch.from_numpy(observation[None]))[0].q[0]
            assert q[actions[slot]] > q.max() - 1e-4
            chosen.add(int(actions[slot]))
    assert len(chosen) > 1


def rollouts(actor: Actor) -> tuple[list[Segment], list[RolloutStats]]:
    made = [actor.rollout(weights(actor.spec, v)) for v in range(2)]
    return [s for s, _ in made], [s for _, s in made]


def test_equal_seeds_agree_and_others_differ() -> None:
    (one, stats), (two, _), (three, _), (four, _) = (
        rollouts(catch_actor(seed, index)) for seed, index in ((4, 0), (4, 0), (5, 0), (6, 1))
    )
    for a, b in zip(one, two, strict=True):
        for name, array in named_arrays(a).items():
            np.testing.assert_array_equal(array, getattr(b, name), err_msg=name)
    assert all((one[1].frames != other[1].frames).any() for other in (three, four))
    assert all((one[1].action != other[1].action).any() for other in (three, four))
    assert sum(len(s.returns) for s in stats) == 2 * (50 // 10)
    assert {r for s in stats for r in s.returns} <= {-1.0, 1.0}


def test_a_segment_has_the_shapes_that_types_promise() -> None:
    actor = catch_actor()
    segment, _ = actor.rollout(weights(actor.spec))
    steps = 25 + 3
    shapes = {n: (a.shape, a.dtype.name) for n, a in named_arrays(segment).items()}
    assert shapes == {
        "frames": ((2, steps, 10, 5), "uint8"),
        "action": ((2, steps), "int64"),
        "reward": ((2, steps), "float32"),
        "terminated": ((2, steps), "bool"),
        "last": ((2, steps), "bool"),
        "valid": ((2, 25), "bool"),
        "age": ((2, steps), "int32"),
        "memory": ((2, 1, 0), "float32"),
        "priority": ((2, 25), "float32"),
        "origin": ((2, 5), "int64"),
    }
    assert len(segment) == 2
