"""Observation and action spaces of all supported kinds, and autoreset, against environments that count."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from distdqn.config import ConfigError, EnvConfig
from distdqn.envs.gym import GymEnv, RenderedGymEnv, bars


class Counter(gymnasium.Env):
    """Observes its step number in the form of `observation_space`; ends after `length` steps."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, observation_space, action_space=None, length=3, render_mode=None):
        self.observation_space = observation_space
        self.action_space = action_space or Discrete(2)
        self.length, self.render_mode = length, render_mode

    def _observe(self):
        space = self.observation_space
        if isinstance(space, Discrete):
            return int(space.start) + self.count
        return np.full(space.shape, self.count, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        return self._observe(), float(action), self.count == self.length, False, {}

    def render(self):
        return np.full((6, 8, 3), self.count, np.uint8)


gymnasium.register("distdqn-test/Counter-v0", entry_point=Counter)


def counter(num_slots=1, frame_size=None, grayscale=False, **kwargs) -> GymEnv:
    config = EnvConfig(kind="gym", id="distdqn-test/Counter-v0", frame_size=frame_size, kwargs=kwargs)
    return GymEnv(replace(config, grayscale=grayscale), num_slots, threads=1, seed=0)


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (Box(-9, 9, (3,), np.float64), (3,), np.float32),
        (Box(-9, 9, (2, 3), np.float32), (6,), np.float32),
        (Box(-9, 9, (), np.float32), (1,), np.float32),
        (Box(0, 255, (4,), np.uint8), (4,), np.float32),
        (Box(0, 255, (6, 8), np.uint8), (6, 8), np.uint8),
        (Box(0, 255, (6, 8, 1), np.uint8), (6, 8), np.uint8),
        (Box(0, 255, (6, 8, 3), np.uint8), (6, 8, 3), np.uint8),
        (Box(0, 255, (8, 8, 7), np.uint8), (8, 8, 7), np.uint8),
        (Box(0, 1, (6, 8), np.bool_), (6, 8), np.bool_),
        (Box(0, 1, (6, 8, 1), np.bool_), (6, 8), np.bool_),
        (Box(0, 1, (10, 10, 10), np.bool_), (10, 10, 10), np.bool_),
        (Box(0, 1, (4,), np.bool_), (4,), np.float32),
        (Box(0, 255, (4, 84, 84), np.uint8), (4 * 84 * 84,), np.float32),  # channels first: no image of 4 x 84
    ],
)
def test_boxes_become_frames(space, shape, dtype):
    env = counter(2, observation_space=space)
    env.reset()
    frame = env.step(np.zeros(2, np.int64)).frame
    assert env.spec.frame_shape == shape and env.spec.stack == (4 if len(shape) > 1 else 1)
    assert frame.dtype == dtype and frame.shape == (2, *shape)
    assert (frame == 1).all()


def test_discrete_observations_become_one_hot_from_their_start():
    env = counter(observation_space=Discrete(4, start=5))
    assert env.reset().tolist() == [[1, 0, 0, 0]]
    assert env.step(np.array([0])).frame.tolist() == [[0, 1, 0, 0]]


def test_images_are_resized_by_area_and_grey():
    env = counter(observation_space=Box(0, 255, (20, 40, 3), np.uint8), frame_size=10, grayscale=True)
    assert env.spec.observation_shape == (4, 10, 10)
    image = np.zeros((20, 40, 3), np.uint8)
    image[0, :2] = (255, 0, 0)
    frame = env._encode(image)
    # The first pixel covers 2 x 4 pixels, of which 2 are red: luma round(0.299 * 255) = 76.
    assert frame[0, 0] == 76 * 2 / 8 and frame.sum() == frame[0, 0]


def test_colours_are_resized_apart():
    env = counter(observation_space=Box(0, 255, (20, 40, 3), np.uint8), frame_size=10)
    assert env.spec.frame_shape == (10, 10, 3) and env.spec.observation_shape == (12, 10, 10)
    image = np.zeros((20, 40, 3), np.uint8)
    image[0, :2, 0], image[0, 0, 2] = 200, 160
    assert env._encode(image)[0, 0].tolist() == [200 * 2 / 8, 0, 160 / 8]


