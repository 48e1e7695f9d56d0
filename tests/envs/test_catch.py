"""Catch against its rules."""

import numpy as np
import pytest

from distdqn.config import EnvConfig
from distdqn.envs.catch import CatchEnv

CONFIG = EnvConfig(kind="catch", frame_size=84)


def ball_and_paddle(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the ball in the rows above the last, and of the paddle, int [N] each."""
    return frame[:, :-1].max(axis=1).argmax(axis=1), frame[:, -1].argmax(axis=1)


def test_first_frame():
    env = CatchEnv(CONFIG, num_slots=200, threads=1, seed=0)
    frame = env.reset()
    assert frame.shape == (200, 10, 5) and frame.dtype == np.uint8 and env.spec.stack == 1
    assert set(np.unique(frame)) == {0, 255}
    assert (frame[:, 0].sum(axis=1) == 255).all() and (frame[:, 1:-1] == 0).all()
    ball, paddle = ball_and_paddle(frame)
    assert (paddle == 2).all() and set(ball.tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("follow", "reward"), [(1, 1.0), (-1, -1.0)])
def test_following_the_ball_catches_it_and_fleeing_misses(follow, reward):
    env = CatchEnv(CONFIG, num_slots=50, threads=1, seed=1)
    frame = env.reset()
    for game in range(3):
        ball, _ = ball_and_paddle(frame)
        for row in range(1, 10):
            _, paddle = ball_and_paddle(frame)
            towards = np.sign(ball - paddle) if follow == 1 else np.where(ball >= 2, -1, 1)
            step = env.step(1 + towards)
            frame = step.frame
            assert (frame[np.arange(50), row, ball] == 255).all()
            assert step.last.all() == step.terminated.all() == (row == 9)
            assert (step.reward == (reward if row == 9 else 0)).all(), (game, row)
        step = env.step(np.full(50, 2))
        frame = step.frame
        assert not step.last.any() and not step.reward.any()
        assert (ball_and_paddle(frame)[1] == 2).all() and (frame[:, 0].sum(axis=1) == 255).all()


def test_walls_and_actions():
    env = CatchEnv(CONFIG, num_slots=3, threads=1, seed=0)
    env.reset()
    for expected in ([1, 2, 3], [0, 2, 4], [0, 2, 4]):
        assert ball_and_paddle(env.step(np.array([0, 1, 2])).frame)[1].tolist() == expected
    with pytest.raises(ValueError, match="from 0 to 2"):
        env.step(np.array([0, 1, 3]))


def test_the_seed_decides():
    frames = [CatchEnv(CONFIG, 20, 1, seed).reset() for seed in (1, 1, 2)]
    assert (frames[0] == frames[1]).all() and (frames[0] != frames[2]).any()


def test_render():
    env = CatchEnv(CONFIG, 1, 1, seed=0)
    frame = env.reset()[0]
    assert env.render().shape == (200, 100, 3)
    assert (env.render()[10::20, 10::20, 0] == frame).all()
