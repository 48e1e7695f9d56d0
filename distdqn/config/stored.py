"""A run's config on disk."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import yaml

from distdqn.config import ConfigError, RunConfig, from_mapping


def load_config(run_dir: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of the run in `run_dir`, with `overrides` on top, as `train` takes them. Raises `ConfigError`: not a
    run's folder, its config cannot be read, or an override that is none."""
    path = Path(run_dir) / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        raise ConfigError(f"{run_dir}: not a run's folder, it has no config.yaml") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: cannot be read (it holds no keys)")
    if overrides:
        from distdqn.config.overrides import change

        values = change(values, overrides)
    return replace(from_mapping(RunConfig, values), run_dir=str(Path(run_dir).absolute()))


def refuse_another_environment(run_dir: str | Path, config: RunConfig) -> None:
    """Raises `ConfigError` where `config`, with which the run in `run_dir` is to go on, plays anything else than it has
    played so far: its scores could not be compared."""
    stored = load_config(run_dir)
    for made, asked in ((stored.env, config.env), (stored.env.protocol, config.env.protocol)):
        for name in (f.name for f in fields(made)):
            if name != "protocol" and getattr(made, name) != getattr(asked, name):
                asked.wrong(name, f"this run plays {made.shown(name)}, and can only go on with that")
