"""The chain against its rules, and its exact returns against hand arithmetic, enumeration and play."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.config import EnvConfig
from distdqn.envs import chain
from distdqn.envs.chain import ChainEnv
from tests.envs import theory


def config(length: int = 15) -> EnvConfig:
    return EnvConfig(kind="chain", length=length)


def walk(n: int, directions) -> tuple[float, bool]:
    """Return of one walk by the rules, written out, and whether it saw the far end."""
    state, total, reached = 1, 0.0, False
    for right in directions:
        state = min(state + 1, n - 1) if right else max(state - 1, 0)
        total += 0.001 * (state == 0) + 1.0 * (state == n - 1)
        reached |= state == n - 1
    return total, reached


def test_optimal_return_by_hand():
    # N - 2 moves to the far end, the last of which is rewarded, then a reward in each step that is left.
    assert theory.chain_optimal_return(config(15)) == (15 + 9) - (15 - 2) + 1
    assert theory.chain_optimal_return(config(100)) == (100 + 9) - (100 - 2) + 1
    assert theory.chain_random_return(config(20), right=1.0) == theory.chain_optimal_return(config(20))
    assert theory.chain_random_return(config(20), right=0.0) == pytest.approx(0.001 * 29)


@pytest.mark.parametrize("right", [0.5, 0.2])
def test_exact_values_against_all_walks_of_a_short_chain(right):
    n = 3
    returns, chances, reached = [], [], []
    for directions in itertools.product((0, 1), repeat=n + 9):
        total, saw = walk(n, directions)
        returns.append(total)
        reached.append(saw)
        chances.append(right ** sum(directions) * (1 - right) ** (n + 9 - sum(directions)))
    assert theory.chain_optimal_return(config(n)) == pytest.approx(max(returns))
    assert theory.chain_random_return(config(n), right) == pytest.approx(np.dot(chances, returns))
    assert theory.chain_reach_probability(config(n), right) == pytest.approx(np.dot(chances, reached))


@pytest.mark.parametrize(
    ("length", "right", "probability"),
    [
        (10, 0.5, "7.5e-02"),
        (15, 0.5, "7.5e-03"),
        (30, 0.5, "2.6e-06"),
        (15, 0.4 / 2, "1.5e-08"),
        (15, 0.1 / 2, "3.2e-17"),
    ],
)
def test_the_probabilities_of_the_docstring(length, right, probability):
    assert f"{theory.chain_reach_probability(config(length), right):.1e}" == probability


@given(length=st.integers(2, 12), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_environment_walks_as_the_rules_say(length, seed):
    """Three episodes of random actions, each state's action decoded by `right_action`."""
    env, rng = ChainEnv(config(length), num_slots=4, threads=1, seed=seed), np.random.default_rng(seed)
    right_action = chain.right_action(config(length))
    frame = env.reset()
    for _ in range(3):
        directions, total = [], np.zeros(4)
        for t in range(length + 9):
            state = frame.sum(axis=1).astype(int) - 1
            assert (frame == (np.arange(length) <= state[:, None])).all() and frame.dtype == np.float32
            assert t > 0 or (state == 1).all()
            action = rng.integers(2, size=4)
            directions.append(action == right_action[state])
            step = env.step(action)
            frame, total = step.frame, total + step.reward
            assert not step.terminated.any() and step.last.all() == step.last.any() == (t == length + 8)
        expected = [walk(length, d)[0] for d in np.stack(directions, axis=1)]
        np.testing.assert_allclose(total, expected, rtol=1e-6)
        step = env.step(rng.integers(2, size=4))  # the dummy
        frame = step.frame
        assert not (step.reward.any() or step.terminated.any() or step.last.any())


def test_play_attains_the_exact_returns():
    slots, right_action = 20_000, chain.right_action(config(8))
    rng = np.random.default_rng(0)
    for right in (1.0, 0.5, 0.0):
        env = ChainEnv(config(8), slots, 1, seed=0)
        frame, total = env.reset(), np.zeros(slots)
        for _ in range(chain.step_limit(config(8))):
            go_right = rng.random(slots) < right
            wanted = right_action[frame.sum(axis=1).astype(int) - 1]
            step = env.step(np.where(go_right, wanted, 1 - wanted))
            frame, total = step.frame, total + step.reward
        tolerance = 5 * total.std() / np.sqrt(slots) + 1e-6
        assert abs(total.mean() - theory.chain_random_return(config(8), right)) < tolerance


def test_the_right_action_differs_by_state_and_not_by_seed():
    assert set(chain.right_action(config(15)).tolist()) == {0, 1}
    assert (chain.right_action(config(15)) == chain.right_action(config(15))).all()
    streams = []
    for seed in (1, 2):
        env = ChainEnv(config(), 3, 1, seed)
        env.reset()
        streams.append([env.step(np.array([0, 1, t % 2])).frame for t in range(30)])
    assert np.array_equal(*streams)


def test_a_reset_starts_again_and_handed_out_arrays_stay_as_they_are():
    env = ChainEnv(config(2), 2, 1, seed=0)
    first = env.reset()
    kept = first.copy()
    steps = [env.step(np.zeros(2, int)) for _ in range(11)]
    copies = [(s.frame.copy(), s.reward.copy(), s.last.copy()) for s in steps]
    assert steps[-1].last.all()
    steps[-1].last[:] = False  # the caller's to write to
    assert not env.step(np.zeros(2, int)).reward.any(), "still a dummy"
    steps[-1].last[:] = True
    env.step(np.zeros(2, int))
    assert all(
        (s.frame == f).all() and (s.reward == r).all() and (s.last == e).all()
        for s, (f, r, e) in zip(steps, copies, strict=True)
    )
    assert (env.reset() == kept).all() and (first == kept).all()
    assert [env.step(np.zeros(2, int)).last.any() for _ in range(11)] == [False] * 10 + [True]


def test_actions_out_of_range_are_refused():
    env = ChainEnv(config(), 1, 1, seed=0)
    env.reset()
    with pytest.raises(ValueError, match="from 0 to 1"):
        env.step(np.array([2]))


def test_render_shows_the_agent_and_the_far_end():
    env = ChainEnv(config(4), 1, 1, seed=0)
    env.reset()
    right_action = chain.right_action(config(4))
    for place in (1, 2, 3):
        cells = env.render()[25, 25::50].tolist()
        assert env.render().shape == (50, 200, 3)
        assert [i for i, cell in enumerate(cells) if cell == [255] * 3] == [place]
        assert place == 3 or cells[3] == [0, 160, 0]
        env.step(right_action[[place]])
