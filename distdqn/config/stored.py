"""A run's config on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from distdqn.config import ConfigError, RunConfig, from_mapping


def load_config(run_dir: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of the run in `run_dir`, with `overrides` (`key=value`, values as in YAML) on top.

    Raises:
        ConfigError: not a run's folder, its config cannot be read, or an override that is none.
    """
    path = Path(run_dir) / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        raise ConfigError(f"{run_dir}: not a run's folder, it has no config.yaml") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    values = values or {}
    for text in overrides:
        key, equals, value = text.partition("=")
        *groups, name = key.split(".")
        level = values
        for part in groups:
            level = level.get(part) if isinstance(level, dict) else None
        if not equals or not isinstance(level, dict) or name not in level:
            raise ConfigError(f"{text}: not a key of this run, write key=value as in its config.yaml")
        # as on the command line of `train`, on and off are words and not truth values
        level[name] = value if value in ("on", "off", "yes", "no") else yaml.safe_load(value)
    return replace(from_mapping(RunConfig, values), run_dir=str(Path(run_dir).absolute()))
