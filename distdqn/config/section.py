"""What every group of settings can do: check its fields by their types and ranges, and say in one line what is wrong.

Nothing here imports more than the standard library, so that a bad key costs no time to find.
"""

import dataclasses
import importlib
import math
import operator
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from distdqn.config.renamed import RENAMED


class ConfigError(ValueError):
    """A setting that cannot be; the message is one line that names the key and what it may be."""


def one_line(thing: object) -> str:
    """A text, or what an error says, without line breaks."""
    return " ".join(str(thing).split()) or type(thing).__name__


class Import(str):
    """The name of somebody else's class, `package.module:Class`, where a built-in name can stand as well."""

    PATTERN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

    def load(self, key: str) -> Any:
        """The class, for the setting `key`.

        Raises `ConfigError`: it cannot be imported; the line names the key.
        """
        module, _, name = self.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:
            raise ConfigError(f"{key}={self}: cannot be imported ({one_line(error)})") from error


def number(default: Any, low: float | None = None, high: float | None = None, above: float | None = None) -> Any:
    """A field that holds a number in [low, high], or above `above`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


NO_KEY = {"no_key": True}
"""The metadata of a field that nobody sets by a key, and that is not written."""


def keys_of(cls: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a section that are keys."""
    return [f for f in fields(cls) if "no_key" not in f.metadata]


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_NAMES |= {dict: "a mapping", type(None): "null", Import: "package.module:Class"}
_LISTS = {int: "a list of whole numbers", str: "a list of texts", dict: "a list of mappings"}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types that a union is made of, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def describe(kind: Any, meta: Mapping[str, Any]) -> str:
    """What a field of the type `kind` may be, in words."""
    texts = []
    for base in _alternatives(kind):
        if typing.get_origin(base) is typing.Literal:
            texts.append("one of " + ", ".join(map(str, typing.get_args(base))))
        elif typing.get_origin(base) is tuple:
            element = typing.get_args(base)[0]
            texts.append(_LISTS[typing.get_origin(element) or element])
        else:
            texts.append(_NAMES[typing.get_origin(base) or base])
    low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
    if low is not None and high is not None:
        texts[0] += f" from {low} to {high}"
    elif low is not None:
        texts[0] += f" of at least {low}"
    elif high is not None:
        texts[0] += f" of at most {high}"
    elif above is not None:
        texts[0] += f" above {above}"
    return " or ".join(texts)


def _fits(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind) and not isinstance(value, bool)
    if kind is Import:
        return isinstance(value, str) and bool(Import.PATTERN.fullmatch(value))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    if origin is dict:
        return isinstance(value, Mapping)
    return isinstance(value, kind)


def kinds_of(cls: Any) -> dict[str, Any]:
    """The types of a section's fields, by name."""
    return typing.get_type_hints(cls)


@dataclass(frozen=True)
class Section:
    """Checks each field's type and range by its annotation and metadata; `key` is the section's name."""

    key: ClassVar[str] = ""

    def __post_init__(self) -> None:
        kinds = kinds_of(type(self))
        for f in fields(self):
            value, kind, meta = getattr(self, f.name), kinds[f.name], f.metadata
            fitting = [k for k in _alternatives(kind) if _fits(value, k)]
            ok = bool(fitting)
            if ok and isinstance(value, (int, float)) and not isinstance(value, bool):
                low, high, above = meta.get("low"), meta.get("high"), meta.get("above")
                ok = math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
                ok = ok and (above is None or value > above)
            if not ok:
                self.refuse(f.name, describe(kind, meta))
            if isinstance(value, list):
                object.__setattr__(self, f.name, tuple(value))
            elif fitting == [Import]:
                object.__setattr__(self, f.name, Import(value))
        kind = getattr(self, "kind", None)
        if getattr(self, "kwargs", None) and kind != "gym" and not isinstance(kind, Import):
            self.wrong("kwargs", f"is for a class of one's own, but {self.key}.kind={kind}")
        self.check()

    def check(self) -> None:
        """Checks that cross fields; overridden where there are any."""

    def shown(self, name: str) -> str:
        """KEY=VALUE of the field `name`, which may lie in a section below, as `head.kind`."""
        value = operator.attrgetter(name)(self)
        return f"{self.key}.{name}={'null' if value is None else value}".lstrip(".")

    def wrong(self, name: str, why: str) -> typing.NoReturn:
        """Raises the one-line error that shows the field `name` and says `why`."""
        raise ConfigError(f"{self.shown(name)}: {why}")

    def refuse(self, name: str, allowed: str) -> typing.NoReturn:
        """The same, saying what the field may be."""
        self.wrong(name, f"must be {allowed}")


def build(config: Any, known: Mapping[str, Any], *args: Any) -> Any:
    """What `config.kind` names, made with `config` and `args`: a class among `known`, or somebody else's, which gets
    `config.kwargs` as well.

    Raises `ConfigError`: somebody else's class cannot be imported or made; the line names the key.
    """
    if not isinstance(config.kind, Import):
        return known[config.kind](config, *args)
    key = f"{config.key}.kind"
    made = config.kind.load(key)
    try:
        return made(config, *args, **config.kwargs)
    except ConfigError:
        raise
    except Exception as error:
        why = f"cannot be made ({type(error).__name__}: {one_line(error)})"
        if isinstance(error, TypeError) and any(f"'{name}'" in str(error) for name in config.kwargs):
            raise ConfigError(f"{config.shown('kwargs')}: {config.kind} {why}") from error
        raise ConfigError(f"{key}={config.kind}: {why}") from error


C = TypeVar("C", bound=Section)


def from_mapping(cls: type[C], values: Mapping[str, Any], key: str = "") -> C:
    """Builds `cls` from nested plain values; an unknown key raises `ConfigError` with the allowed names."""
    kinds, known = kinds_of(cls), {f.name: f for f in keys_of(cls)}
    built: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{key}.{name}".lstrip(".")
        kind: Any = kinds.get(name)
        nested = isinstance(kind, type) and issubclass(kind, Section)
        if path in RENAMED and not (nested and isinstance(value, Mapping)):
            raise ConfigError(f"{path}: is now {RENAMED[path]}")
        if name not in known:
            raise ConfigError(f"{path}: unknown key, allowed here: {', '.join(sorted(known))}")
        if nested:
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{path}={value}: must be a group of keys: {', '.join(f.name for f in keys_of(kind))}"
                )
            value = from_mapping(kind, value, path)
        built[name] = value
    missing = [n for n, f in known.items() if n not in built and f.default is f.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{key}: missing {', '.join(missing)}")
    return cls(**built)


def to_mapping(config: Any) -> dict[str, Any]:
    """The nested plain values of a config, as `from_mapping`, YAML and W&B take them: dicts, lists and plain values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Import) else value

    values: dict[str, Any] = plain(dataclasses.asdict(config))
    return {f.name: values[f.name] for f in keys_of(config)}
