"""From `env.kind` to an environment."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from distdqn.config import EnvConfig, Import
from distdqn.config.section import build
from distdqn.envs.partial import PartialEnv, is_partial, partial_spec
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
    module = import_module(f"distdqn.envs.{name}")
    title = name.title()
    make, spec = getattr(module, f"{title}Env"), getattr(module, f"{name}_spec")
    if name in ("atari", "gym"):
        return _Kind(make, getattr(module, f"Rendered{title}Env"), spec)
    return _array_kind(make, spec)


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
    return PartialEnv(env, config, seed) if is_partial(config) else env


def check_env(config: EnvConfig) -> EnvSpec:
    """The spec of the environment of `config` as the agent will see it, before anything heavy starts. Raises
    `ConfigError`, one line that names the key: an unknown game (`env.game`) or id (`env.id`), with near names;
    arguments that the environment refuses (`env.kwargs`); actions or observations of an unsupported kind; components
    that cannot be hidden (`env.hide`)."""
    return partial_spec(config, _kind(config.kind).spec(config))
