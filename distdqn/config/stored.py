"""A run's config on disk."""

from collections.abc import Sequence
from dataclasses import replace
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
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: cannot be read (it holds no keys)")
    if overrides:
        from distdqn.config.overrides import change

        values = change(values, overrides)
    return replace(from_mapping(RunConfig, values), run_dir=str(Path(run_dir).absolute()))