@pytest.mark.parametrize(
    ("space", "keys", "message"),
    [
        (Box(0, 1, (10, 10, 4), np.bool_), {"frame_size": 84}, r"^env\.frame_size=84: must be null, .*bool"),
        (Box(0, 1, (10, 10, 4), np.bool_), {"grayscale": True}, r"^env\.grayscale=True: must be false, .*no colours"),
        (Box(0, 255, (10, 10, 5), np.uint8), {"grayscale": True}, r"^env\.grayscale=True: must be false, .*no colours"),
    ],
)
def test_what_cannot_be_done_to_an_image_is_one_line(space, keys, message):
    with pytest.raises(ConfigError, match=message) as error:
        counter(observation_space=space, **keys)
    assert "\n" not in str(error.value)
    counter(observation_space=space, frame_size=10)  # its own size


def test_action_zero_is_the_first_of_the_space():
    env = counter(observation_space=Discrete(9), action_space=Discrete(3, start=-1))
    env.reset()
    assert env.spec.num_actions == 3
    assert [env.step(np.array([a])).reward[0] for a in (0, 1)] == [-1.0, 0.0]
    with pytest.raises(ValueError, match="from 0 to 2"):
        env.step(np.array([3]))


def test_the_step_after_the_end_is_a_dummy():
    env = counter(observation_space=Box(-9, 9, (1,), np.float32), length=2)
    env.reset()
    seen = []
    for _ in range(4):
        step = env.step(np.array([1]))
        seen.append((step.frame[0, 0], step.reward[0], step.terminated[0], step.last[0]))
    assert seen == [(1, 1, False, False), (2, 1, True, True), (0, 0, False, False), (1, 1, False, False)]


def test_a_time_limit_is_last_without_terminated():
    env = counter(observation_space=Box(-9, 9, (1,), np.float32), length=99, max_episode_steps=3)
    env.reset()
    steps = [env.step(np.array([0])) for _ in range(4)]
    assert [bool(s.last[0]) for s in steps] == [False, False, True, False]
    assert not any(s.terminated[0] for s in steps)
    assert steps[2].frame[0, 0] == 3, "the final observation, not the first of the next episode"


def test_cartpole_matches_gymnasium_and_slots_differ():
    config = EnvConfig(kind="gym", id="CartPole-v1")
    env = GymEnv(config, 3, threads=1, seed=4)
    frame = env.reset()
    assert len({tuple(row) for row in frame.tolist()}) == 3
    alone = gymnasium.make("CartPole-v1")
    observation, _ = alone.reset(seed=int(env._seeds[1]))
    assert (observation == frame[1]).all()
    dummy = False
    for action in np.random.default_rng(0).integers(2, size=(60, 3)):
        step = env.step(action)
        if dummy:
            (observation, _), reward, ended, cut = alone.reset(), 0.0, False, False
        else:
            observation, reward, ended, cut, _ = alone.step(int(action[1]))
        assert (observation == step.frame[1]).all() and step.reward[1] == reward
        assert (step.terminated[1], step.last[1]) == (ended, ended or cut)
        dummy = ended or cut
    env.close()
    env.close()


def test_the_module_form_of_an_id_and_a_real_image():
    env = GymEnv(EnvConfig(kind="gym", id="ale_py:ALE/Pong-v5", frame_size=42, grayscale=True), 1, 1, seed=0)
    frame = env.reset()
    assert frame.shape == (1, 42, 42) and env.spec.stack == 4 and frame.max() > 80


def test_rendered_slot_is_the_single_slot_with_its_own_picture():
    kwargs = {"observation_space": Box(-9, 9, (2,), np.float32)}
    env = RenderedGymEnv(EnvConfig(kind="gym", id="distdqn-test/Counter-v0", kwargs=kwargs), seed=0)
    env.reset()
    env.step(np.array([0]))
    assert env.render().shape == (6, 8, 3) and (env.render() == 1).all()


def test_an_environment_that_cannot_draw_shows_its_observation(monkeypatch):
    monkeypatch.setattr("distdqn.envs.gym._draws_itself", lambda config: False)
    config = EnvConfig(kind="gym", id="CartPole-v1")
    env, plain = RenderedGymEnv(config, seed=2), GymEnv(config, 1, 1, seed=2)
    assert (env.reset() == plain.reset()).all()
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    for _ in range(5):
        env.step(np.array([0]))
    assert (env.render() != picture).any()


def test_bars():
    # middle = 5 // 2 = 2; 0 -> one row; +9 -> round(2 * 0.9) = 2 up; -1 -> 2 * 0.5 = 1 down.
    on = bars(np.array([0.0, 9.0, -1.0], np.float32), height=5)[:, :, 0] == 255
    assert on.T.astype(int).tolist() == [[0, 0, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 1, 1, 0]]
