"""A run's config on disk, where a value that came out of the environment stands as it was typed."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from distdqn.config import ConfigError, RunConfig, Section, from_mapping, to_mapping
from distdqn.config.section import kinds_of
from distdqn.machine import in_ray_job, inspect

S = TypeVar("S", bound=Section)


def as_typed(config: RunConfig) -> dict[str, Any]:
    """The config as it may be written and shown: `to_mapping`, and what was typed in the place of what the environment
    gave for it, which may be a secret."""

    def lay(typed: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        return values | {k: lay(v, values[k]) if isinstance(v, dict) else v for k, v in typed.items() if k in values}

    def escaped(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: escaped(v) for k, v in value.items()}
        if isinstance(value, list):
            return [escaped(v) for v in value]
        return value.replace("${", r"\${") if isinstance(value, str) else value

    return lay(config.typed, escaped(to_mapping(config)))


def as_shown(section: S, typed: dict[str, Any]) -> S:
    """`section` with its texts as they were typed, for whatever only shows them."""
    kinds, changes = kinds_of(type(section)), dict[str, Any]()
    for name, text in typed.items():
        if isinstance(below := getattr(section, name), Section):
            changes |= {name: as_shown(below, text)} if isinstance(text, dict) else {}
        elif kinds[name] is str:
            changes[name] = text
        elif kinds[name] == tuple[str, ...]:
            changes[name] = (text,) if isinstance(text, str) else tuple(text)
    return replace(section, **changes)


def config_yaml(config: RunConfig) -> str:
    """The text of `config.yaml`."""
    return yaml.safe_dump(as_typed(config), sort_keys=False)


def load_config(run_dir: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of the run in `run_dir`, with `overrides` on top, as `train` takes them. Raises `ConfigError`: not a
    run's folder, its config cannot be read, an override that is none, or a variable of the environment is missing."""
    path = Path(run_dir) / "config.yaml"
    try:
        values = yaml.safe_load(text := path.read_text())
    except OSError:
        raise ConfigError(f"{run_dir}: not a run's folder, it has no config.yaml") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: cannot be read (it holds no keys)")
    here = str(Path(run_dir).absolute())
    typed: dict[str, Any] = {}
    if overrides or "${" in text:
        from distdqn.config.overrides import change
        from distdqn.config.resolved import resolve

        values, typed = resolve(change(values | {"run_dir": here}, overrides))
    config = from_mapping(RunConfig, values).on(inspect().cores)
    return replace(config, run_dir=here, typed=typed)


def load_to_go_on(run_dir: str | Path, overrides: Sequence[str]) -> RunConfig:
    """`load_config`; a job of a Ray cluster joins it where nobody says anything else, as a new run does."""
    config = load_config(run_dir, overrides)
    told = any(text.startswith("engine.address=") for text in overrides)
    if config.engine.kind != "ray" or config.engine.address is not None or told or not in_ray_job():
        return config
    return load_config(run_dir, [*overrides, "engine.address=auto"])


def refuse_another_environment(run_dir: str | Path, config: RunConfig) -> None:
    """Raises `ConfigError` where `config`, with which the run in `run_dir` is to go on, plays anything else than it has
    played so far: its scores could not be compared."""
    stored = load_config(run_dir)
    for made, asked in ((stored.env, config.env), (stored.env.protocol, config.env.protocol)):
        for name in (f.name for f in fields(made)):
            if name != "protocol" and getattr(made, name) != getattr(asked, name):
                asked.wrong(name, f"this run plays {made.shown(name)}, and can only go on with that")


def refuse_another_run(run_dir: str | Path, config: RunConfig) -> None:
    """Raises `ConfigError` where the run in `run_dir` is not that of `config`: it has another seed, agent or
    environment. How it is learned and by how many may differ, since a scheduler may give it another machine."""

    def differs(key: str, made: Any, asked: Any) -> str | None:
        if isinstance(made, dict) and isinstance(asked, dict):
            below = (differs(f"{key}.{name}", made.get(name), asked.get(name)) for name in made | asked)
            return next(filter(None, below), None)
        return None if made == asked else f"{key}={made} there, {asked} here"

    made, asked = to_mapping(load_config(run_dir)), to_mapping(config)
    for key in ("seed", "env", "agent"):
        if line := differs(key, made[key], asked[key]):
            raise ConfigError(f"run_dir={run_dir}: holds another run ({line}), choose another run_dir")
