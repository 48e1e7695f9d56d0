"""A run's config on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from distdqn.config import ConfigError, RunConfig, from_mapping, to_mapping


def load_config(run_dir: str | Path) -> RunConfig:
    """The config of the run in `run_dir`.

    Raises:
        ConfigError: not a run's folder, or its config cannot be read.
    """
    path = Path(run_dir) / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        raise ConfigError(f"{run_dir}: not a run's folder, it has no config.yaml") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    return replace(from_mapping(RunConfig, values or {}), run_dir=str(Path(run_dir).absolute()))


def to_plain(config: RunConfig) -> dict[str, Any]:
    """The config as YAML and W&B take it: dicts, lists and plain values."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    values: dict[str, Any] = plain(to_mapping(config))
    return values
