"""What every group of settings can do: check its fields by their types and ranges, and say in one line what is wrong.

Nothing here imports more than the standard library, so that a bad key costs no time to find.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar


class ConfigError(ValueError):
    """A setting that cannot be; the message is one line that names the key and what it may be."""


def number(default: Any, low: float | None = None, high: float | None = None, above: float | None = None) -> Any:
    """A field that holds a number in [low, high], or above `above`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


def choice(default: Any, *allowed: Any) -> Any:
    """A field that holds one of `allowed`."""
    return field(default=default, metadata={"allowed": allowed})


def _describe(kind: Any, meta: Mapping[str, Any]) -> str:
    if allowed := meta.get("allowed"):
        return "one of " + ", ".join("null" if a is None else str(a) for a in allowed)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    optional = type(None) in typing.get_args(kind)
    base = next((a for a in typing.get_args(kind) if a is not type(None)), kind) if optional else kind
    text = names.get(base, "a list of whole numbers" if typing.get_origin(base) is tuple else "a mapping")
    low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
    if low is not None and high is not None:
        text += f" from {low} to {high}"
    elif low is not None:
        text += f" of at least {low}"
    elif high is not None:
        text += f" of at most {high}"
    elif above is not None:
        text += f" above {above}"
    return text + (" or null" if optional else "")


def _fits(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    if origin is dict:
        return isinstance(value, Mapping)
    return isinstance(value, kind)


@dataclass(frozen=True)
class Section:
    """Checks each field's type and range by its annotation and metadata; `key` is the section's name."""

    key: ClassVar[str] = ""

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for f in fields(self):
            value, kind, meta = getattr(self, f.name), kinds[f.name], f.metadata
            ok = _fits(value, kind)
            if ok and value is not None and isinstance(value, (int, float)) and not isinstance(value, bool):
                low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
                ok = math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
                ok = ok and (above is None or value > above)
            if not ok or ("allowed" in meta and value not in meta["allowed"]):
                self.refuse(f.name, _describe(kind, meta))
            if typing.get_origin(kind) is tuple:
                object.__setattr__(self, f.name, tuple(value))
        self.check()

    def check(self) -> None:
        """Checks that cross fields; overridden where there are any."""

    def refuse(self, name: str, allowed: str) -> typing.NoReturn:
        """Raises the one-line error for field `name`."""
        shown = getattr(self, name)
        shown = "null" if shown is None else shown
        raise ConfigError(f"{self.key}.{name}={shown}: must be {allowed}".lstrip("."))


C = TypeVar("C", bound=Section)


def from_mapping(cls: type[C], values: Mapping[str, Any], key: str = "") -> C:
    """Builds `cls` from nested plain values; an unknown key raises `ConfigError` with the allowed names."""
    kinds = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    built: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{key}.{name}".lstrip(".")
        if name not in known:
            raise ConfigError(f"{path}: unknown key, allowed here: {', '.join(sorted(known))}")
        kind = kinds[name]
        if isinstance(kind, type) and issubclass(kind, Section):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}={value}: must be a group of keys: {', '.join(f.name for f in fields(kind))}")
            value = from_mapping(kind, value, path)
        built[name] = value
    missing = [n for n, f in known.items() if n not in built and f.default is f.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{key}: missing {', '.join(missing)}")
    return cls(**built)


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested plain values of a config, as `from_mapping` takes them."""
    values: dict[str, Any] = dataclasses.asdict(config)
    return values
