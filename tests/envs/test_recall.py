"""Recall against its rules, and its bounds against policies that are played out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.config import EnvConfig
from distdqn.envs import recall
from distdqn.envs.recall import CUES, QUESTION, RecallEnv
from tests.envs import theory


def config(length: int = 3) -> EnvConfig:
    return EnvConfig(kind="recall", length=length)


def play(length, act, episodes=400, seed=0):
    """Returns of one episode of many slots; `act` sees the frames so far, [t + 1, N, 5]."""
    env = RecallEnv(config(length), episodes, threads=1, seed=seed)
    seen, total = [env.reset()], np.zeros(episodes)
    for _ in range(length + 2):
        step = env.step(act(np.stack(seen)))
        seen.append(step.frame)
        total += step.reward
    assert step.last.all()
    return total


@pytest.mark.parametrize("length", [2, 5])
def test_an_episode_step_by_step(length):
    env = RecallEnv(config(length), num_slots=300, threads=1, seed=0)
    frame = env.reset()
    for _ in range(3):
        assert frame.shape == (300, CUES + 1) and frame.dtype == env.spec.frame_dtype == "float32"
        cue = frame[:, :CUES].argmax(axis=1)
        assert (frame.sum(axis=1) == 1).all() and set(cue.tolist()) == {0, 1, 2, 3}
        for _ in range(length):
            step = env.step(cue)
            assert not step.frame.any(), "the corridor looks the same after every cue"
            assert not (step.reward.any() or step.terminated.any() or step.last.any())
        step = env.step((cue + 1) % CUES)
        assert (step.frame == np.eye(CUES + 1)[QUESTION]).all() and not step.reward.any()
        right = np.arange(300) % 2 == 0
        step = env.step(np.where(right, cue, (cue + 1) % CUES))
        assert (step.reward == np.where(right, 1, -1)).all() and step.reward.dtype == np.float32
        assert step.terminated.all() and step.last.all() and not step.frame.any()
        step.last[:] = step.terminated[:] = False  # the caller's to write to
        step = env.step(cue)  # the dummy
        assert not (step.reward.any() or step.terminated.any() or step.last.any())
        frame = step.frame
    assert (env.reset()[:, :CUES].sum(axis=1) == 1).all()


def test_bounds_by_hand():
    assert theory.recall_memoryless_return(config()) == 1 / 4 * 1 + 3 / 4 * -1
    assert theory.recall_optimal_return(config()) == 1


def test_the_bounds_look_at_what_is_seen(monkeypatch):
    """Were the question of cue 0 to look different, one more cue in four would be answered."""
    frames = recall.observations(config())
    frames[0, -1, 0] = 1
    monkeypatch.setattr(recall, "observations", lambda _: frames)
    assert theory.recall_memoryless_return(config()) == 1 / 4 + (1 / 4 - 2 / 4)


def test_no_memoryless_policy_beats_the_bound_and_one_attains_it():
    """All 4^6 deterministic ones, and random stochastic ones, over the exact distribution of episodes."""
    frames = recall.observations(config(4)).reshape(CUES, -1, CUES + 1)
    sights = np.unique(frames.reshape(-1, CUES + 1), axis=0).tolist()
    assert len(sights) == CUES + 2  # four cues, the corridor, the question
    question = sights.index(frames[0, -1].tolist())
    every = np.array(list(itertools.product(range(CUES), repeat=len(sights))))
    stochastic = np.random.default_rng(0).dirichlet(np.full(CUES, 0.3), size=(2000, len(sights)))
    chances = np.concatenate([np.eye(CUES)[every], stochastic])[:, question]  # [policies, answers]
    reward = np.where(np.arange(CUES)[:, None] == np.arange(CUES), 1.0, -1.0)
    returns = (chances @ reward.T).mean(axis=1)
    assert returns.max() == pytest.approx(theory.recall_memoryless_return(config(4)))
    assert theory.recall_optimal_return(config(4)) == reward.max(axis=1).mean()


@given(length=st.integers(2, 12), answer=st.integers(0, CUES - 1))
@settings(max_examples=15, deadline=None)
def test_playing_attains_the_bounds(length, answer):
    remember = play(length, lambda seen: seen[0, :, :CUES].argmax(axis=1))
    assert (remember == theory.recall_optimal_return(config(length))).all()
    guess = play(length, lambda seen: np.full(seen.shape[1], answer), episodes=20_000)
    error = guess.std() / np.sqrt(len(guess))
    assert abs(guess.mean() - theory.recall_memoryless_return(config(length))) < 5 * error


def test_slots_are_independent_and_the_seed_decides():
    streams = []
    for seed in (1, 1, 2):
        env = RecallEnv(config(), 50, 1, seed)
        streams.append(np.stack([env.reset(), *(env.step(np.zeros(50, int)).frame for _ in range(12))]))
    assert (streams[0] == streams[1]).all() and (streams[0] != streams[2]).any()
    assert (streams[0][0] != streams[0][6]).any(), "the next episode has its own cues"


def test_handed_out_arrays_stay_as_they_are():
    env = RecallEnv(config(2), 8, 1, seed=0)
    steps = [env.reset()]
    copies = [steps[0].copy()]
    for _ in range(9):
        step = env.step(np.zeros(8, int))
        steps += [step.frame, step.reward, step.terminated, step.last]
        copies += [x.copy() for x in steps[-4:]]
    assert all((a == b).all() for a, b in zip(steps, copies, strict=True))


def test_actions_out_of_range_are_refused():
    env = RecallEnv(config(), 1, 1, seed=0)
    env.reset()
    with pytest.raises(ValueError, match="from 0 to 3"):
        env.step(np.array([4]))


def test_render_shows_where_the_agent_is_and_the_cue_at_the_end():
    env = RecallEnv(config(3), 1, 1, seed=0)
    colour = recall.COLOURS[int(env.reset()[0, :CUES].argmax())]
    for place in (0, 1, 2, 3, 4, 4):
        picture = env.render()
        assert picture.shape == (40, 200, 3) and picture.dtype == np.uint8
        cells = picture[20, 20::40].tolist()
        assert [i for i, cell in enumerate(cells) if cell == [255] * 3] == [place]
        assert place == 4 or cells[4] == list(colour)
        env.step(np.array([0]))
