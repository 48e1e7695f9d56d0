"""Every kind is built by name, and what cannot be is refused in one line that names the key."""

import subprocess
import sys

import numpy as np
import pytest

from distdqn.config import ConfigError, EnvConfig
from distdqn.envs.registry import check_env, make_env, make_rendered_env

KINDS = ("atari", "gym", "gridworld", "catch", "recall", "chain")


@pytest.mark.parametrize("kind", KINDS)
def test_the_spec_is_what_the_environment_gives(kind):
    config = EnvConfig(kind=kind)
    env = make_env(config, num_slots=3, threads=1, seed=1)
    assert env.spec == check_env(config) and env.num_slots == 3
    for frame in (env.reset(), env.step(np.zeros(3, np.int64)).frame):
        assert frame.shape == (3, *env.spec.frame_shape) and frame.dtype == env.spec.frame_dtype
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_rendered_slot_is_the_single_slot(kind):
    config = EnvConfig(kind=kind)
    env, plain = make_rendered_env(config, seed=9), make_env(config, 1, 1, seed=9)
    assert (env.reset() == plain.reset()).all()
    for action in np.random.default_rng(0).integers(env.spec.num_actions, size=(60, 1)):
        step, expected = env.step(action), plain.step(action)
        for name in ("frame", "reward", "terminated", "last"):
            assert (getattr(step, name) == getattr(expected, name)).all()
        picture = env.render()
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    env.close()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"game": "pnog"}, ["env.game=pnog", "pong"]),
        ({"game": "SpaceInvaders"}, ["env.game=SpaceInvaders", "space_invaders"]),
        ({"game": "joust"}, ["env.game=joust", "snake_case"]),
        ({"kind": "gym", "id": "CartPoel-v1"}, ["env.id=CartPoel-v1", "CartPole-v1"]),
        ({"kind": "gym", "id": "no_such_module:X-v0"}, ["env.id=no_such_module:X-v0", "no_such_module"]),
        ({"kind": "gym", "id": "Pendulum-v1"}, ["env.id=Pendulum-v1", "discrete action space", "Box"]),
        ({"kind": "gym", "id": "Blackjack-v1"}, ["env.id=Blackjack-v1", "observations", "Tuple"]),
        ({"kind": "gym", "kwargs": {"length": 3}}, ["env.kwargs", "CartPole-v1", "length"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(keys, words):
    with pytest.raises(ConfigError) as caught:
        check_env(EnvConfig(**keys))
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    with pytest.raises(ConfigError):
        make_env(EnvConfig(**keys), 1, 1, seed=0)


def test_keys_of_other_kinds_are_ignored():
    assert check_env(EnvConfig(kind="catch", game="pnog", id="nope")).name == "catch"
    assert check_env(EnvConfig(kind="gym", game="pnog", size=7)).name == "gym/CartPole-v1"
    assert check_env(EnvConfig(kind="gridworld", id="nope", size=3)).frame_shape == (9,)
    assert check_env(EnvConfig(kind="recall", size=3, length=7)).name == "recall/7"
    assert check_env(EnvConfig(kind="chain", game="pnog", length=7)).frame_shape == (7,)


def test_the_emulator_prints_nothing_and_numpy_kinds_do_not_load_it():
    code = (
        "import sys; from distdqn.config import EnvConfig; from distdqn.envs.registry import *\n"
        "for kind in ('catch', 'gridworld', 'recall', 'chain'):\n"
        "    make_env(EnvConfig(kind=kind, flicker=0.5), 1, 1, 0)\n"
        "assert 'gymnasium' not in sys.modules and 'ale_py' not in sys.modules\n"
        "check_env(EnvConfig()); env = make_rendered_env(EnvConfig(), 1); env.reset(); env.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
