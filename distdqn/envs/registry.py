"""From `env.kind` to an environment."""

from collections.abc import Callable
from importlib import import_module

from distdqn.config import EnvConfig, Import
from distdqn.config.section import build
from distdqn.envs.partial import PartialEnv, is_partial, partial_spec
from distdqn.envs.wrappers import RenderedEnv, VectorEnv
from distdqn.types import EnvSpec


def _maker(kind: str, rendered: bool = False) -> Callable[[EnvConfig, int, int, int], RenderedEnv]:
    """What makes environments of a kind, of one's own as `MyEnv(config, num_slots, threads, seed, **env.kwargs)`. It is
    imported where it is chosen: a gridworld needs neither Gymnasium nor the emulator. Two render by another class."""
    if isinstance(kind, Import):
        return lambda config, *slots: build(config, {}, *slots)
    which = "Rendered" if rendered and kind in ("atari", "gym") else ""
    return getattr(import_module(f"distdqn.envs.{kind}"), f"{which}{kind.title()}Env")


def make_env(config: EnvConfig, num_slots: int, threads: int, seed: int) -> VectorEnv:
    """`num_slots` slots of the environment of `config`; keys that belong to other kinds are ignored. `threads` is the
    number of emulator threads (Atari). `env.flicker` and `env.hide` apply to every kind. Raises `ConfigError` where
    `check_env` would."""
    env = _maker(config.kind)(config, num_slots, threads, seed)
    return PartialEnv(env, config, seed) if is_partial(config) else env


def make_rendered_env(config: EnvConfig, seed: int) -> RenderedEnv:
    """The slot that `make_env(config, 1, 1, seed)` gives, frame for frame, with `render` of everything."""
    env = _maker(config.kind, rendered=True)(config, 1, 1, seed)
    return PartialEnv(env, config, seed) if is_partial(config) else env


def check_env(config: EnvConfig) -> EnvSpec:
    """The spec of the environment of `config` as the agent will see it, before anything heavy starts. Raises
    `ConfigError`, one line that names the key: an unknown game (`env.game`) or id (`env.id`), with near names;
    arguments that the environment refuses (`env.kwargs`); actions or observations of an unsupported kind; components
    that cannot be hidden (`env.hide`)."""
    if config.kind == "atari":
        from distdqn.envs.atari import atari_spec  # without the threads that its environment has

        return partial_spec(config, atari_spec(config))
    env = _maker(config.kind)(config, 1, 1, 0)
    env.close()
    return partial_spec(config, env.spec)
