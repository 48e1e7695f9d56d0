"""From `env.kind` to an environment."""

from __future__ import annotations

from distdqn.config import EnvConfig
from distdqn.envs.wrappers import RenderedEnv, VectorEnv
from distdqn.types import EnvSpec

# Each kind is imported where it is chosen: a gridworld needs neither Gymnasium nor the emulator.


def make_env(config: EnvConfig, num_slots: int, threads: int, seed: int) -> VectorEnv:
    """`num_slots` slots of the environment of `config`; keys that belong to other kinds are ignored.

    `threads` is the number of emulator threads (Atari). Raises `ConfigError` where `check_env` would.
    """
    if config.kind == "atari":
        from distdqn.envs.atari import AtariEnv

        return AtariEnv(config, num_slots, threads, seed)
    if config.kind == "gym":
        from distdqn.envs.gym import GymEnv

        return GymEnv(config, num_slots, threads, seed)
    if config.kind == "gridworld":
        from distdqn.envs.gridworld import GridworldEnv

        return GridworldEnv(config, num_slots, threads, seed)
    from distdqn.envs.catch import CatchEnv

    return CatchEnv(config, num_slots, threads, seed)


def make_rendered_env(config: EnvConfig, seed: int) -> RenderedEnv:
    """The slot that `make_env(config, 1, 1, seed)` gives, frame for frame, with `render`."""
    if config.kind == "atari":
        from distdqn.envs.atari import RenderedAtariEnv

        return RenderedAtariEnv(config, seed)
    if config.kind == "gym":
        from distdqn.envs.gym import RenderedGymEnv

        return RenderedGymEnv(config, seed)
    if config.kind == "gridworld":
        from distdqn.envs.gridworld import GridworldEnv

        return GridworldEnv(config, 1, 1, seed)
    from distdqn.envs.catch import CatchEnv

    return CatchEnv(config, 1, 1, seed)


def check_env(config: EnvConfig) -> EnvSpec:
    """The spec of the environment of `config`, before anything heavy starts.

    Raises `ConfigError`, one line that names the key: an unknown game (`env.game`) or id (`env.id`), with
    near names; arguments that the environment refuses (`env.kwargs`); actions or observations of an
    unsupported kind.
    """
    if config.kind == "atari":
        from distdqn.envs.atari import atari_spec

        return atari_spec(config)
    if config.kind == "gym":
        from distdqn.envs.gym import gym_spec

        return gym_spec(config)
    if config.kind == "gridworld":
        from distdqn.envs.gridworld import gridworld_spec

        return gridworld_spec(config)
    from distdqn.envs.catch import catch_spec

    return catch_spec(config)
