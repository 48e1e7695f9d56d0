"""What is hidden is hidden, what flickers flickers, and all else is as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.config import ConfigError, EnvConfig
from distdqn.envs.partial import PartialEnv
from distdqn.envs.registry import check_env, make_env, make_rendered_env

CARTPOLE = {"kind": "gym", "id": "CartPole-v1"}
KINDS = ({}, CARTPOLE, {"kind": "gridworld"}, {"kind": "catch"}, {"kind": "recall"}, {"kind": "chain"})
names = [k.get("kind", "atari") for k in KINDS]


def stream(config, slots=2, steps=40, seed=5):
    """Frames [steps + 1, N, ...], rewards, terminated and last [steps, N] of random play."""
    env = make_env(config, slots, threads=1, seed=seed)
    rng = np.random.default_rng(seed)
    frames = [env.reset()]
    rest = []
    for _ in range(steps):
        step = env.step(rng.integers(env.spec.num_actions, size=slots))
        frames.append(step.frame)
        rest.append((step.reward, step.terminated, step.last))
    env.close()
    return np.stack(frames), *(np.stack(x) for x in zip(*rest, strict=True))


def test_cartpole_without_its_velocities():
    hidden = EnvConfig(**CARTPOLE, hide=(1, 3))
    assert check_env(hidden).frame_shape == check_env(hidden).observation_shape == (2,)
    assert check_env(hidden) == make_env(hidden, 2, 1, seed=0).spec
    frames, *rest = stream(hidden)
    full, *full_rest = stream(EnvConfig(**CARTPOLE))
    assert frames.dtype == np.float32 and (frames == full[:, :, [0, 2]]).all()
    assert (full[:, :, [1, 3]] != 0).any()
    assert all((a == b).all() for a, b in zip(rest, full_rest, strict=True))


@given(length=st.integers(2, 9), data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_left_keeps_its_order(length, data):
    indices = st.lists(st.integers(0, length - 1), max_size=length + 2)
    hide = data.draw(indices.filter(lambda h: len(set(h)) < length))
    seen = [i for i in range(length) if i not in hide]
    frames, *_ = stream(EnvConfig(kind="chain", length=length, hide=tuple(hide)), steps=20)
    full, *_ = stream(EnvConfig(kind="chain", length=length), steps=20)
    assert frames.shape[-1] == len(seen) and (frames == full[..., seen]).all()


@pytest.mark.parametrize("keys", KINDS, ids=names)
def test_a_flickering_frame_is_blank_or_whole_and_nothing_else_changes(keys):
    plain, shown = EnvConfig(**keys), EnvConfig(**keys, flicker=0.5)
    assert check_env(shown) == check_env(plain)
    full, *full_rest = stream(plain)
    frames, *rest = stream(shown)
    assert frames.dtype == full.dtype
    pixels = tuple(range(2, full.ndim))
    blank, empty = ~frames.any(axis=pixels), ~full.any(axis=pixels)  # Recall's corridor is empty anyway
    assert (frames[~blank] == full[~blank]).all() and 0.2 < blank[~empty].mean() < 0.8
    assert all((a == b).all() for a, b in zip(rest, full_rest, strict=True)), "rewards, ends and dummies"
    again, *_ = stream(shown)
    assert (again == frames).all()


def test_pong_flickers_independently_in_half_of_its_frames():
    slots, steps = 8, 30
    frames, *_ = stream(EnvConfig(flicker=0.5), slots, steps)
    assert frames.dtype == np.uint8 and frames.shape == (steps + 1, slots, 84, 84)
    blank = ~frames.any(axis=(2, 3))
    deviation = np.sqrt(0.25 / blank.size)
    assert abs(blank.mean() - 0.5) < 5 * deviation
    assert 0 < blank[0].sum() < slots, "the first frame flickers, too"
    both_in_time, both_slots = blank[1:] & blank[:-1], blank[:, 1:] & blank[:, :-1]
    for both in (both_in_time, both_slots):
        assert abs(both.mean() - 0.5 * 0.5) < 5 * deviation


def test_a_dummy_flickers_and_stays_a_dummy():
    env = make_env(EnvConfig(kind="recall", length=2, flicker=0.5), 4000, 1, seed=0)
    blank = [~env.reset().any(axis=1)]
    for t in range(1, 10):
        step = env.step(np.zeros(4000, int))
        blank.append(~step.frame.any(axis=1))
        assert step.last.all() == step.last.any() == (t in (4, 9))
        assert bool(step.reward.any()) == (t in (4, 9))
    for t in (0, 3, 5, 8):  # cue, question, cue, question: all other frames are zero anyway
        assert abs(blank[t].mean() - 0.5) < 5 * np.sqrt(0.25 / 4000)
    assert blank[0].tolist() != blank[3].tolist() != blank[5].tolist()


@pytest.mark.parametrize(("flicker", "share"), [(1.0, 1.0), (0.1, 0.1)])
def test_the_limits(flicker, share):
    frames, *_ = stream(EnvConfig(kind="chain", flicker=flicker), slots=50, steps=200)
    assert abs((frames.sum(axis=2) == 0).mean() - share) < 5 * np.sqrt(share * (1 - share) / 10_000) + 1e-9


def test_the_seed_decides_what_flickers():
    config = EnvConfig(kind="chain", flicker=0.5)  # the chain itself is the same for every seed
    blank = [stream(config, seed=seed)[0].sum(axis=2) == 0 for seed in (1, 1, 2)]
    assert (blank[0] == blank[1]).all() and (blank[0] != blank[2]).any()


def test_both_at_once():
    frames, *_ = stream(EnvConfig(**CARTPOLE, hide=(1, 3), flicker=0.5))
    full, *_ = stream(EnvConfig(**CARTPOLE))
    blank = ~frames.any(axis=2)
    assert 0.3 < blank.mean() < 0.7 and (frames[~blank] == full[~blank][:, [0, 2]]).all()


@pytest.mark.parametrize("keys", KINDS, ids=names)
def test_nothing_is_wrapped_where_nothing_is_withheld(keys):
    config = EnvConfig(**keys)
    for env in (make_env(config, 1, 1, seed=0), make_rendered_env(config, seed=0)):
        assert not isinstance(env, PartialEnv)
        env.close()


@pytest.mark.parametrize("keys", KINDS, ids=names)
def test_the_picture_does_not_flicker(keys):
    shown = make_rendered_env(EnvConfig(**keys, flicker=1.0), seed=3)
    plain = make_rendered_env(EnvConfig(**keys), seed=3)
    assert not shown.reset().any() and plain.reset().any()
    for _ in range(12):
        assert (shown.render() == plain.render()).all() and plain.render().any()
        frame = shown.step(np.zeros(1, int)).frame
        plain.step(np.zeros(1, int))
        assert not frame.any()
    shown.close()
    plain.close()


def test_the_rendered_slot_is_the_single_slot():
    config = EnvConfig(**CARTPOLE, hide=(0,), flicker=0.3)
    env, plain = make_rendered_env(config, seed=9), make_env(config, 1, 1, seed=9)
    assert env.spec == plain.spec and (env.reset() == plain.reset()).all()
    for action in np.random.default_rng(0).integers(2, size=(60, 1)):
        assert (env.step(action).frame == plain.step(action).frame).all()


def test_frames_of_the_environment_are_not_written_to():
    """The wrapper blanks its own copy: an environment may hand out what it keeps."""
    env = make_env(EnvConfig(kind="chain", flicker=1.0), 2, 1, seed=0)
    assert isinstance(env, PartialEnv)
    kept = np.ones((2, 15), np.float32)
    assert not env._show(kept).any() and kept.all()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hide": (0,)}, ["atari/pong", "images"]),
        ({"kind": "catch", "hide": (3,)}, ["catch", "images"]),
        ({**CARTPOLE, "hide": (1, 4)}, ["from 0 to 3", "gym/CartPole-v1"]),
        ({**CARTPOLE, "hide": (-1,)}, ["from 0 to 3"]),
        ({**CARTPOLE, "hide": (0, 1, 2, 3)}, ["fewer than all 4", "gym/CartPole-v1"]),
        ({"kind": "gridworld", "size": 2, "hide": (4,)}, ["from 0 to 3", "gridworld/2x2"]),
    ],
)
def test_what_cannot_be_hidden_is_refused(keys, words):
    config = EnvConfig(**keys)
    for attempt in (check_env, lambda c: make_env(c, 1, 1, 0), lambda c: make_rendered_env(c, 0)):
        with pytest.raises(ConfigError) as caught:
            attempt(config)
        message = str(caught.value)
        assert message.startswith(f"env.hide={config.hide}: must be ") and "\n" not in message
        assert all(word in message for word in words), message
