"""KEY=VALUE as every door reads it: in Hydra's grammar of overrides, so that a value means the same everywhere."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distdqn.config import ConfigError

_SHORT = {"engine": "engine.kind", "track": "track.mode"}
"""Groups whose files choose one key each."""


def parse(text: str, sweep: bool = False) -> Override:
    """The override that `text` is; more than one value, as in seed=1,2, only with `sweep`. Raises `ConfigError`."""
    override: Override | None = None
    with suppress(HydraException):
        override = OverridesParser.create().parse_override(text)
    if override is None or not override.key_or_group:
        raise ConfigError(f"{text}: not an override, write KEY=VALUE, and a value with = or brackets in quotes")
    if override.is_sweep_override() and not sweep:
        raise ConfigError(f"{text}: one value only; a list is written KEY=[1,2], several runs are train -m KEY=1,2")
    return override


def change(values: Mapping[str, Any], texts: Sequence[str]) -> DictConfig:
    """Nested plain `values` with the overrides `texts`; a key that is not there is added, ~key is taken out. Raises
    `ConfigError`: one line that shows the override."""
    changed = OmegaConf.create(dict(values))
    for text in texts:
        override = parse(text)
        key = override.key_or_group
        if key in _SHORT and not override.is_delete() and isinstance(override.value(), str):
            key = _SHORT[key]
        *groups, name = key.split(".")
        try:
            if override.is_delete():
                group = OmegaConf.select(changed, ".".join(groups)) if groups else changed
                if not isinstance(group, DictConfig) or name not in group:
                    raise ConfigError(f"{text}: there is no such key")
                del group[name]
            else:
                OmegaConf.update(changed, key, override.value(), merge=True, force_add=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{text}: {first_line(error)}") from None
    return changed


def first_line(error: Exception) -> str:
    """What `error` says, without the lines of advice that follow."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
