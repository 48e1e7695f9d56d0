"""The gridworld's dynamics, and its optimal values against hand arithmetic and an independent solution."""

import numpy as np
import pytest

from distdqn.config import EnvConfig
from distdqn.envs import gridworld
from distdqn.envs.gridworld import GridworldEnv
from tests.envs import theory

UP, RIGHT, DOWN, LEFT = range(4)


def config(size: int = 5, slip: float = 0.1) -> EnvConfig:
    return EnvConfig(kind="gridworld", size=size, slip=slip)


def test_optimal_q_of_the_smallest_grid_by_hand():
    # Cells: 0 start, 1 pit, 2 start, 3 goal. From 0 the way is down (-0.01), then right (+1).
    q = theory.gridworld_optimal_q(config(size=2, slip=0.0), discount=0.9)
    v2 = 1.0
    v0 = -0.01 + 0.9 * v2
    np.testing.assert_allclose(q[0], [-0.01 + 0.9 * v0, -1.0, v0, -0.01 + 0.9 * v0])
    np.testing.assert_allclose(q[2], [-0.01 + 0.9 * v0, 1.0, -0.01 + 0.9 * v2, -0.01 + 0.9 * v2])
    assert not q[[1, 3]].any()


@pytest.mark.parametrize(("size", "slip", "discount"), [(2, 0.5, 0.9), (5, 0.1, 0.99), (6, 0.3, 1.0)])
def test_optimal_q_solves_the_linear_system_of_its_greedy_policy(size, slip, discount):
    """Transition probabilities written cell by cell; the greedy policy's values by a linear solve."""
    states = size * size
    goal, pit = (size - 1, size - 1), (size - 2, size - 1)
    probability = np.zeros((states, 4, states))
    reward = np.zeros((states, 4))
    for row in range(size):
        for column in range(size):
            if (row, column) in (goal, pit):
                continue
            for action in range(4):
                for direction, (dr, dc) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
                    p = slip / 4 + (1 - slip) * (direction == action)
                    to = (min(max(row + dr, 0), size - 1), min(max(column + dc, 0), size - 1))
                    reward[row * size + column, action] += p * {goal: 1.0, pit: -1.0}.get(to, -0.01)
                    probability[row * size + column, action, to[0] * size + to[1]] += p
    terminal = [goal[0] * size + goal[1], pit[0] * size + pit[1]]
    probability[:, :, terminal] = 0.0  # nothing follows

    q = theory.gridworld_optimal_q(config(size, slip), discount)
    policy, rows = q.argmax(axis=1), np.arange(states)
    v = np.linalg.solve(np.eye(states) - discount * probability[rows, policy], reward[rows, policy])
    expected = reward + discount * probability @ v
    np.testing.assert_allclose(q, expected, atol=1e-10)
    np.testing.assert_allclose(v, expected.max(axis=1), atol=1e-10)
    assert np.flatnonzero(~gridworld.nonterminal(config(size))).tolist() == sorted(terminal)


def test_walls_goal_pit_and_the_dummy():
    env = GridworldEnv(config(size=2, slip=0.0), num_slots=200, threads=1, seed=0)
    frame = env.reset()
    assert frame.dtype == np.float32 and frame.shape == (200, 4)
    start = frame.argmax(axis=1)
    assert set(start.tolist()) == {0, 2}
    step = env.step(np.full(200, LEFT))
    assert (step.frame == frame).all() and (step.reward == np.float32(-0.01)).all() and not step.last.any()
    step = env.step(np.full(200, RIGHT))
    assert (step.frame.argmax(axis=1) == start + 1).all(), "the final observation is the cell entered"
    assert (step.reward == np.where(start == 2, 1, -1)).all()
    assert step.terminated.all() and step.last.all()
    step = env.step(np.full(200, RIGHT))
    assert not step.reward.any() and not step.terminated.any() and not step.last.any()
    assert set(step.frame.argmax(axis=1).tolist()) == {0, 2}


def test_an_episode_of_100_steps_is_truncated():
    env = GridworldEnv(config(slip=0.0), num_slots=2, threads=1, seed=0)
    env.reset()
    for _ in range(2):
        steps = [env.step(np.full(2, UP)) for _ in range(100)]
        assert [bool(s.last.any()) for s in steps] == [False] * 99 + [True]
        assert steps[-1].last.all() and not steps[-1].terminated.any()
        assert not env.step(np.full(2, UP)).last.any()


def test_slip_goes_in_each_direction_equally():
    env = GridworldEnv(config(size=9, slip=0.4), num_slots=100_000, threads=1, seed=0)
    before = env.reset().argmax(axis=1)
    after = env.step(np.full(100_000, UP)).frame.argmax(axis=1)
    inner = np.isin(before // 9, range(1, 8)) & np.isin(before % 9, range(1, 8))
    share = [np.mean((after - before)[inner] == move) for move in (-9, 1, 9, -1)]
    np.testing.assert_allclose(share, [0.6 + 0.4 / 4, 0.4 / 4, 0.4 / 4, 0.4 / 4], atol=0.01)


def test_every_state_is_started_in_and_the_seed_decides():
    frames = [GridworldEnv(config(), 1000, 1, seed).reset() for seed in (1, 1, 2)]
    assert (frames[0] == frames[1]).all() and (frames[0] != frames[2]).any()
    assert set(frames[0].argmax(axis=1)) == set(np.flatnonzero(gridworld.nonterminal(config())))
    assert (gridworld.observations(config())[frames[0].argmax(axis=1)] == frames[0]).all()


def test_render_shows_agent_goal_and_pit():
    env = GridworldEnv(config(size=4), 1, 1, seed=0)
    state = int(env.reset()[0].argmax())
    cells = env.render()[25::50, 25::50].reshape(16, 3)  # 200 / 4 = 50 pixels a cell
    assert env.render().shape == (200, 200, 3)
    assert cells[state].tolist() == [255] * 3
    assert cells[15].tolist() == [0, 160, 0] and cells[11].tolist() == [160, 0, 0]
