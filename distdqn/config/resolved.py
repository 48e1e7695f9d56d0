"""What `${...}` stands for, and which of it came out of the environment."""

import os
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from distdqn.config.overrides import first_line
from distdqn.config.section import ConfigError

_SHORTEST = 4
"""Characters of a secret; what is shorter may be part of anything."""
_found: dict[str, str] = {}
"""What came out of the environment, and what was typed for it."""


def resolve(values: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """`values` as plain values, and what was typed of those that came out of the environment by `${oc.env:NAME}`, in
    whatever way; nested in the same way. Raises `ConfigError`: one line that names the key and the variable."""
    asked: list[str] = []

    def env(name: str, *default: Any) -> str | None:
        asked.append(name)
        value = oc.env(name, *default)
        if name in os.environ and isinstance(value, str) and len(value) >= _SHORTEST:  # else it was typed
            _found[value] = f"${{oc.env:{name}}}"
        return value

    def typed_in(node: DictConfig, raw: dict[Any, Any]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for name, text in raw.items():
            if isinstance(text, dict):
                found |= {name: below} if (below := typed_in(node[name], text)) else {}
            elif "${" in str(text):
                asked.clear()
                value = node[name]
                if OmegaConf.is_config(value):
                    OmegaConf.to_container(value, resolve=True)
                # what is known only while a config is composed is written as what it came to
                composed = re.search(r"\$\{(?!oc\.)\w+:", str(text)) and isinstance(value, (int, float))
                found |= {name: text} if asked and not composed else {}
        return found

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        plain: Any = OmegaConf.to_container(values, resolve=True, throw_on_missing=True)
        return plain, typed_in(values, OmegaConf.to_container(values))  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise as_config_error(error) from None
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def as_typed_text(text: str) -> str:
    """`text`, such as an error's line, with what came out of the environment as it was typed: it may be a secret."""
    for value in sorted(_found, key=len, reverse=True):
        text = text.replace(value, _found[value])
    return text


def as_config_error(error: Exception) -> ConfigError:
    """What OmegaConf or Hydra says, with the key."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    return ConfigError(f"{key}: {first_line(cause)}" if key else first_line(cause))
