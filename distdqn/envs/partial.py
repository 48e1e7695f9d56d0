"""Environments that show less than they know: frames that flicker, components that are hidden."""

from dataclasses import replace
from typing import cast

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs.wrappers import RenderedEnv, VectorEnv
from distdqn.types import EnvSpec, EnvStep

_STREAM = 0xF11C
"""Keeps the flicker's random numbers apart from everything else that is drawn with the same seed."""


def is_partial(config: EnvConfig) -> bool:
    """Whether anything is withheld from the agent."""
    return config.flicker > 0 or bool(config.hide)


def partial_spec(config: EnvConfig, spec: EnvSpec) -> EnvSpec:
    """`spec` as the agent sees it: without the components in `env.hide`. Raises `ConfigError`, naming `env.hide`, where
    the frames are images, where a component does not exist, and where none is left."""
    if not config.hide:
        return spec
    if spec.pixels:
        config.refuse("hide", f"empty, {spec.name} shows images")
    size = spec.frame_shape[0]
    if any(not 0 <= i < size for i in config.hide):
        config.refuse("hide", f"components from 0 to {size - 1}, of which {spec.name} has {size}")
    left = size - len(set(config.hide))
    if not left:
        config.refuse("hide", f"fewer than all {size} components of {spec.name}")
    return replace(spec, frame_shape=(left,))


class PartialEnv:
    """A `VectorEnv` whose frames lose the components in `env.hide` and flicker. Each frame of each slot, also the first
    one of an episode, is blank (all zero) with probability `env.flicker`, independently of all others, as in the
    flickering Pong of Hausknecht and Stone 2015. Rewards and ends are untouched."""

    def __init__(self, env: VectorEnv, config: EnvConfig, seed: int) -> None:
        self.spec = partial_spec(config, env.spec)
        self.num_slots, self._env, self._flicker = env.num_slots, env, config.flicker
        self._seen = np.setdiff1d(np.arange(env.spec.frame_shape[0]), config.hide) if config.hide else None
        self._rng = np.random.default_rng([seed, _STREAM])

    def _show(self, frame: np.ndarray) -> np.ndarray:
        """What the agent sees of the frames `[N, ...]`, in new memory."""
        frame = frame.copy() if self._seen is None else frame[:, self._seen]
        frame[self._rng.random(self.num_slots) < self._flicker] = 0
        return frame

    def reset(self) -> np.ndarray:
        return self._show(self._env.reset())

    def step(self, action: np.ndarray) -> EnvStep:
        step = self._env.step(action)
        return replace(step, frame=self._show(step.frame))

    def close(self) -> None:
        self._env.close()

    def render(self) -> np.ndarray:
        """Everything, where the environment is one to look at."""
        return cast(RenderedEnv, self._env).render()
