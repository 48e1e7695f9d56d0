"""Any Gymnasium environment with a discrete action space (Towers et al. 2024)."""

import difflib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from distdqn.config import ConfigError, EnvConfig
from distdqn.config.section import one_line
from distdqn.envs.wrappers import check_actions, enlarge, picture, resize, slot_seeds, to_grey
from distdqn.types import EnvSpec, EnvStep

Encode = Callable[[Any], Any]


def make_one(config: EnvConfig, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make` of `env.id` with `env.kwargs` and `kwargs`; failures are one-line `ConfigError`s."""
    try:
        return gymnasium.make(config.id, **{"disable_env_checker": True, **config.kwargs, **kwargs})
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(config.id, list(gymnasium.registry), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else one_line(error)
        raise ConfigError(f"env.id={config.id}: no such Gymnasium environment, {hint}") from error
    except Exception as error:
        if isinstance(error, TypeError) and config.kwargs:
            raise ConfigError(f"env.kwargs={config.kwargs}: refused by {config.id}: {one_line(error)}") from error
        raise ConfigError(f"env.id={config.id}: cannot be made: {one_line(error)}") from error


def _observation(config: EnvConfig, space: gymnasium.Space[Any]) -> tuple[tuple[int, ...], str, Encode]:
    """Shape and dtype of a frame, and the function that makes one of an observation."""
    if isinstance(space, Discrete):
        one_hot, start = np.eye(int(space.n), dtype=np.float32), int(space.start)
        return (int(space.n),), "float32", lambda x: one_hot[int(x) - start]
    if not isinstance(space, Box):
        raise ConfigError(f"env.id={config.id}: needs Box or Discrete observations, it has {one_line(space)}")
    if _is_image(space):
        return _image(config, space)
    size = int(np.prod(space.shape))
    return (size,), "float32", lambda x: np.asarray(x).reshape(size)


def _is_image(space: Box) -> bool:
    """uint8 or bool of shape (H, W), or (H, W, C) with no more channels than rows or columns."""
    shape = space.shape
    return space.dtype in (np.uint8, np.bool_) and (len(shape) == 2 or (len(shape) == 3 and shape[2] <= min(shape)))


def _image(config: EnvConfig, space: Box) -> tuple[tuple[int, ...], str, Encode]:
    """As `_observation`: the channels stay, but for a single one and those of colours with `env.grayscale`."""
    height, width, *channels = space.shape
    grey = channels in ([], [1]) or config.grayscale
    if config.grayscale and (space.dtype == np.bool_ or channels not in ([], [1], [3], [4])):
        config.refuse("grayscale", f"false, {config.id} shows no colours: its images are {one_line(space)}")
    if config.frame_size and (height, width) != (config.frame_size, config.frame_size):
        if space.dtype == np.bool_:
            config.refuse("frame_size", f"null, the images of {config.id} are bool and cannot be resized")
        height = width = config.frame_size

    def encode(x: Any) -> np.ndarray:
        image = np.asarray(x)
        return resize(to_grey(image) if grey else image, height, width)

    return (height, width) if grey else (height, width, *channels), np.dtype(space.dtype).name, encode


def _described(config: EnvConfig, env: gymnasium.Env[Any, Any]) -> tuple[EnvSpec, int, Encode]:
    """The spec, the first action, and the function that makes a frame of an observation."""
    actions = env.action_space
    if not isinstance(actions, Discrete):
        raise ConfigError(f"env.id={config.id}: needs a discrete action space, it has {one_line(actions)}")
    shape, dtype, encode = _observation(config, env.observation_space)
    stack = config.stack if len(shape) > 1 else 1
    return EnvSpec(f"gym/{config.id}", shape, dtype, stack, int(actions.n)), int(actions.start), encode


class GymEnv:
    """N Gymnasium environments stepped in a loop (faster than `SyncVectorEnv`, which copies and checks more).

    Observations become frames: a Box vector float32 as it is, a Box of higher rank flattened, a Discrete one-hot, a
    uint8 image resized to a square of `frame_size` (null keeps its size) and grey with `grayscale`, a bool image as it
    is. Only images are stacked. Action 0 is the first of the action space. A time limit is `last` without `terminated`.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int, **kwargs: Any) -> None:
        self.num_slots = num_slots
        self._envs = [make_one(config, **kwargs) for _ in range(num_slots)]
        self.spec, self._first_action, self._encode = _described(config, self._envs[0])
        self._seeds = slot_seeds(seed, num_slots)

    def _new_frames(self) -> np.ndarray:
        self._newest = np.empty((self.num_slots, *self.spec.frame_shape), self.spec.frame_dtype)
        return self._newest

    def reset(self) -> np.ndarray:
        frame = self._new_frames()
        for i, env in enumerate(self._envs):
            observation, _ = env.reset(seed=int(self._seeds[i]))
            frame[i] = self._encode(observation)
        self._last = np.zeros(self.num_slots, bool)
        return frame

    def step(self, action: np.ndarray) -> EnvStep:
        actions = (check_actions(action, self.num_slots, self.spec.num_actions) + self._first_action).tolist()
        frame, reward = self._new_frames(), np.zeros(self.num_slots, np.float32)
        terminated, last = np.zeros(self.num_slots, bool), np.zeros(self.num_slots, bool)
        for i, (env, dummy) in enumerate(zip(self._envs, self._last.tolist(), strict=True)):
            if dummy:
                observation, _ = env.reset()
            else:
                observation, reward[i], ended, truncated, _ = env.step(actions[i])
                terminated[i], last[i] = ended, ended or truncated
            frame[i] = self._encode(observation)
        self._last = last
        return EnvStep(frame, reward, terminated, last.copy())

    def close(self) -> None:
        for env in self._envs:
            env.close()
        self._envs = []


class RenderedGymEnv(GymEnv):
    """`GymEnv` of one slot with `render`: the environment's own picture or, where it has none (classic
    control needs pygame for that), its observation drawn."""

    def __init__(self, config: EnvConfig, num_slots: int = 1, threads: int = 1, seed: int = 0) -> None:
        self._draws_itself = _draws_itself(config)
        mode = {"render_mode": "rgb_array"} if self._draws_itself else {}
        super().__init__(config, num_slots, threads, seed, **mode)

    def render(self) -> np.ndarray:
        """uint8 `[H, W, 3]`."""
        if self._draws_itself:
            return np.asarray(self._envs[0].render(), np.uint8)
        frame = self._newest[0]
        return enlarge(picture(frame) if self.spec.pixels else bars(frame))


def _draws_itself(config: EnvConfig) -> bool:
    """True where `render_mode="rgb_array"` gives a picture, on this machine."""
    try:
        env = make_one(config, render_mode="rgb_array")
    except ConfigError:
        return False
    try:
        env.reset()
        picture = env.render()
        return isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3
    except Exception:
        return False
    finally:
        env.close()


def bars(vector: np.ndarray, height: int = 41) -> np.ndarray:
    """float32 `[D]` as uint8 `[height, D, 3]`: for each x, a bar from the middle as long as x / (1 + |x|)."""
    middle = height // 2
    end = middle - np.rint(middle * vector / (1 + np.abs(vector)))
    row = np.arange(height)[:, None]
    on = (row >= np.minimum(end, middle)) & (row <= np.maximum(end, middle))
    return np.where(on[:, :, None], np.uint8(255), np.uint8(40)).repeat(3, axis=2)
