"""From `env.kind` to an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from distdqn.config import EnvConfig, Import
from distdqn.config.section import build
from distdqn.envs.partial import PartialEnv, RenderedPartialEnv, is_partial, partial_spec
from distdqn.envs.wrappers import RenderedEnv, VectorEnv
from distdqn.types import EnvSpec


class _Kind(NamedTuple):
    """How a kind is made, made with `render`, and described."""

    make: Callable[[EnvConfig, int, int, int], VectorEnv]
    make_rendered: Callable[[EnvConfig, int], RenderedEnv]
    spec: Callable[[EnvConfig], EnvSpec]


def _array_kind(make: Callable[[EnvConfig, int, int, int], RenderedEnv], spec: Callable[[EnvConfig], EnvSpec]) -> _Kind:
    """A kind whose every slot can be rendered."""
    return _Kind(make, lambda config, seed: make(config, 1, 1, seed), spec)


def _own_kind() -> _Kind:
    """A class of one's own: made as `MyEnv(config, num_slots, threads, seed, **env.kwargs)`, with `render`."""

    def make(config: EnvConfig, num_slots: int, threads: int, seed: int) -> RenderedEnv:
        env: RenderedEnv = build(config, {}, num_slots, threads, seed)
        return env

    def spec(config: EnvConfig) -> EnvSpec:
        env = make(config, 1, 1, 0)
        env.close()
        return env.spec

    return _array_kind(make, spec)


def _kind(name: str) -> _Kind:
    """Each kind is imported where it is chosen: a gridworld needs neither Gymnasium nor the emulator."""
    if isinstance(name, Import):
        return _own_kind()
    if name == "atari":
        from distdqn.envs.atari import AtariEnv, RenderedAtariEnv, atari_spec

        return _Kind(AtariEnv, RenderedAtariEnv, atari_spec)
    if name == "gym":
        from distdqn.envs.gym import GymEnv, RenderedGymEnv, gym_spec

        return _Kind(GymEnv, RenderedGymEnv, gym_spec)
    if name == "gridworld":
        from distdqn.envs.gridworld import GridworldEnv, gridworld_spec

        return _array_kind(GridworldEnv, gridworld_spec)
    if name == "recall":
        from distdqn.envs.recall import RecallEnv, recall_spec

        return _array_kind(RecallEnv, recall_spec)
    if name == "chain":
        from distdqn.envs.chain import ChainEnv, chain_spec

        return _array_kind(ChainEnv, chain_spec)
    from distdqn.envs.catch import CatchEnv, catch_spec

    return _array_kind(CatchEnv, catch_spec)


def make_env(config: EnvConfig, num_slots: int, threads: int, seed: int) -> VectorEnv:
    """`num_slots` slots of the environment of `config`; keys that belong to other kinds are ignored.

    `threads` is the number of emulator threads (Atari). `env.flicker` and `env.hide` apply to every kind.
    Raises `ConfigError` where `check_env` would.
    """
    env = _kind(config.kind).make(config, num_slots, threads, seed)
    return PartialEnv(env, config, seed) if is_partial(config) else env


def make_rendered_env(config: EnvConfig, seed: int) -> RenderedEnv:
    """The slot that `make_env(config, 1, 1, seed)` gives, frame for frame, with `render` of everything."""
    env = _kind(config.kind).make_rendered(config, seed)
    return RenderedPartialEnv(env, config, seed) if is_partial(config) else env


def check_env(config: EnvConfig) -> EnvSpec:
    """The spec of the environment of `config` as the agent will see it, before anything heavy starts.

    Raises `ConfigError`, one line that names the key: an unknown game (`env.game`) or id (`env.id`), with
    near names; arguments that the environment refuses (`env.kwargs`); actions or observations of an
    unsupported kind; components that cannot be hidden (`env.hide`).
    """
    return partial_spec(config, _kind(config.kind).spec(config))
